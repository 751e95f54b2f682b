package builder

import (
	"context"
	"fmt"
	"path"

	"github.com/shipgate/shipgate/store"
)

// material is what a static app is made of: a directory of the commit, or of what the app's build made of it.
type material struct {
	Snapshot
	directory string // that is published
	name      string // of the directory, for people
	hint      string // how to name another one
}

// buildStatic publishes files as a site, or makes an image that runs them with Deno.
func (b *Builder) buildStatic(ctx context.Context, request store.BuildRequest, config *store.StaticConfig, snapshot Snapshot, log func(string)) (store.Artefact, error) {
	if err := b.sites.sweep(); err != nil {
		return store.Artefact{}, err
	}
	directory := path.Clean(config.PublishDir)
	files := material{
		Snapshot: snapshot, directory: directory, name: "publish_dir " + directory,
		hint: fmt.Sprintf("commit it, or name another: shipgate app update %s --publish-dir DIR", request.App),
	}
	if config.Build != nil {
		output, err := b.sites.newOutput()
		if err != nil {
			return store.Artefact{}, diskProblem(b.sites.dir, err)
		}
		defer output.remove()
		if err := b.runStaticBuild(ctx, request, config.Build, snapshot, output, log); err != nil {
			return store.Artefact{}, err
		}
		files = material{
			Snapshot: output, directory: ".", name: "build.output " + path.Clean(config.Build.Output),
			hint: `see what the command makes and where; "build" is in the config: shipgate app show ` + request.App,
		}
	}
	if config.Deno() {
		return b.buildDeno(ctx, request, config, files, log)
	}
	return b.buildSite(ctx, request, files, log)
}
