package compose

import (
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"

	"github.com/shipgate/shipgate/store"
)

const migrated = `
services:
  web: {image: x, environment: {PORT: "8080", APP_VERSION: new}, depends_on: [db]}
  db: {image: x, environment: {PORT: "5432"}, volumes: ["data:/data", /unnamed]}
volumes: {data: {}}
`

// old returns the containers of the project that an earlier server made.
func (l *lab) old(t *testing.T, app string) []container.Summary {
	t.Helper()
	found, err := l.docker.ContainerList(t.Context(), container.ListOptions{All: true, Filters: filters.NewArgs(
		filters.Arg("label", store.LabelComposeProject+"="+store.OldProjectName(app)))})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func volumesOf(c container.InspectResponse) (volumes []string) {
	for _, mounted := range c.Mounts {
		volumes = append(volumes, mounted.Destination+"="+mounted.Name)
	}
	slices.Sort(volumes)
	return volumes
}

func (l *lab) oldVolumes(t *testing.T, app string) []string {
	t.Helper()
	for _, c := range l.old(t, app) {
		if c.Labels[store.LabelComposeService] == "db" {
			inspected, err := l.docker.ContainerInspect(t.Context(), c.ID)
			if err != nil {
				t.Fatal(err)
			}
			return volumesOf(inspected)
		}
	}
	t.Fatal("there is no old database")
	return nil
}

// A stack that 47a093d made serves until its next deployment, which goes on with all its volumes.
func TestOldProjectIsMigrated(t *testing.T) {
	l := newLab(t)
	app, first := l.app(), l.address(t)
	l.oldProject(t, app, "7", first)
	volumes := l.oldVolumes(t, app)
	if running, err := l.Running(t.Context(), app, 7); err != nil || !running {
		t.Fatalf("what is live is not known: %v %v", running, err)
	}
	refused := l.spec(t, app, 8, files{"compose.yaml": "services: {web: {image: x, privileged: true}}"}, nil)
	if _, err := l.try(t.Context(), refused); err == nil {
		t.Fatal("nothing was refused")
	}
	if answer := get(t, first, "/"); answer != "old" {
		t.Fatalf("after a refused deployment it answers %q", answer)
	}
	var last store.StackSpec
	for deployment := range int64(2) {
		last = l.spec(t, app, 9+deployment, files{"compose.yaml": migrated}, nil)
		last.Config.Service = "web"
		l.up(t, last)
		if answer := get(t, last.Address, "/"); answer != "new" {
			t.Errorf("it answers %q", answer)
		}
		if now := volumesOf(l.service(t, app, "db")); !slices.Equal(now, volumes) {
			t.Errorf("the database has the volumes %q, and had %q", now, volumes)
		}
		if left := l.old(t, app); len(left) > 0 {
			t.Errorf("%d containers of the old project are left", len(left))
		}
	}
	if err := l.Down(t.Context(), app); err != nil {
		t.Fatal(err)
	}
	if _, found, err := l.engine.VolumeLabels(t.Context(), store.OldProjectName(app)+"_data"); err != nil || !found {
		t.Errorf("the volume is gone: %v", err)
	}
}

// What is live keeps its name and address when it is brought up again, as after a failed deployment or at boot.
func TestOldProjectIsBroughtUpAgain(t *testing.T) {
	l := newLab(t)
	app, address := l.app(), l.address(t)
	l.oldProject(t, app, "7", address)
	volumes := l.oldVolumes(t, app)
	spec := l.spec(t, app, 7, files{"compose.yaml": migrated}, nil)
	spec.Config.Service, spec.Container, spec.Address = "web", app+"-7", address
	l.up(t, spec)
	if answer := get(t, address, "/"); answer != "new" {
		t.Errorf("it answers %q", answer)
	}
	if now := volumesOf(l.service(t, app, "db")); !slices.Equal(now, volumes) {
		t.Errorf("the database has the volumes %q, and had %q", now, volumes)
	}
	if left := l.old(t, app); len(left) > 0 {
		t.Errorf("%d containers of the old project are left", len(left))
	}
	l.up(t, spec)
}

// A server that is killed in the midst of it finds the rest of the old project.
func TestKilledWhileOldProjectIsMigrated(t *testing.T) {
	for _, moment := range []string{"Creating", "Created", "becomes", "Starting"} {
		t.Run(moment, func(t *testing.T) {
			l := newLab(t)
			app := l.app()
			l.oldProject(t, app, "7", l.address(t))
			volumes := l.oldVolumes(t, app)
			spec := l.spec(t, app, 8, files{"compose.yaml": migrated}, nil)
			spec.Config.Service = "web"
			l.killIn(t, spec, moment)
			l.up(t, spec)
			if now := volumesOf(l.service(t, app, "db")); !slices.Equal(now, volumes) {
				t.Errorf("the database has the volumes %q, and had %q", now, volumes)
			}
			if left := l.old(t, app); len(left) > 0 {
				t.Errorf("%d containers of the old project are left", len(left))
			}
		})
	}
}

// What only has the labels of the old project, or is another server's, is not taken down.
func TestForeignContainersOfTheOldProject(t *testing.T) {
	l := newLab(t)
	app := l.app()
	l.oldProject(t, app, "7", l.address(t))
	copied := l.old(t, app)[0].Labels
	foreign := l.foreign(t, copied)
	other := map[string]string{}
	for label, value := range copied {
		other[label] = strings.ReplaceAll(value, l.server, l.server+"x")
	}
	second := l.foreign(t, other)
	spec := l.spec(t, app, 8, files{"compose.yaml": migrated}, nil)
	spec.Config.Service = "web"
	l.up(t, spec)
	if left := l.old(t, app); len(left) != 2 {
		t.Errorf("%d containers of the old project are left, want the two foreign ones", len(left))
	}
	if err := l.Down(t.Context(), app); err != nil {
		t.Error(err)
	}
	l.stillRuns(t, foreign)
	l.stillRuns(t, second)
}
