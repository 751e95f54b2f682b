package dockerengine

import (
	"maps"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/volume"

	"github.com/shipgate/shipgate/deploy/enginetest"
	"github.com/shipgate/shipgate/store"
)

func TestContract(t *testing.T) {
	l := newLab(t)
	exiting := l.makeImage(t, "ENV EXIT_CODE=3")
	enginetest.Run(t, func(*testing.T) enginetest.Harness {
		return enginetest.Harness{
			Engine: l, Addresses: l, ServerID: l.serverID,
			Serving: l.image, Exiting: exiting, Missing: "sha256:" + strings.Repeat("0", 64),
			Foreign: l.foreign, Imitation: l.imitation,
			Answers: func(t *testing.T, address netip.AddrPort) bool {
				get(t, address, "/")
				return true
			},
		}
	})
}

// A version that is on trial stays down when it ends; one that is live is started again, and keeps its limits by that.
func TestKeepRunning(t *testing.T) {
	l := newLab(t)
	spec := l.spec(t)
	spec.Resources = store.Resources{Memory: 64 << 20}
	if policy := l.start(t, spec).HostConfig.RestartPolicy; !policy.IsNone() {
		t.Errorf("restart policy of a version on trial is %q", policy.Name)
	}
	spec.KeepRunning = true
	for range 2 {
		found := l.start(t, spec)
		if !found.HostConfig.RestartPolicy.IsUnlessStopped() || found.HostConfig.Memory != 64<<20 || !found.State.Running {
			t.Errorf("restart policy %q, memory %d, state %s", found.HostConfig.RestartPolicy.Name, found.HostConfig.Memory, found.State.Status)
		}
	}
}

func TestContainersAreHardenedAndLabelled(t *testing.T) {
	l := newLab(t)
	spec := l.spec(t, "APP_VERSION=seven")
	spec.Resources = store.Resources{Memory: 64 << 20, CPUs: 0.5}
	spec.StopSignal = "SIGINT"
	found := l.start(t, spec)
	host := found.HostConfig
	if !slices.Contains(host.SecurityOpt, "no-new-privileges") || host.PidsLimit == nil || *host.PidsLimit != store.DefaultPIDs {
		t.Errorf("security %v, pids %v", host.SecurityOpt, host.PidsLimit)
	}
	wantedLog := map[string]string{"max-size": "10m", "max-file": "3"}
	if host.LogConfig.Type != "local" || !maps.Equal(host.LogConfig.Config, wantedLog) {
		t.Errorf("log %+v", host.LogConfig)
	}
	if found.Config.StopSignal != "SIGINT" {
		t.Errorf("stop signal %q", found.Config.StopSignal)
	}
	if host.Memory != 64<<20 || host.MemorySwap != host.Memory || host.NanoCPUs != 5e8 {
		t.Errorf("memory %d, with swap %d, CPU %d", host.Memory, host.MemorySwap, host.NanoCPUs)
	}
	for label, value := range map[string]string{store.LabelApp: spec.App, store.LabelDeployment: "1", store.LabelData: l.serverID} {
		if found.Config.Labels[label] != value {
			t.Errorf("label %s is %q, want %q", label, found.Config.Labels[label], value)
		}
	}
	if answer := get(t, spec.Address, "/"); answer != "seven" {
		t.Errorf("the app answers %q", answer)
	}
}

func TestVolumesOutliveContainers(t *testing.T) {
	l := newLab(t)
	name := l.volume(t)
	first, second := l.spec(t), l.spec(t)
	first.Volumes = []store.Volume{{Name: "data", Path: "/data"}}
	second.Volumes = []store.Volume{{Name: "data", Path: "/data", ReadOnly: true}}
	l.start(t, first)
	get(t, first.Address, "/")
	put(t, first.Address, "/data/note", "kept", http.StatusOK)
	if err := l.Remove(t.Context(), first.Name); err != nil {
		t.Fatal(err)
	}
	l.start(t, second)
	if answer := get(t, second.Address, "/file?path=/data/note"); answer != "kept" {
		t.Errorf("the next container reads %q", answer)
	}
	put(t, second.Address, "/data/note", "changed", http.StatusInternalServerError)
	found, err := l.docker.VolumeInspect(t.Context(), name)
	if err != nil || found.Labels[store.LabelData] != l.serverID || found.Labels[store.LabelApp] != first.App {
		t.Errorf("volume labels %v, error %v", found.Labels, err)
	}
}

// What VOLUME lines of an image make has no name, and goes with its container.
func TestVolumesWithoutNameGoWithTheirContainer(t *testing.T) {
	l := newLab(t)
	named := l.volume(t)
	spec := l.spec(t)
	spec.Image = l.makeImage(t, "VOLUME /cache")
	spec.Volumes = []store.Volume{{Name: "data", Path: "/data"}}
	made := l.start(t, spec)
	nameless := ""
	for _, mount := range made.Mounts {
		if mount.Destination == "/cache" {
			nameless = mount.Name
		}
	}
	if _, err := l.docker.VolumeInspect(t.Context(), nameless); nameless == "" || err != nil {
		t.Fatalf("mounts %+v: %v", made.Mounts, err)
	}
	if err := l.Remove(t.Context(), spec.Name); err != nil {
		t.Fatal(err)
	}
	if _, err := l.docker.VolumeInspect(t.Context(), nameless); !errdefs.IsNotFound(err) {
		t.Errorf("the volume without a name: %v", err)
	}
	if _, err := l.docker.VolumeInspect(t.Context(), named); err != nil {
		t.Errorf("the app's volume: %v", err)
	}
}

func put(t *testing.T, address netip.AddrPort, path, content string, status int) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPut,
		"http://"+address.String()+"/file?path="+path, strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != status {
		t.Errorf("writing %s: status %d, want %d", path, response.StatusCode, status)
	}
}

func TestForeignVolumeIsRefused(t *testing.T) {
	l := newLab(t)
	name := l.volume(t)
	spec := l.spec(t)
	spec.Volumes = []store.Volume{{Name: "data", Path: "/data"}}
	labels := map[string]string{store.LabelData: l.serverID + "-foreign"}
	if _, err := l.docker.VolumeCreate(t.Context(), volume.CreateOptions{Name: name, Labels: labels}); err != nil {
		t.Fatal(err)
	}
	wantProblem(t, l.Start(t.Context(), spec), store.CodeErrored, name)
}

func TestBadCommandIsTheUsersFault(t *testing.T) {
	l := newLab(t)
	bad := l.makeImage(t, `ENTRYPOINT ["/nothing-here"]`)
	spec := l.spec(t)
	spec.Image = bad
	wantProblem(t, l.Start(t.Context(), spec), store.CodeFailed, "/nothing-here")
	diagnosis, err := l.Diagnose(t.Context(), spec.Name, 50)
	if err != nil || diagnosis.Running || diagnosis.ExitCode != 127 || !strings.Contains(diagnosis.Error, "/nothing-here") {
		t.Errorf("diagnosis %+v, error %v", diagnosis, err)
	}
}

func TestImpossibleLimitIsTheUsersFault(t *testing.T) {
	l := newLab(t)
	spec := l.spec(t)
	spec.Resources.Memory = 4096
	wantProblem(t, l.Start(t.Context(), spec), store.CodeFailed, "memory")
}

func TestAbsentEngine(t *testing.T) {
	e := newEngine(t, dockerClient(t, filepath.Join(t.TempDir(), "docker.sock")), "absent-server")
	ctx := t.Context()
	_, listErr := e.List(ctx, "")
	_, poolErr := e.Pool(ctx)
	_, watchErr := e.Watch(ctx, "hello-1")
	_, diagnoseErr := e.Diagnose(ctx, "hello-1", 1)
	for verb, err := range map[string]error{
		"ping": e.Ping(ctx), "list": listErr, "pool": poolErr, "watch": watchErr, "diagnose": diagnoseErr,
		"start": e.Start(ctx, store.ContainerSpec{Name: "hello-1"}), "stop": e.Stop(ctx, "hello-1", time.Second),
		"remove": e.Remove(ctx, "hello-1"), "remove network": e.RemoveNetwork(ctx),
		"logs": e.Logs(ctx, "hello-1", 1, false, func(string) {}),
	} {
		t.Run(verb, func(t *testing.T) {
			wantProblem(t, err, store.CodeErrored, "the Docker engine does not answer", "sudo systemctl start docker")
		})
	}
}

func TestPing(t *testing.T) {
	if err := newLab(t).Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestAnIDIsNotAName(t *testing.T) {
	l := newLab(t)
	spec := l.spec(t)
	id := l.start(t, spec).ID
	if err := l.Remove(t.Context(), id[:12]); err != nil {
		t.Fatal(err)
	}
	if !l.state(t, spec).State.Running {
		t.Error("the container with this id was removed")
	}
}

func TestStopKillsAfterTheGrace(t *testing.T) {
	l := newLab(t)
	spec := l.spec(t, "IGNORE_TERM=1")
	l.start(t, spec)
	get(t, spec.Address, "/")
	if err := l.Stop(t.Context(), spec.Name, 100*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if state := l.state(t, spec).State; state.Running || state.ExitCode != 137 {
		t.Errorf("running %t, exit code %d", state.Running, state.ExitCode)
	}
}

func TestHealthIn(t *testing.T) {
	for status, wanted := range map[string]string{
		"Up 3 seconds": "", "Exited (0) 2 minutes ago": "", "Created": "",
		"Up 3 seconds (health: starting)": "starting",
		"Up 3 seconds (healthy)":          "healthy",
		"Up 3 seconds (unhealthy)":        "unhealthy",
		"Up 3 seconds (Paused)":           "",
	} {
		if got := healthIn(status); got != wanted {
			t.Errorf("%q: %q, want %q", status, got, wanted)
		}
	}
}
