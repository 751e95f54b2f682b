// Package builder turns a Snapshot and a Source into a Release, streaming the log.
package builder

import (
	"context"
	"io"
	"log/slog"
	"sync"

	"github.com/docker/docker/client"

	"github.com/shipgate/shipgate/store"
)

// Snapshot is one commit's tree.
type Snapshot interface {
	// Entries lists every file in path order, symlinks and submodules among them, directories not.
	Entries() ([]store.TreeEntry, error)
	// Open reads the file, or the target of the symlink, at a path of Entries. It is called from several goroutines.
	Open(path string) (io.ReadCloser, error)
}

// Limits bounds what one build may use where the engine can hold a build to it. Zero means the default.
type Limits struct {
	Memory store.Bytes // default: three quarters of the host's memory
	CPUs   float64     // default: all of the host's but a quarter of one
}

// Options is what a Builder needs.
type Options struct {
	Docker    *client.Client // first used by the first image build: the engine may be absent until then
	SitesDir  string         // where site objects and release trees live
	StacksDir string         // where the files of stacks live
	// StackPlan reads the compose file of a checkout and says what it asks for; what it may not ask for is a failed Problem.
	StackPlan StackPlanner
	ServerID  string // value of store.LabelData on every image
	Snapshots func(ctx context.Context, app, sha string) (Snapshot, error)
	Policy    store.Policy // what the operator lets apps reach beyond the defaults
	// Login returns the credentials that an app has for a registry's host as it stands in references; nil: there are none.
	Login func(ctx context.Context, app, host string) (username, password string, found bool, err error)
	// LoginOfOthers reports whether other apps have credentials for the host that this app does not have; nil: no.
	LoginOfOthers func(ctx context.Context, app, host string) (bool, error)
	// PruneCache has the collection also remove old build cache that others may have made on the engine.
	PruneCache bool
	Limits     Limits
	Logger     *slog.Logger // nil: the default one
}

// Builder builds images and sites. It is safe for concurrent use.
type Builder struct {
	docker        *client.Client
	serverID      string
	snapshots     func(ctx context.Context, app, sha string) (Snapshot, error)
	policy        store.Policy
	pruneCache    bool
	login         func(ctx context.Context, app, host string) (username, password string, found bool, err error)
	loginOfOthers func(ctx context.Context, app, host string) (bool, error)
	limits        Limits
	logger        *slog.Logger
	sites         *siteStore
	stacksDir     string
	planStack     StackPlanner
	freeSpace     func(dir string) (int64, error) // the bytes that are free for us on a directory's disk

	collecting sync.Mutex // by one at a time, who would otherwise miss what another just removed

	hostLock sync.Mutex
	host     host // zero until the engine was asked
}

// New makes a Builder without talking to Docker.
func New(options Options) *Builder {
	b := &Builder{
		docker: options.Docker, serverID: options.ServerID, snapshots: options.Snapshots,
		limits: options.Limits, logger: options.Logger, sites: &siteStore{dir: options.SitesDir},
		policy: options.Policy, pruneCache: options.PruneCache, login: options.Login, loginOfOthers: options.LoginOfOthers,
		stacksDir: options.StacksDir, planStack: options.StackPlan,
		freeSpace: freeSpace,
	}
	if b.logger == nil {
		b.logger = slog.Default()
	}
	return b
}

// Build turns a commit into an artefact; it can be repeated for the same deployment. What is the user's fault is a
// Problem with store.CodeFailed; a build that was cancelled ends with the cause, whatever broke by it. The log gets one
// line at a time, without colour and without the build secrets.
func (b *Builder) Build(ctx context.Context, request store.BuildRequest, log func(line string)) (store.Artefact, error) {
	artefact, err := b.buildSource(ctx, request, log)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return artefact, err
}

func (b *Builder) buildSource(ctx context.Context, request store.BuildRequest, log func(line string)) (store.Artefact, error) {
	switch config := request.Config.(type) {
	case *store.DockerfileConfig:
		snapshot, err := b.snapshots(ctx, request.App, request.SHA)
		if err != nil {
			return store.Artefact{}, err
		}
		return b.build(ctx, request, b.recipeOf(request, config), snapshot, log)
	case *store.StaticConfig:
		snapshot, err := b.snapshots(ctx, request.App, request.SHA)
		if err != nil {
			return store.Artefact{}, err
		}
		return b.buildStatic(ctx, request, config, snapshot, log)
	case *store.ImageConfig:
		return b.fetchImage(ctx, request, config, log)
	case *store.ComposeConfig:
		snapshot, err := b.snapshots(ctx, request.App, request.SHA)
		if err != nil {
			return store.Artefact{}, err
		}
		return b.buildStack(ctx, request, config, snapshot, log)
	}
	return store.Artefact{}, store.Problemf(store.CodeErrored, "source %T has no builder", request.Config)
}
