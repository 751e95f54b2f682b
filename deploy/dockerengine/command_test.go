package dockerengine

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/docker/docker/api/types/container"

	"github.com/shipgate/shipgate/deploy/enginetest"
	"github.com/shipgate/shipgate/store"
)

func TestCommandContract(t *testing.T) {
	l := newLab(t)
	enginetest.RunCommands(t, func(*testing.T) enginetest.CommandHarness {
		return enginetest.CommandHarness{
			Engine: l, Commands: l, ServerID: l.serverID,
			Quick:   l.command("LOG_LINES=2", "EXIT_CODE=3"),
			Waiting: l.command("LOG_LINES=2", "NEVER_LISTEN=1"),
			Missing: "sha256:" + strings.Repeat("0", 64),
			Finish:  l.finish,
			Foreign: l.foreign,
		}
	})
}

func (l *lab) command(env ...string) func(spec *store.ContainerSpec) {
	return func(spec *store.ContainerSpec) {
		spec.Image, spec.Command, spec.Env = l.image, []string{"/testapp"}, append(spec.Env, env...)
	}
}

func (l *lab) finish(t *testing.T, name string) {
	if err := l.docker.ContainerKill(t.Context(), name, "TERM"); err != nil {
		t.Fatal(err)
	}
}

// commandSpec is the next deployment's command.
func (l *lab) commandSpec(t *testing.T, env ...string) store.ContainerSpec {
	t.Helper()
	spec := l.spec(t)
	spec.Name, spec.Role = store.CommandName(l.serverID, spec.App, spec.Deployment), store.RoleCommand
	spec.Address = store.ContainerSpec{}.Address
	l.command(env...)(&spec)
	t.Cleanup(func() {
		if err := l.Remove(context.WithoutCancel(t.Context()), spec.Name); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	return spec
}

// journal gathers what a command writes.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.lines)
}

func TestCommandReplacesTheEntrypointAndSharesTheVolumes(t *testing.T) {
	l := newLab(t)
	l.volume(t)
	image := l.makeImage(t, `CMD ["with", "arguments"]`, `HEALTHCHECK --interval=200ms CMD ["/nothing-here"]`)
	spec := l.commandSpec(t, "MIGRATE_FILE=/data/migrated", "APP_VERSION=seven", "MIGRATE_CODE=4")
	spec.Image, spec.Command = image, []string{"/testapp", "migrate"}
	spec.Volumes = []store.Volume{{Name: "data", Path: "/data"}}
	spec.Resources = store.Resources{Memory: 64 << 20}
	for range 2 {
		var told journal
		code, err := l.Run(t.Context(), spec, told.add)
		if err != nil || code != 4 || !slices.Equal(told.all(), []string{"migrating seven"}) {
			t.Fatalf("code %d, error %v, lines %q", code, err, told.all())
		}
	}
	found := l.state(t, spec)
	if len(found.Config.Cmd) != 0 || found.Config.Healthcheck.Test[0] != "NONE" || !found.HostConfig.RestartPolicy.IsNone() {
		t.Errorf("command %q, healthcheck %v, restart %s", found.Config.Cmd, found.Config.Healthcheck, found.HostConfig.RestartPolicy.Name)
	}
	if !slices.Contains(found.HostConfig.SecurityOpt, "no-new-privileges") || found.HostConfig.Memory != 64<<20 {
		t.Errorf("security %v, memory %d", found.HostConfig.SecurityOpt, found.HostConfig.Memory)
	}
	serving := l.spec(t)
	serving.Volumes = spec.Volumes
	l.start(t, serving)
	if migrated := get(t, serving.Address, "/file?path=/data/migrated"); migrated != "migrated seven" {
		t.Errorf("the command left %q", migrated)
	}
}

func TestCommandThatCannotStart(t *testing.T) {
	l := newLab(t)
	spec := l.commandSpec(t)
	spec.Command = []string{"/nothing-here"}
	for range 2 {
		_, err := l.Run(t.Context(), spec, func(string) {})
		wantProblem(t, err, store.CodeFailed, "/nothing-here")
	}
}

func TestCommandOutOfMemory(t *testing.T) {
	l := newLab(t)
	told(t, func() bool {
		spec := l.commandSpec(t, "EAT_MEMORY=268435456", "EAT_AFTER=1s", "NEVER_LISTEN=1")
		spec.Resources.Memory = 16 << 20
		code, err := l.Run(t.Context(), spec, func(string) {})
		if err != nil || code != 137 {
			t.Fatalf("code %d, error %v", code, err)
		}
		diagnosis, err := l.Diagnose(t.Context(), spec.Name, 50)
		if err != nil {
			t.Fatal(err)
		}
		return diagnosis.OOMKilled
	})
}

// told wants the engine to say that a container was out of memory. Engine 20.10 loses that now and then, and reports the exit
// alone; with us it is lost each time.
func told(t *testing.T, outOfMemory func() bool) {
	t.Helper()
	for range 5 {
		if outOfMemory() {
			return
		}
	}
	t.Error("the engine never said that the memory was used up")
}

// A crash may have come between the creation and the start.
func TestCommandThatWasOnlyCreatedIsStarted(t *testing.T) {
	l := newLab(t)
	spec := l.commandSpec(t, "EXIT_CODE=5")
	if _, err := l.create(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	if code, err := l.Run(t.Context(), spec, func(string) {}); err != nil || code != 5 {
		t.Errorf("code %d, error %v", code, err)
	}
}

func TestCommandIsKilledAfterTheGrace(t *testing.T) {
	l := newLab(t)
	spec := l.commandSpec(t, "NEVER_LISTEN=1", "IGNORE_TERM=1")
	ctx, cancel := context.WithCancelCause(t.Context())
	_, err := l.Run(ctx, spec, func(string) { cancel(store.Problemf(store.CodeCancelled, "enough")) })
	wantProblem(t, err, store.CodeCancelled, "enough")
	if state := l.state(t, spec).State; state.Running || state.ExitCode != 137 {
		t.Errorf("running %t, exit code %d", state.Running, state.ExitCode)
	}
}

// Each line comes once and in order, however often the engine is lost, and the exit code is that of the process.
func TestCommandOutlivesTheLossOfTheEngine(t *testing.T) {
	l := newLab(t)
	wire := newWire(t, strings.TrimPrefix(l.docker.DaemonHost(), "unix://"))
	far := newEngine(t, dockerClient(t, wire.path), l.serverID)
	spec := l.commandSpec(t, "LOG_LINES=1")
	if pool, err := l.Pool(t.Context()); err != nil || !pool.Subnet.IsValid() {
		t.Skip("NOT TESTED, this engine's networks cannot be reached from here: ", err)
	}
	var told journal
	type result struct {
		code int
		err  error
	}
	ended := make(chan result, 1)
	go func() {
		code, err := far.Run(t.Context(), spec, told.add)
		ended <- result{code, err}
	}()
	eventually(t, "the first lines", func() bool { return len(told.all()) == 2 })
	address := netip.MustParseAddr(l.state(t, spec).NetworkSettings.Networks[l.networkName()].IPAddress)
	for _, line := range []string{"one", "two", "three"} {
		wire.cut()
		ask(netip.AddrPortFrom(address, 8080), "/log?line="+line)
		eventually(t, "a line after the loss", func() bool { return slices.Contains(told.all(), line) })
	}
	wire.refuse(true)
	wire.cut()
	l.finish(t, spec.Name)
	eventually(t, "the end", func() bool { return !l.state(t, spec).State.Running })
	select {
	case r := <-ended:
		t.Fatalf("got %+v while the engine was away", r)
	default:
	}
	wire.refuse(false)
	if r := <-ended; r.err != nil || r.code != 0 {
		t.Errorf("got %+v", r)
	}
	wanted := []string{"line 1", "listening on [::]:8080", "one", "two", "three", "stopping"}
	if lines := told.all(); !slices.Equal(lines, wanted) {
		t.Errorf("lines %q, want %q", lines, wanted)
	}
}

// The addresses that containers are to start on are not given to commands.
func TestCommandTakesNoAddressOfTheStore(t *testing.T) {
	l := newLab(t)
	pool, err := l.Pool(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !pool.Subnet.IsValid() {
		t.Skip("NOT TESTED, this engine's networks cannot be reached from here")
	}
	spec := l.commandSpec(t, "NEVER_LISTEN=1")
	var address string
	if _, err := l.Run(t.Context(), spec, func(string) {
		address = l.state(t, spec).NetworkSettings.Networks[l.networkName()].IPAddress
		l.finish(t, spec.Name)
	}); err != nil {
		t.Fatal(err)
	}
	known, err := l.ensureNetwork(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	given := netip.MustParseAddr(address)
	if _, upper := halves(known.subnet); !upper.Contains(given) || pool.Subnet.Contains(given) {
		t.Errorf("the command had %s; the store gives from %s", address, pool.Subnet)
	}
}

// A container that is kept for going back to it comes up neither with the engine nor, being on trial again, after its end.
func TestStoppedContainerIsNotKeptRunning(t *testing.T) {
	l := newLab(t)
	spec := l.spec(t, "APP_VERSION=7")
	spec.KeepRunning = true
	l.start(t, spec)
	if err := l.Stop(t.Context(), spec.Name, store.DefaultStopGrace); err != nil {
		t.Fatal(err)
	}
	if policy := l.state(t, spec).HostConfig.RestartPolicy; !policy.IsNone() {
		t.Errorf("restart policy of a stopped container is %q", policy.Name)
	}
	spec.KeepRunning = false
	if found := l.start(t, spec); !found.HostConfig.RestartPolicy.IsNone() || !found.State.Running {
		t.Errorf("started again: restart policy %q, state %s", found.HostConfig.RestartPolicy.Name, found.State.Status)
	}
	spec.KeepRunning = true
	if found := l.start(t, spec); found.HostConfig.RestartPolicy.Name != container.RestartPolicyUnlessStopped {
		t.Errorf("kept: restart policy %q", found.HostConfig.RestartPolicy.Name)
	}
	if answer := get(t, spec.Address, "/"); answer != "7" {
		t.Errorf("the app answers %q at its address", answer)
	}
}
