package builder

import (
	"context"

	"github.com/shipgate/shipgate/store"
)

func (b *Builder) buildDeno(ctx context.Context, request store.BuildRequest, config *store.StaticConfig, files material, log func(string)) (store.Artefact, error) {
	return store.Artefact{}, unsupported("mode deno of a static app is")
}
