package compose

import (
	"os"
	"testing"

	"github.com/docker/docker/client"

	"github.com/shipgate/shipgate/deploy/dockerengine"
	"github.com/shipgate/shipgate/deploy/enginetest"
)

// An engine that was stopped in haste may refuse for ever to start containers again. Those are made anew, and what runs is left
// as it is.
func TestStackThatCannotBeStartedAgain(t *testing.T) {
	l := newLab(t)
	spec := l.spec(t, l.app(), 1, files{"compose.yaml": `
services:
  web:
    image: web
    environment: {APP_VERSION: one, PORT: "8080"}
  db: {image: db}
  b-db: {image: b-db}
`}, nil)
	spec.Config.Service = "web"
	l.up(t, spec)
	stuck := enginetest.NewStuckEngine(t)
	before := map[string]string{}
	for _, service := range []string{"web", "db", "b-db"} {
		before[service] = l.service(t, l.app(), service).ID
		if service == "b-db" {
			continue
		}
		if err := l.docker.ContainerKill(t.Context(), before[service], "KILL"); err != nil {
			t.Fatal(err)
		}
		stuck.Refuse(before[service], "task %s: already exists")
	}
	l.Stacks = New(behind(t, l, stuck.Socket))
	l.up(t, spec)
	if answer := get(t, spec.Address, "/"); answer != "one" {
		t.Errorf("it answers %q", answer)
	}
	for service, id := range before {
		now := l.service(t, l.app(), service)
		if !now.State.Running || (now.ID == id) != (service == "b-db") {
			t.Errorf("%s is %s, and was %s; it runs: %t", service, now.ID, id, now.State.Running)
		}
	}
}

// behind are the lab's options with another socket for the same engine.
func behind(t *testing.T, l *lab, socket string) Options {
	t.Helper()
	docker, err := client.NewClientWithOpts(client.WithHost("unix://"+socket), client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	engine := dockerengine.New(dockerengine.Options{Docker: docker, ServerID: l.server})
	t.Cleanup(func() { engine.Close(); docker.Close() })
	options := l.options(l.plugin)
	options.Engine = engine
	options.Getenv = func(name string) string {
		switch name {
		case "SHIPGATE_COMPOSE":
			return l.plugin
		case "DOCKER_HOST":
			return "unix://" + socket
		}
		return os.Getenv(name)
	}
	return options
}
