// Package github verifies webhooks, holds app and token credentials, and posts commit statuses and deployments from the outbox.
package github

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/shipgate/shipgate/store"
)

// Repositories is what the GitHub side asks of the git side.
type Repositories interface {
	// Fetch brings a commit into the app's repository, unless it is there. A forge that cannot be reached is an unreachable
	// Problem, worth another try; every other error is final.
	Fetch(ctx context.Context, app, sha string) (fetched bool, err error)
	// RemoteHead gives the commit of a branch at the forge, "" when it has no such branch. Errors are as those of Fetch.
	RemoteHead(ctx context.Context, app, branch string) (sha string, err error)
	// Follows gives the full name of the app's deploy branch, knowing that this ref is pushed, and the commit it says here.
	Follows(ctx context.Context, app store.App, pushed string) (branch, tip string, err error)
	// Changed says whether any path that differs between two commits matches; both must be here.
	Changed(ctx context.Context, app, from, to string, match func(path string) bool) (bool, error)
	// Message gives the whole message of a commit that is here.
	Message(ctx context.Context, app, sha string) (string, error)
}

// Options are the collaborators of a GitHub and its limits.
type Options struct {
	Store        *store.Store
	Repositories Repositories
	URL          func(host string) string // the public address of an app's host
	CatchUpEvery time.Duration            // how often the followed branches are looked at; 0: 5 min
	Transport    http.RoundTripper        // nil: http.DefaultTransport
	Logger       *slog.Logger             // nil: slog.Default
}

const catchUpEvery = 5 * time.Minute

// GitHub is the server's side of its conversation with GitHub.
type GitHub struct {
	Options
	base string // the public address of this server, without a slash at the end

	held      holder
	connected chan struct{}    // holds a token after each Connect
	now       func() time.Time // this and the next are others in tests
	backoff   func(attempts int) time.Duration
	timeout   time.Duration // of one call
	doubt     time.Duration // how long a request without an answer may still have an effect

	large      chan struct{} // holds a token for each large delivery that is read
	readWithin time.Duration
	lookApart  time.Duration // at the least, from one round of looking to the next

	turns     turns
	workedOff chan struct{} // closed once no delivery is left that an earlier process could have worked on

	work sync.WaitGroup
	stop context.CancelFunc
}

// New makes a GitHub that does nothing before Start.
func New(options Options) *GitHub {
	if options.Logger == nil {
		options.Logger = slog.Default()
	}
	if options.CatchUpEvery == 0 {
		options.CatchUpEvery = catchUpEvery
	}
	if options.Transport == nil {
		options.Transport = http.DefaultTransport.(*http.Transport).Clone() // its idle connections are ours to close
	}
	return &GitHub{
		Options: options, connected: make(chan struct{}, 1), now: time.Now, backoff: backoff, timeout: callTimeout, doubt: longestWork,
		workedOff: make(chan struct{}), large: make(chan struct{}, largeAtOnce), readWithin: readWithin, lookApart: lookApart,
	}
}

// Start takes up what waits, in the outbox and among the deliveries, and looks for pushes that no webhook told of. Base is
// the public address of this server.
func (g *GitHub) Start(base string) error {
	ctx, stop := context.WithCancel(context.Background())
	g.base, g.stop = strings.TrimRight(base, "/"), stop
	if _, err := g.access(ctx); err != nil {
		g.Logger.Warn("GitHub stays unconnected", "error", err) // the doctor says what to do
	}
	g.work.Go(func() { g.runOutbox(ctx) })
	g.work.Go(func() { g.runDeliveries(ctx) })
	g.work.Go(func() { g.runCatchUp(ctx) })
	return nil
}

// Close ends the work and waits for it. What was under way is taken up by the next process.
func (g *GitHub) Close() error {
	if g.stop != nil {
		g.stop()
	}
	g.work.Wait()
	if idle, ok := g.Transport.(interface{ CloseIdleConnections() }); ok {
		idle.CloseIdleConnections()
	}
	return nil
}
