package dockerengine

import (
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"

	"github.com/shipgate/shipgate/store"
)

func TestWatchSeesOOM(t *testing.T) {
	l := newLab(t)
	told(t, func() bool {
		spec := l.spec(t, "EAT_MEMORY=268435456", "EAT_AFTER=1s") // at once, the engine would miss it more often
		spec.Resources.Memory = 16 << 20
		events := l.watch(t, spec.Name)
		l.start(t, spec)
		event := next(t, events)
		outOfMemory := event.Kind == store.ContainerOOM
		if outOfMemory {
			event = next(t, events)
		}
		if event != (store.ContainerEvent{Kind: store.ContainerExited, ExitCode: 137}) {
			t.Errorf("the end is %+v", event)
		}
		diagnosis, err := l.Diagnose(t.Context(), spec.Name, 50)
		if err != nil || diagnosis.ExitCode != 137 || outOfMemory && !diagnosis.OOMKilled {
			t.Errorf("diagnosis %+v, error %v", diagnosis, err)
		}
		return outOfMemory
	})
}

func TestWatchSeesHealthcheck(t *testing.T) {
	l := newLab(t)
	image := l.makeImage(t, `HEALTHCHECK --interval=200ms --timeout=5s --retries=1 CMD ["/testapp", "probe"]`)
	for health, kind := range map[string]store.ContainerEventKind{"200": store.ContainerHealthy, "500": store.ContainerUnhealthy} {
		t.Run(health, func(t *testing.T) {
			spec := l.spec(t, "HEALTH_STATUS="+health)
			spec.Image = image
			before := l.watch(t, spec.Name)
			l.start(t, spec)
			if event := next(t, before); event.Kind != kind {
				t.Errorf("got %+v, want %s", event, kind)
			}
			// Another watch learns of it from the container's state.
			if event := next(t, l.watch(t, spec.Name)); event.Kind != kind {
				t.Errorf("later got %+v, want %s", event, kind)
			}
			containers, err := l.List(t.Context(), spec.App)
			if err != nil || len(containers) == 0 || containers[len(containers)-1].Health != string(kind) {
				t.Errorf("listed %+v, error %v", containers, err)
			}
		})
	}
}

func TestRestartByPolicyIsAnEnd(t *testing.T) {
	l := newLab(t)
	spec := l.spec(t)
	spec.KeepRunning = true
	l.start(t, spec)
	get(t, spec.Address, "/")
	before := l.watch(t, spec.Name)
	ask(spec.Address, "/exit?code=9")
	if event := next(t, before); event != (store.ContainerEvent{Kind: store.ContainerExited, ExitCode: 9}) {
		t.Errorf("got %+v", event)
	}
	eventually(t, "the restart", func() bool {
		found := l.state(t, spec)
		return found.State.Running && !found.State.Restarting && found.RestartCount > 0
	})
	if event := next(t, l.watch(t, spec.Name)); event.Kind != store.ContainerExited {
		t.Errorf("a later watch got %+v", event)
	}
	diagnosis, err := l.Diagnose(t.Context(), spec.Name, 50)
	if err != nil || !diagnosis.Running || diagnosis.ExitCode != 9 {
		t.Errorf("diagnosis %+v, error %v", diagnosis, err)
	}
}

func TestWatchOutlivesTheEventStream(t *testing.T) {
	l := newLab(t)
	wire := newWire(t, strings.TrimPrefix(l.docker.DaemonHost(), "unix://"))
	far := newEngine(t, dockerClient(t, wire.path), l.serverID)
	watch := func(t *testing.T, name string) <-chan store.ContainerEvent {
		events, err := far.Watch(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		return events
	}
	t.Run("an end after the loss", func(t *testing.T) {
		spec := l.spec(t)
		l.start(t, spec)
		get(t, spec.Address, "/")
		events := watch(t, spec.Name)
		served := wire.cut()
		eventually(t, "the watch to subscribe again", func() bool { return wire.served() > served })
		ask(spec.Address, "/exit?code=7")
		if event := next(t, events); event != (store.ContainerEvent{Kind: store.ContainerExited, ExitCode: 7}) {
			t.Errorf("got %+v", event)
		}
	})
	t.Run("an end during the loss", func(t *testing.T) {
		spec := l.spec(t)
		l.start(t, spec)
		get(t, spec.Address, "/")
		events := watch(t, spec.Name)
		wire.refuse(true)
		wire.cut()
		if err := l.Stop(t.Context(), spec.Name, 10*time.Second); err != nil {
			t.Fatal(err)
		}
		select {
		case event := <-events:
			t.Errorf("got %+v while the engine was away", event)
		default:
		}
		wire.refuse(false)
		if event := next(t, events); event != (store.ContainerEvent{Kind: store.ContainerExited}) {
			t.Errorf("got %+v", event)
		}
	})
	t.Run("close during the loss", func(t *testing.T) {
		spec := l.spec(t)
		events := watch(t, spec.Name)
		wire.refuse(true)
		wire.cut()
		if err := far.Close(); err != nil {
			t.Fatal(err)
		}
		select {
		case event, open := <-events:
			if open {
				t.Errorf("got %+v, want the end", event)
			}
		default:
			t.Error("close did not wait for the watch")
		}
	})
}

// wire stands between a client and the engine's socket and can be cut.
type wire struct {
	path     string
	mu       sync.Mutex
	refusing bool
	accepted int
	open     map[net.Conn]bool
	work     sync.WaitGroup
}

func newWire(t *testing.T, engine string) *wire {
	t.Helper()
	w := &wire{path: filepath.Join(t.TempDir(), "s"), open: map[net.Conn]bool{}}
	listener, err := net.Listen("unix", w.path)
	if err != nil {
		t.Fatal(err)
	}
	w.work.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			w.work.Go(func() { w.serve(conn, engine) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		w.cut()
		w.work.Wait()
	})
	return w
}

func (w *wire) serve(near net.Conn, engine string) {
	far, err := net.Dial("unix", engine)
	if err != nil || !w.keep(near, far) {
		near.Close()
		return
	}
	w.work.Go(func() { io.Copy(far, near); far.Close() })
	io.Copy(near, far)
	near.Close()
}

func (w *wire) keep(near, far net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refusing {
		far.Close()
		return false
	}
	w.accepted++
	w.open[near], w.open[far] = true, true
	return true
}

func (w *wire) refuse(refusing bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refusing = refusing
}

func (w *wire) served() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.accepted
}

// cut ends all connections and gives the number accepted so far.
func (w *wire) cut() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	for conn := range w.open {
		conn.Close()
	}
	clear(w.open)
	return w.accepted
}

func TestTranslate(t *testing.T) {
	e := &Engine{serverID: "mine"}
	message := func(action events.Action, name, data string, exit string) events.Message {
		return events.Message{Action: action, Actor: events.Actor{Attributes: map[string]string{
			"name": name, store.LabelData: data, store.LabelContainer: "hello-1", "exitCode": exit,
		}}}
	}
	for _, c := range []struct {
		message events.Message
		wanted  []store.ContainerEvent
	}{
		{message("die", "hello-1", "mine", "3"), []store.ContainerEvent{{Kind: store.ContainerExited, ExitCode: 3}}},
		{message("die", "hello-1", "mine", ""), []store.ContainerEvent{{Kind: store.ContainerExited, ExitCode: -1}}},
		{message("die", "hello-12", "mine", "3"), nil},
		{message("die", "hello-1", "other", "3"), nil},
		{message("oom", "hello-1", "mine", ""), []store.ContainerEvent{{Kind: store.ContainerOOM}}},
		{message("destroy", "hello-1", "mine", ""), []store.ContainerEvent{{Kind: store.ContainerRemoved}}},
		{message("health_status: healthy", "hello-1", "mine", ""), []store.ContainerEvent{{Kind: store.ContainerHealthy}}},
		{message("health_status: unhealthy", "hello-1", "mine", ""), []store.ContainerEvent{{Kind: store.ContainerUnhealthy}}},
		{message("exec_die", "hello-1", "mine", "0"), nil},
		{message("exec_start: /testapp probe", "hello-1", "mine", ""), nil},
		{message("start", "hello-1", "mine", ""), nil},
	} {
		got := e.translate(t.Context(), "hello-1", c.message)
		if len(got) != len(c.wanted) || len(got) == 1 && got[0] != c.wanted[0] {
			t.Errorf("%s of %v: %+v, want %+v", c.message.Action, c.message.Actor.Attributes, got, c.wanted)
		}
	}
}

func TestPresent(t *testing.T) {
	for name, c := range map[string]struct {
		state    container.State
		restarts int
		wanted   []store.ContainerEventKind
	}{
		"created":            {container.State{Status: "created", ExitCode: 127}, 0, nil},
		"running":            {container.State{Status: "running", Running: true}, 0, nil},
		"exited":             {container.State{Status: "exited"}, 0, []store.ContainerEventKind{store.ContainerExited}},
		"out of memory":      {container.State{Status: "exited", OOMKilled: true}, 0, []store.ContainerEventKind{store.ContainerOOM, store.ContainerExited}},
		"between restarts":   {container.State{Status: "restarting", Running: true, Restarting: true}, 1, []store.ContainerEventKind{store.ContainerExited}},
		"runs again":         {container.State{Status: "running", Running: true}, 1, []store.ContainerEventKind{store.ContainerExited}},
		"health not known":   {container.State{Status: "running", Running: true, Health: &container.Health{Status: "starting"}}, 0, nil},
		"healthy":            {container.State{Status: "running", Running: true, Health: &container.Health{Status: "healthy"}}, 0, []store.ContainerEventKind{store.ContainerHealthy}},
		"exited and healthy": {container.State{Status: "exited", Health: &container.Health{Status: "healthy"}}, 0, []store.ContainerEventKind{store.ContainerExited}},
	} {
		t.Run(name, func(t *testing.T) {
			got := present(&container.InspectResponse{ContainerJSONBase: &container.ContainerJSONBase{State: &c.state, RestartCount: c.restarts}})
			if len(got) != len(c.wanted) {
				t.Fatalf("got %+v, want %v", got, c.wanted)
			}
			for i := range got {
				if got[i].Kind != c.wanted[i] {
					t.Errorf("got %+v, want %v", got, c.wanted)
				}
			}
		})
	}
}
