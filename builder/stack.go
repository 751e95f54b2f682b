package builder

import (
	"context"

	"github.com/shipgate/shipgate/store"
)

// buildStack puts the commit's files where Compose finds them and builds the images of its services.
func (b *Builder) buildStack(ctx context.Context, request store.BuildRequest, config *store.ComposeConfig, snapshot Snapshot, log func(string)) (store.Artefact, error) {
	return store.Artefact{}, unsupported("source compose is")
}
