package store

// BuildRequest is all a builder needs to know.
type BuildRequest struct {
	App        string
	Deployment int64
	SHA        string
	Config     Config
	Image      string            // source image: asked for in place of the config's
	Env        map[string]string // the app's env, opened; only build secrets may reach the build
}
