package deploy

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/shipgate/shipgate/store"
)

// attempt is one process's work on one deployment. All it knows can be read again from the store.
type attempt struct {
	*Runner
	d       store.Deployment
	app     store.App
	config  store.Config
	release store.Release // zero until built
	env     map[string]string
	masked  *strings.Replacer
	logger  *slog.Logger

	watched <-chan store.ContainerEvent // of the new container, from before it was started
	held    bool                        // this process has parked the app's requests
	serving *store.Target               // of what is live: where its requests go now, whatever one would say of it anew
	earlier []store.EarlierSite         // for a site: where files of earlier releases are
}

func (r *Runner) newAttempt(ctx context.Context, d store.Deployment, logger *slog.Logger) (*attempt, error) {
	app, err := r.Store.App(ctx, d.App)
	return &attempt{Runner: r, d: d, app: app, logger: logger, masked: strings.NewReplacer()}, err
}

// load reads the config and env that the deployment is made with: those of its Release, or the app's present ones.
func (a *attempt) load(ctx context.Context) error {
	if a.config != nil {
		return a.findEarlier(ctx)
	}
	if a.d.Release == 0 {
		return a.useCurrentConfig(ctx)
	}
	if err := a.useRelease(ctx, a.d.Release); err != nil {
		return err
	}
	return a.findEarlier(ctx)
}

func (a *attempt) useCurrentConfig(ctx context.Context) (err error) {
	if a.env, err = a.Store.Env(ctx, a.app.Name); err != nil {
		return err
	}
	a.masked = maskOf(a.env)
	if a.config, err = store.DecodeConfig(a.app.Source, a.app.Config); err != nil {
		return err
	}
	a.config, err = store.WithStrategy(a.config, a.d.AskedStrategy)
	return err
}

// useRelease makes the attempt speak of a Release, with the config and env it was made with.
func (a *attempt) useRelease(ctx context.Context, id int64) (err error) {
	if a.release, err = a.Store.Release(ctx, id); err != nil {
		return err
	}
	if a.env, err = a.Store.OpenEnv(a.release); err != nil {
		return err
	}
	a.masked = maskOf(a.env)
	a.config, err = store.DecodeConfig(a.release.Source, a.release.Config)
	return err
}

// maskOf hides the app's secret values.
func maskOf(env map[string]string) *strings.Replacer {
	return store.MaskOf(slices.Collect(maps.Values(env))...)
}

// say adds one line to the history. It is not worth failing a deployment for.
func (a *attempt) say(ctx context.Context, kind, format string, args ...any) {
	event := store.Event{Kind: kind, Text: a.masked.Replace(fmt.Sprintf(format, args...))}
	if err := a.Store.Log(context.WithoutCancel(ctx), a.d.ID, event); err != nil {
		a.logger.Error("write event", "error", err)
	}
}

func (a *attempt) sprintf(format string, args ...any) string { return fmt.Sprintf(format, args...) }

func (a *attempt) isSite() bool { return a.release.Artefact.Site != "" }

// isStack is known also while nothing of the release can be read.
func (a *attempt) isStack() bool { return a.app.Source == store.SourceCompose }

// target is where this deployment's requests go.
func (a *attempt) target() store.Target {
	if a.serving != nil {
		return *a.serving
	}
	if !a.isSite() {
		return store.Target{Deployment: a.d.ID, Address: a.d.Address}
	}
	target := store.Target{Deployment: a.d.ID, Site: a.sitePath(), Earlier: a.earlier}
	if static, ok := a.config.(*store.StaticConfig); ok {
		target.SPA, target.CleanURLs = static.SPA, static.CleanURLs
	}
	return target
}

// spec says how the deployment's container runs: a pure function of the release and the stored name and address.
func (a *attempt) spec() (store.ContainerSpec, error) {
	address, err := netip.ParseAddrPort(a.d.Address)
	if err != nil {
		return store.ContainerSpec{}, fmt.Errorf("read stored address: %w", err)
	}
	spec := a.containerSpec()
	spec.Address = address
	return spec, nil
}

// containerSpec is the spec but for the address.
func (a *attempt) containerSpec() store.ContainerSpec {
	shared := a.config.Shared()
	env := map[string]string{
		"SHIPGATE_APP":        a.d.App,
		"SHIPGATE_DEPLOYMENT": strconv.FormatInt(a.d.ID, 10),
		"SHIPGATE_SHA":        a.d.SHA,
	}
	maps.Copy(env, a.env)
	env["PORT"] = strconv.Itoa(a.release.Artefact.Port) // the port that is probed and routed, whatever else was set
	return store.ContainerSpec{
		Name:       a.d.Container,
		App:        a.d.App,
		Deployment: a.containerOf(),
		Image:      a.release.Artefact.Image,
		Env:        environ(env),
		Port:       a.release.Artefact.Port,
		Calls:      shared.Calls,
		Volumes:    a.volumes(),
		Resources:  shared.Resources,
		StopSignal: shared.StopSignal,
	}
}

// containerOf gives the deployment that the container was made for: an earlier one, where a warm one was taken over.
func (a *attempt) containerOf() int64 {
	if number, ok := store.DeploymentOf(a.d.Container); ok {
		return number
	}
	return a.d.ID
}

// volumes are those of the config, and the storage of a Deno app that asked for it.
func (a *attempt) volumes() []store.Volume {
	volumes := slices.Clone(a.config.Shared().Volumes)
	if static, ok := a.config.(*store.StaticConfig); ok && static.Deno() && static.StorageEnabled {
		volumes = append(volumes, store.Volume{Name: store.StorageVolume, Path: store.DenoStorage})
	}
	return volumes
}

func environ(env map[string]string) []string {
	list := make([]string, 0, len(env))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		list = append(list, name+"="+env[name])
	}
	return list
}

// stopped reports whether the app is not to run the deployment, as far as was known when the attempt began.
func (a *attempt) stopped() bool { return a.app.Stopped(a.d.ID) }

// previous is the attempt that is live until this one is; false on a first deployment.
func (a *attempt) previous(ctx context.Context) (*attempt, bool, error) {
	live, found, err := a.Store.Live(ctx, a.d.App)
	if err != nil || !found || live.Deployment == a.d.ID {
		return nil, false, err
	}
	d, err := a.Store.Deployment(ctx, live.Deployment)
	if err != nil {
		return nil, false, err
	}
	old, err := a.newAttempt(ctx, d, a.logger)
	if err == nil {
		err = old.load(ctx)
		old.serving = &live.Target
	}
	return old, err == nil, err
}
