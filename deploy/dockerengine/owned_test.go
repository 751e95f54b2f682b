package dockerengine

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	dockernetwork "github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/volume"

	"github.com/shipgate/shipgate/store"
)

// commit makes an image of a container, as docker commit does.
func (l *lab) commit(t *testing.T, name string) string {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	committed, err := l.docker.ContainerCommit(ctx, name, container.CommitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := l.docker.ImageRemove(ctx, committed.ID, image.RemoveOptions{Force: true}); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	return committed.ID
}

func (l *lab) listed(t *testing.T) (names []string) {
	t.Helper()
	found, err := l.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range found {
		names = append(names, one.Name)
	}
	return names
}

// Row 21: somebody else's container that has our labels by its image is neither counted nor touched.
func TestInheritedLabelsMeanNothing(t *testing.T) {
	l := newLab(t)
	spec := l.spec(t)
	l.start(t, spec)
	baked := l.makeImage(t, "LABEL "+store.LabelApp+"="+spec.App+" "+store.LabelDeployment+"=1 "+store.LabelContainer+"="+spec.Name)
	untouched := map[string]func() bool{}
	for name, config := range map[string]*container.Config{
		"from-our-image":   {Image: l.image, Labels: map[string]string{}},
		"from-a-commit":    {Image: l.commit(t, spec.Name)},
		"with-baked-label": {Image: baked},
		"of-a-stack": {Image: l.image, Labels: map[string]string{
			store.LabelApp: spec.App, store.LabelRole: string(store.RoleStack), store.LabelComposeProject: store.ProjectName(l.serverID, spec.App),
			store.LabelComposeService: "web", store.LabelComposeNumber: "1", store.LabelDeployment: "1",
		}},
	} {
		name = l.app() + "-" + name
		untouched[name] = l.run(t, name, config)
	}
	if names := l.listed(t); !slices.Equal(names, []string{spec.Name}) {
		t.Errorf("listed %q", names)
	}
	if states, err := l.States(t.Context(), spec.App); err != nil || len(states) != 1 {
		t.Errorf("states %+v, %v", states, err)
	}
	for name, untouched := range untouched {
		wantProblem(t, l.Stop(t.Context(), name, 0), store.CodeErrored, "left alone")
		wantProblem(t, l.Remove(t.Context(), name), store.CodeErrored, "left alone")
		wantProblem(t, l.Logs(t.Context(), name, -1, false, func(string) {}), store.CodeErrored, "left alone")
		if !untouched() {
			t.Errorf("%s was touched", name)
		}
	}
}

// A container that somebody renamed is his: it is not where the journal says.
func TestRenamedContainerIsLeftAlone(t *testing.T) {
	l := newLab(t)
	spec := l.spec(t)
	made := l.start(t, spec)
	ctx := context.WithoutCancel(t.Context())
	if err := l.docker.ContainerRename(ctx, made.ID, l.app()+"-mine"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.docker.ContainerRemove(ctx, made.ID, container.RemoveOptions{Force: true}); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	if names := l.listed(t); len(names) != 0 {
		t.Errorf("listed %q", names)
	}
	wantProblem(t, l.Remove(ctx, l.app()+"-mine"), store.CodeErrored, "left alone")
	if err := l.Remove(ctx, spec.Name); err != nil {
		t.Error(err)
	}
	if state, err := l.docker.ContainerInspect(ctx, made.ID); err != nil || !state.State.Running {
		t.Errorf("it was touched: %v", err)
	}
}

// What an earlier server made has no label with its name. Only what was adopted is ours.
func TestAdoptedContainersAreOwned(t *testing.T) {
	l := newLab(t)
	old := l.oldNetwork(t)
	spec := onOld(l.spec(t), old)
	spec.Name = store.OldContainerName(spec.App, spec.Deployment)
	ctx := context.WithoutCancel(t.Context())
	create := func(name, address string) string {
		labels := map[string]string{
			store.LabelData: l.serverID, store.LabelApp: spec.App, store.LabelDeployment: strconv.FormatInt(spec.Deployment, 10),
		}
		endpoint := &dockernetwork.EndpointSettings{IPAMConfig: &dockernetwork.EndpointIPAMConfig{IPv4Address: address}}
		network := store.OldNetworkName(l.serverID)
		created, err := l.docker.ContainerCreate(ctx, &container.Config{Image: l.image, Labels: labels}, &container.HostConfig{NetworkMode: container.NetworkMode(network)},
			&dockernetwork.NetworkingConfig{EndpointsConfig: map[string]*dockernetwork.EndpointSettings{network: endpoint}}, nil, name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.docker.ContainerRemove(ctx, created.ID, container.RemoveOptions{Force: true}) })
		if err := l.docker.ContainerStart(ctx, created.ID, container.StartOptions{}); err != nil {
			t.Fatal(err)
		}
		return created.ID
	}
	id := create(spec.Name, spec.Address.Addr().String())
	create(l.app()+"-foreign", spec.Address.Addr().Next().String())
	var found []store.UnnamedContainer
	asked := 0
	l.adopt = func(ctx context.Context, find func(context.Context) ([]store.UnnamedContainer, error)) (_ map[string]string, err error) {
		asked++
		found, err = find(ctx)
		return map[string]string{id: spec.Name}, err
	}
	if names := l.listed(t); !slices.Equal(names, []string{spec.Name}) {
		t.Errorf("listed %q", names)
	}
	addresses := map[string]string{}
	for _, one := range found {
		addresses[one.Name] = one.Address
	}
	want := map[string]string{spec.Name: spec.Address.Addr().String(), l.app() + "-foreign": spec.Address.Addr().Next().String()}
	if !maps.Equal(addresses, want) {
		t.Errorf("found %v, want %v", addresses, want)
	}
	l.start(t, spec)
	if err := l.Stop(ctx, spec.Name, 0); err != nil {
		t.Error(err)
	}
	wantProblem(t, l.Remove(ctx, l.app()+"-foreign"), store.CodeErrored, "left alone")
	if err := l.Remove(ctx, spec.Name); err != nil || asked != 1 {
		t.Errorf("asked %d times, %v", asked, err)
	}
}

// Row 60: two apps whose names joined by "-" are the same have volumes of their own, and an old one stays with its app.
func TestVolumesOfTwoAppsNeverMeet(t *testing.T) {
	l := newLab(t)
	ctx := context.WithoutCancel(t.Context())
	first, second := l.app(), l.app()+"-b"
	t.Cleanup(func() {
		for _, app := range []string{first, second} {
			if err := l.RemoveVolumes(ctx, app); err != nil {
				t.Errorf("clean up: %v", err)
			}
		}
	})
	ensure := func(app, called, want string) {
		t.Helper()
		if name, err := l.ensureVolume(ctx, app, called); err != nil || name != want {
			t.Errorf("volume %s of %s is %q, want %q: %v", called, app, name, want, err)
		}
	}
	old := store.OldVolumeName(first, "b-c")
	if old != store.OldVolumeName(second, "c") {
		t.Fatal("the old names do not meet")
	}
	if _, err := l.docker.VolumeCreate(ctx, volume.CreateOptions{Name: old, Labels: l.labels(first)}); err != nil {
		t.Fatal(err)
	}
	ensure(first, "b-c", old)
	ensure(second, "c", store.VolumeName(l.serverID, second, "c"))
	ensure(first, "other", store.VolumeName(l.serverID, first, "other"))
	if err := l.RemoveVolumes(ctx, second); err != nil {
		t.Fatal(err)
	}
	if _, err := l.docker.VolumeInspect(ctx, old); err != nil {
		t.Errorf("the other app's volume is gone: %v", err)
	}
	foreign := store.VolumeName(l.serverID, first, "taken")
	if _, err := l.docker.VolumeCreate(ctx, volume.CreateOptions{Name: foreign, Labels: l.labels(second)}); err != nil {
		t.Fatal(err)
	}
	_, err := l.ensureVolume(ctx, first, "taken")
	wantProblem(t, err, store.CodeErrored, "left alone")
}
