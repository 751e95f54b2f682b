package builder

import (
	"context"

	"github.com/shipgate/shipgate/store"
)

// buildStatic publishes files as a site, or makes an image that runs them with Deno.
func (b *Builder) buildStatic(ctx context.Context, request store.BuildRequest, config *store.StaticConfig, snapshot Snapshot, log func(string)) (store.Artefact, error) {
	switch {
	case config.Deno():
		return store.Artefact{}, unsupported("mode deno of a static app is")
	case config.Build != nil:
		return store.Artefact{}, unsupported("building a static app's files is")
	}
	return b.buildSite(ctx, request, config, snapshot, log)
}
