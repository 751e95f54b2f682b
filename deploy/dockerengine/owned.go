package dockerengine

import (
	"context"
	"maps"
	"slices"
	"strconv"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	dockernetwork "github.com/docker/docker/api/types/network"

	"github.com/shipgate/shipgate/store"
)

// identity is what says whose a container is.
type identity struct {
	id, name string
	labels   map[string]string
}

// owned reports whether this server made the container. That it carries our labels does not say so: a container has those of
// its image, and an image those of the container that it was committed from. Only our call to create it gives a container
// the label that is its own name.
func (e *Engine) owned(ctx context.Context, c identity) (bool, error) {
	if c.labels[store.LabelData] != e.serverID {
		return false, nil
	}
	if c.labels[store.LabelContainer] == c.name || e.namedByCompose(c) {
		return true, nil
	}
	if c.labels[store.LabelContainer] != "" {
		return false, nil
	}
	adopted, err := e.adopted(ctx)
	return adopted[c.id] == c.name, err
}

// namedByCompose reports whether a container of a stack has the name that goes with its labels.
func (e *Engine) namedByCompose(c identity) bool {
	app, project := c.labels[store.LabelApp], c.labels[store.LabelComposeProject]
	if c.labels[store.LabelRole] != string(store.RoleStack) || app == "" {
		return false
	}
	if project != store.ProjectName(e.serverID, app) && project != store.OldProjectName(app) {
		return false
	}
	if c.name == project+"-"+c.labels[store.LabelComposeService]+"-"+c.labels[store.LabelComposeNumber] {
		return true
	}
	deployment, err := strconv.ParseInt(c.labels[store.LabelDeployment], 10, 64)
	return err == nil && (c.name == store.ContainerName(e.serverID, app, deployment) || c.name == store.OldContainerName(app, deployment))
}

// adopted returns the names, by id, of the containers that an earlier server made, which have no label with their name.
// What they are is found out and recorded once, at the first start with an engine.
func (e *Engine) adopted(ctx context.Context) (map[string]string, error) {
	if e.adopt == nil {
		return nil, nil
	}
	e.adoption.Lock()
	defer e.adoption.Unlock()
	if e.adoption.names == nil {
		names, err := e.adopt(ctx, e.unnamed)
		if err != nil {
			return nil, err
		}
		e.adoption.names = names
	}
	return e.adoption.names, nil
}

// unnamed lists the containers with this server's label that have no label with their name.
func (e *Engine) unnamed(ctx context.Context) ([]store.UnnamedContainer, error) {
	summaries, err := e.docker.ContainerList(ctx, container.ListOptions{
		All: true, Filters: filters.NewArgs(filters.Arg("label", store.LabelData+"="+e.serverID)),
	})
	if err != nil {
		return nil, e.explain("list containers", err)
	}
	var found []store.UnnamedContainer
	for _, summary := range summaries {
		if summary.Labels[store.LabelContainer] != "" {
			continue
		}
		one := store.UnnamedContainer{ID: summary.ID, Container: containerOf(summary)}
		if on := summary.NetworkSettings; on != nil {
			one.Address = fixedIn(on.Networks[store.OldNetworkName(e.serverID)])
		}
		for _, port := range summary.Ports { // only what runs has them
			if port.PublicPort != 0 {
				one.Address = port.IP + ":" + strconv.Itoa(int(port.PublicPort))
			}
		}
		found = append(found, one)
	}
	return found, nil
}

func fixedIn(endpoint *dockernetwork.EndpointSettings) string {
	if endpoint == nil || endpoint.IPAMConfig == nil {
		return ""
	}
	return endpoint.IPAMConfig.IPv4Address
}

// labels are those of what an app has on the engine.
func (e *Engine) labels(app string) map[string]string {
	return map[string]string{store.LabelApp: app, store.LabelData: e.serverID}
}

// ofApp reports whether labels are those of an app of this server. It is enough for volumes and networks, which inherit
// labels from nothing.
func (e *Engine) ofApp(labels map[string]string, app string) bool {
	return labels[store.LabelData] == e.serverID && labels[store.LabelApp] == app
}

func (e *Engine) containerLabels(spec store.ContainerSpec) map[string]string {
	labels := deploymentLabels(spec)
	maps.Copy(labels, e.labels(spec.App))
	labels[store.LabelContainer] = spec.Name
	return labels
}

// onlyOwned leaves out what is not ours.
func (e *Engine) onlyOwned(ctx context.Context, summaries []container.Summary) ([]container.Summary, error) {
	var trouble error
	owned := slices.DeleteFunc(summaries, func(summary container.Summary) bool {
		ours, err := e.owned(ctx, identity{summary.ID, nameOf(summary), summary.Labels})
		if err != nil {
			trouble = err
		}
		return !ours
	})
	return owned, trouble
}
