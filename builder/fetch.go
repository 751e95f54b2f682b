package builder

import (
	"context"

	"github.com/shipgate/shipgate/store"
)

// fetchImage finds out what a reference means now and gets that image.
func (b *Builder) fetchImage(ctx context.Context, request store.BuildRequest, config *store.ImageConfig, log func(string)) (store.Artefact, error) {
	return store.Artefact{}, unsupported("source image is")
}
