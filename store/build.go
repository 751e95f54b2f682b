package store

import "context"

// BuildRequest is all a builder needs to know.
type BuildRequest struct {
	App        string
	Deployment int64
	SHA        string
	Config     Config
	Image      string            // source image: asked for in place of the config's
	Env        map[string]string // the app's env, opened; only build secrets may reach the build
	// Slot waits for the build's turn at BuildKit, which few builds use at once; nil: there is no waiting. The builder calls it before it
	// has BuildKit run steps of the user's, and releases the slot afterwards. What needs no such step waits for nobody.
	Slot func(ctx context.Context) (release func(), err error)
}
