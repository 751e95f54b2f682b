package proxy

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shipgate/shipgate/store"
)

// inheritVariable lists what a started proxy finds in its file descriptors from 3 on, by name, separated by commas.
const inheritVariable = "SHIPGATE_PROXY_INHERIT"

// The names of what can be inherited.
const (
	inheritReady       = "ready"       // a pipe that gets our Status as JSON when we serve
	inheritPublic      = "public"      // the public listener
	inheritControl     = "control"     // the control listener
	inheritInternal    = "internal"    // the listener for calls between apps
	inheritPredecessor = "predecessor" // a pipe that ends when the process before us does
)

// defaultAddr is the public address where nobody says one.
const defaultAddr = ":8080"

// firstInherited is the number of the first file descriptor after standard error.
const firstInherited = 3

// inheritance is what the starter of this process gave it.
type inheritance struct {
	ready           *os.File
	public, control net.Listener
	internal        net.Listener // nil where there is none
	predecessor     *os.File
	predecessorGone chan struct{}
	watched         chan struct{} // closed when nobody looks at predecessor any more
}

// inherit takes what the environment says, once, and hides it from processes that we start.
func inherit() (*inheritance, error) {
	from := &inheritance{predecessorGone: make(chan struct{}), watched: make(chan struct{})}
	names := os.Getenv(inheritVariable)
	if err := os.Unsetenv(inheritVariable); err != nil {
		return nil, fmt.Errorf("clear environment: %w", err)
	}
	for i, name := range strings.FieldsFunc(names, func(r rune) bool { return r == ',' }) {
		syscall.CloseOnExec(firstInherited + i)
		if err := syscall.SetNonblock(firstInherited+i, true); err != nil { // so that a close ends a read
			return nil, fmt.Errorf("take over %s: %w", name, err)
		}
		if err := from.take(name, os.NewFile(uintptr(firstInherited+i), name)); err != nil {
			return nil, fmt.Errorf("take over %s: %w", name, err)
		}
	}
	go from.watchPredecessor()
	return from, nil
}

func (from *inheritance) take(name string, file *os.File) (err error) {
	switch name {
	case inheritReady:
		from.ready = file
		return nil
	case inheritPredecessor:
		from.predecessor = file
		return nil
	case inheritPublic:
		from.public, err = net.FileListener(file)
	case inheritControl:
		from.control, err = net.FileListener(file)
	case inheritInternal:
		from.internal, err = net.FileListener(file)
	}
	return errors.Join(err, file.Close())
}

func (from *inheritance) watchPredecessor() {
	defer close(from.watched)
	defer close(from.predecessorGone)
	if from.predecessor != nil {
		_, _ = io.Copy(io.Discard, from.predecessor) // nothing is written; it ends
	}
}

// readiness is what a starter is told.
type readiness struct {
	Status
	Failure *store.Problem `json:"failure,omitempty"`
}

// tellReady lets the starter go on.
func (from *inheritance) tellReady(status Status) error { return from.tell(readiness{Status: status}) }

// tellFailure tells the starter why there will be no proxy.
func (from *inheritance) tellFailure(err error) error {
	return from.tell(readiness{Failure: problemOf(err)})
}

func (from *inheritance) tell(what readiness) error {
	if from.ready == nil {
		return nil
	}
	err := errors.Join(json.NewEncoder(from.ready).Encode(what), from.ready.Close())
	from.ready = nil
	return err
}

func (from *inheritance) close() {
	for _, file := range []*os.File{from.ready, from.predecessor} {
		if file != nil {
			_ = file.Close() // read and written by now, or of no more use
		}
	}
	<-from.watched
}

// handOver starts our successor with our sockets. When that serves, we accept nothing any more; when it does not, all
// stays as it was. No route changes meanwhile, so that the successor reads the last word from the snapshot.
func (p *process) handOver(ctx context.Context, executable string) (Status, error) {
	p.router.changing.Lock()
	defer p.router.changing.Unlock()
	if p.router.moved {
		return Status{}, errMoved
	}
	for app, e := range p.router.table.Load().apps {
		if e.hold != nil {
			return Status{}, store.Problemf(store.CodeConflict, "requests of %s wait for its restart, so the proxy cannot be replaced now", app).
				WithHint("try again")
		}
	}
	status, err := p.startSuccessor(ctx, executable)
	if err != nil {
		return Status{}, err
	}
	p.router.moved = true
	p.closeListeners()
	close(p.handedOver)
	p.Logger.Info("proxy handed over", "successor", status.PID)
	return status, nil
}

func (p *process) startSuccessor(ctx context.Context, executable string) (Status, error) {
	theirEnd, ourEnd, err := os.Pipe()
	if err != nil {
		return Status{}, fmt.Errorf("make pipe: %w", err)
	}
	defer theirEnd.Close()
	p.lifeline = ourEnd
	files := []namedFile{{inheritPredecessor, theirEnd}}
	for name, listener := range p.handedOn() {
		file, err := listenerFile(listener, name)
		if err != nil {
			return Status{}, err
		}
		defer file.Close()
		files = append(files, namedFile{name, file})
	}
	command := command(executable, p.DataDir, p.PublicAddr)
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	bounded, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	status, err := startReady(bounded, command, files...)
	if err != nil {
		return Status{}, errors.Join(fmt.Errorf("start new proxy: %w", err), p.closeLifeline())
	}
	// It outlives us, so nobody here waits for it.
	return status, command.Process.Release()
}

// handedOn returns the listeners that a successor gets, by name.
func (p *process) handedOn() map[string]net.Listener {
	all := map[string]net.Listener{inheritPublic: p.public.listener, inheritControl: p.control}
	if p.internal != nil {
		all[inheritInternal] = p.internal.listener
	}
	return all
}

// listenerFile duplicates the socket. The File method of net would take it out of non-blocking mode, for us as well.
func listenerFile(listener net.Listener, name string) (*os.File, error) {
	raw, err := listener.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("reach %s socket: %w", name, err)
	}
	var duplicate int
	var duplicateErr error
	if err := raw.Control(func(fd uintptr) {
		duplicate, duplicateErr = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
	}); err != nil {
		return nil, fmt.Errorf("reach %s socket: %w", name, err)
	}
	if duplicateErr != nil {
		return nil, fmt.Errorf("duplicate %s socket: %w", name, duplicateErr)
	}
	return os.NewFile(uintptr(duplicate), name), nil
}

// command is a proxy in a session of its own: signals to its starter's terminal or process group do not reach it, and no
// context of the starter ends it.
func command(executable, dataDir, publicAddr string) *exec.Cmd {
	command := exec.CommandContext(context.Background(), executable, "proxy", "--data", dataDir, "--public-addr", cmp.Or(publicAddr, defaultAddr))
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return command
}

type namedFile struct {
	name string
	file *os.File
}

// startReady starts a proxy with the files and returns when it says that it serves. One that does not is ended.
func startReady(ctx context.Context, command *exec.Cmd, files ...namedFile) (Status, error) {
	ready, theirEnd, err := os.Pipe()
	if err != nil {
		return Status{}, fmt.Errorf("make pipe: %w", err)
	}
	defer ready.Close()
	names := make([]string, 0, len(files)+1)
	for _, named := range append(files, namedFile{inheritReady, theirEnd}) {
		names = append(names, named.name)
		command.ExtraFiles = append(command.ExtraFiles, named.file)
	}
	command.Env = append(childEnvironment(), inheritVariable+"="+strings.Join(names, ","))
	err = command.Start()
	_ = theirEnd.Close() // only the child has it now, so that its end is seen
	if err != nil {
		return Status{}, fmt.Errorf("start process: %w", err)
	}
	status, err := readStatus(ctx, ready)
	if err != nil {
		defer context.AfterFunc(ctx, func() { _ = command.Process.Kill() })() // it mostly ends by itself, with a word in its log
		return Status{}, errors.Join(err, command.Wait())
	}
	return status, nil
}

// childEnvironment leaves out what is meant for the server's own conversation with systemd.
func childEnvironment() []string {
	var kept []string
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		switch name {
		case "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", inheritVariable:
		default:
			kept = append(kept, variable)
		}
	}
	return kept
}

func readStatus(ctx context.Context, ready *os.File) (Status, error) {
	stop := context.AfterFunc(ctx, func() { _ = ready.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var told readiness
	err := json.NewDecoder(ready).Decode(&told)
	switch {
	case ctx.Err() != nil:
		return Status{}, fmt.Errorf("wait for the process to serve: %w", ctx.Err())
	case err != nil:
		return Status{}, errors.New("the process ended before it served")
	case told.Failure != nil:
		return Status{}, told.Failure
	}
	return told.Status, nil
}
