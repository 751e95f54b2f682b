package dockerengine

import (
	"context"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/filters"
	dockernetwork "github.com/docker/docker/api/types/network"

	"github.com/shipgate/shipgate/store"
)

// DropDoubles removes networks of an app's stack until there is one of each name. The engine takes a name twice when a Compose
// is ended while it makes a network and the next one begins, and then nothing can be started on either. What is used stays.
func (e *Engine) DropDoubles(ctx context.Context, app string) error {
	found, err := e.docker.NetworkList(ctx, dockernetwork.ListOptions{Filters: filters.NewArgs(
		filters.Arg("label", store.LabelData+"="+e.serverID), filters.Arg("label", store.LabelApp+"="+app),
	)})
	if err != nil {
		return e.explain("list networks of the stack", err)
	}
	named := map[string][]dockernetwork.Summary{}
	for _, one := range found {
		named[one.Name] = append(named[one.Name], one)
	}
	for _, doubles := range named {
		slices.SortFunc(doubles, func(a, b dockernetwork.Summary) int { return b.Created.Compare(a.Created) }) // the newest is used the least
		if err := e.keepOne(ctx, doubles); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) keepOne(ctx context.Context, doubles []dockernetwork.Summary) (err error) {
	left := len(doubles)
	for _, one := range doubles {
		if left == 1 {
			return nil
		}
		removeErr := e.docker.NetworkRemove(ctx, one.ID)
		if removeErr == nil || errdefs.IsNotFound(removeErr) {
			left--
			continue
		}
		err = e.explain(fmt.Sprintf("remove network %s, which is there twice", one.Name), removeErr)
	}
	if left == 1 {
		return nil
	}
	return err
}
