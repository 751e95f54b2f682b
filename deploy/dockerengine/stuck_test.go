package dockerengine

import (
	"testing"

	"github.com/docker/docker/api/types/container"

	"github.com/shipgate/shipgate/deploy/enginetest"
)

// An engine that was stopped in haste may refuse for ever to start a container again. It is made anew, with its address and
// its volumes.
func TestContainerThatCannotBeStartedAgain(t *testing.T) {
	for name, answer := range map[string]string{
		"task":      "task %s: already exists",
		"container": "id already in use",
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			stuck := enginetest.NewStuckEngine(t)
			behind := newEngine(t, dockerClient(t, stuck.Socket), l.serverID)
			spec := l.spec(t)
			spec.KeepRunning = true
			first := l.start(t, spec)
			if err := l.docker.ContainerKill(t.Context(), first.ID, "KILL"); err != nil {
				t.Fatal(err)
			}
			stuck.Refuse(first.ID, answer)
			if err := behind.Start(t.Context(), spec); err != nil {
				t.Fatal(err)
			}
			second, err := l.docker.ContainerInspect(t.Context(), spec.Name)
			if err != nil || second.ID == first.ID || !second.State.Running {
				t.Fatalf("it is %+v (%v)", second.State, err)
			}
			if !second.HostConfig.RestartPolicy.IsUnlessStopped() {
				t.Errorf("its restart policy is %+v", second.HostConfig.RestartPolicy)
			}
			if answer := get(t, spec.Address, "/env?name=PORT"); answer != "8080" {
				t.Errorf("it answers %q", answer)
			}
		})
	}
}

// What keeps a container from starting for another reason is said, and the container is left as it is.
func TestOtherRefusalsLeaveTheContainer(t *testing.T) {
	l := newLab(t)
	stuck := enginetest.NewStuckEngine(t)
	behind := newEngine(t, dockerClient(t, stuck.Socket), l.serverID)
	spec := l.spec(t)
	first := l.start(t, spec)
	if err := l.docker.ContainerStop(t.Context(), first.ID, container.StopOptions{}); err != nil {
		t.Fatal(err)
	}
	stuck.Refuse(first.ID, "OCI runtime create failed: a file already exists")
	if err := behind.Start(t.Context(), spec); err == nil {
		t.Error("it starts")
	}
	if left, err := l.docker.ContainerInspect(t.Context(), spec.Name); err != nil || left.ID != first.ID {
		t.Errorf("the container is %s, and was %s (%v)", left.ID, first.ID, err)
	}
}
