// Package gitserver receives pushes (smart HTTP; SSH later) into bare repositories, fetches from a forge into the same
// ones, and reads snapshots.
package gitserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/shipgate/shipgate/store"
)

// Options says what a Server works with.
type Options struct {
	Store  *store.Store
	Dir    string // where the repositories are
	Limits Limits
	Logger *slog.Logger // nil: slog.Default
	// Preflight refuses a push before its body is read, with a Problem that says why. May be nil.
	Preflight func(ctx context.Context, app store.App) error
	// Remote says where the app's commits come from when they are not pushed here. Nil: no app has a remote.
	Remote func(ctx context.Context, app store.App) (remote store.Remote, found bool, err error)
}

// Server receives pushes and reads what was pushed.
type Server struct {
	store     *store.Store
	dir       string
	limits    Limits
	log       *slog.Logger
	preflight func(ctx context.Context, app store.App) error
	keepAlive time.Duration
	remote    func(ctx context.Context, app store.App) (remote store.Remote, found bool, err error)
	client    *http.Client  // for forges
	stall     time.Duration // how long a forge may send nothing
	youngAge  time.Duration // of packs that are left as they came
	idle      time.Duration // how long the body of a push may stand still
	// faultPatience is how long a push waits while the database cannot be written.
	faultPatience time.Duration
	unpacking     chan struct{} // holds a token for each pack at work
	receiving     receiving

	closing context.Context // ends when Close is called
	close   context.CancelFunc
	pushes  sync.WaitGroup

	mu           sync.Mutex
	repositories map[string]*repository
}

// New makes a server and removes what an earlier process left unfinished in the repositories.
func New(options Options) (*Server, error) {
	if err := os.MkdirAll(options.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("create directory of repositories: %w", err)
	}
	s := &Server{
		store: options.Store, dir: options.Dir, limits: options.Limits.withDefaults(), log: options.Logger,
		preflight: options.Preflight, keepAlive: keepAlive, repositories: map[string]*repository{},
		remote: options.Remote, client: newForgeClient(), stall: stallPatience, youngAge: youngAge,
		idle: bodyIdle, faultPatience: time.Minute, unpacking: make(chan struct{}, unpackedAtOnce),
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	if s.preflight == nil {
		s.preflight = func(context.Context, store.App) error { return nil }
	}
	s.closing, s.close = context.WithCancel(context.Background())
	return s, s.sweep()
}

const destroyedPrefix = ".destroyed-"

func (s *Server) sweep() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("list repositories: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(s.dir, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), destroyedPrefix):
			err = errors.Join(err, os.RemoveAll(path))
		case strings.HasSuffix(e.Name(), ".git"):
			err = errors.Join(err, sweep(path))
		}
	}
	return err
}

// begin counts a request in, unless the server is closing.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Err() != nil {
		return false
	}
	s.pushes.Add(1)
	return true
}

// Close ends the answers to pushes that wait for their deployments, waits for those that are being received to be
// stored or dropped, and closes the repositories.
func (s *Server) Close() error {
	s.mu.Lock()
	s.close()
	s.mu.Unlock()
	s.pushes.Wait()
	s.client.CloseIdleConnections()
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, r := range s.repositories {
		errs = append(errs, r.packs.Load().close())
	}
	clear(s.repositories)
	return errors.Join(errs...)
}

func (s *Server) path(app string) string { return filepath.Join(s.dir, app+".git") }

// repository opens an app's repository, or gives a not_found Problem when nothing was ever pushed to it.
func (s *Server) repository(app string) (*repository, error) {
	if err := store.ValidateAppName(app); err != nil {
		return nil, err
	}
	if _, err := os.Stat(s.path(app)); errors.Is(err, fs.ErrNotExist) {
		return nil, store.Problemf(store.CodeNotFound, "nothing was pushed to %s yet", app).WithHint("git push REMOTE main")
	}
	return s.ensureRepository(app)
}

// ensureRepository opens the repository of an app that exists, and makes it when there is none.
func (s *Server) ensureRepository(app string) (*repository, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.repositories[app]; r != nil {
		return r, nil
	}
	r, err := openRepository(app, s.path(app))
	if err != nil {
		return nil, err
	}
	r.unpacking = s.unpacking
	s.repositories[app] = r
	return r, nil
}

// Destroy breaks a fetch off and removes the app's repository. One that does not exist is no error.
func (s *Server) Destroy(ctx context.Context, app string) error {
	if err := store.ValidateAppName(app); err != nil {
		return err
	}
	s.mu.Lock()
	r := s.repositories[app]
	delete(s.repositories, app)
	s.mu.Unlock()
	var err error
	if r != nil {
		r.destroy()
		if _, err := r.takeTurn(ctx); err != nil { // for good
			return fmt.Errorf("destroy repository of %s: %w", app, err)
		}
		r.lock.Lock()
		defer r.lock.Unlock()
		err = r.packs.Load().close()
	}
	s.mu.Lock()
	doomed, moved := s.moveAside(app)
	s.mu.Unlock()
	if err := errors.Join(err, moved, os.RemoveAll(doomed)); err != nil {
		return fmt.Errorf("destroy repository of %s: %w", app, err)
	}
	return nil
}

// moveAside gives the repository a name of its own, so that a crash in the middle of the removal leaves no half of it under
// the app's, and forgets it, should it have been opened. The server is locked.
func (s *Server) moveAside(app string) (doomed string, err error) {
	if r := s.repositories[app]; r != nil {
		delete(s.repositories, app)
		r.destroy()
		err = r.packs.Load().close()
	}
	doomed, failed := os.MkdirTemp(s.dir, destroyedPrefix)
	if failed != nil {
		return "", errors.Join(err, fmt.Errorf("move repository aside: %w", failed))
	}
	moved := ignoreMissing(os.Rename(s.path(app), filepath.Join(doomed, "git")))
	return doomed, errors.Join(err, moved, syncDir(s.dir))
}
