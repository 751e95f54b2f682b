package deploy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/shipgate/shipgate/store"
)

// build makes the Release. A rollback has one already and only has to find its artefact.
func (a *attempt) build(ctx context.Context) (store.Change, error) {
	if a.d.Release != 0 {
		return store.Change{}, a.findArtefact(ctx, a.release)
	}
	plan, err := a.takeCommit(ctx)
	if err != nil {
		return store.Change{}, err
	}
	if err := a.checkCalls(ctx); err != nil {
		return store.Change{}, err
	}
	artefact, err := a.buildArtefact(ctx)
	if err != nil {
		return store.Change{}, err
	}
	release, err := a.newRelease(artefact)
	if err != nil {
		return store.Change{}, err
	}
	a.release = release
	return store.Change{Release: &release, Plan: plan}, nil
}

// takeCommit brings the commit here and lets its shipgate.yaml have its say. An image that was built elsewhere has none.
func (a *attempt) takeCommit(ctx context.Context) (*store.Plan, error) {
	if a.app.Source == store.SourceImage {
		return nil, nil
	}
	if err := a.obtain(ctx); err != nil {
		return nil, err
	}
	if a.d.Trigger == store.TriggerPush {
		if err := a.Branches.Check(ctx, a.d); err != nil {
			return nil, err
		}
	}
	return a.heedRepoFile(ctx)
}

// heedRepoFile lays the commit's shipgate.yaml over the app's config, and decides the strategy again where it says
// something that matters for that.
func (a *attempt) heedRepoFile(ctx context.Context) (*store.Plan, error) {
	text, found, err := a.Branches.File(ctx, a.d.App, a.d.SHA, store.RepoFileName)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", store.RepoFileName, err)
	}
	if !found {
		return nil, nil
	}
	file, err := store.DecodeRepoFile(text)
	if err != nil {
		return nil, err
	}
	_, notes := file.Limited(a.app.Config)
	for _, note := range notes {
		a.say(ctx, "plan", "%s: %s", store.RepoFileName, note)
	}
	config, merged, err := file.Over(a.app.Source, a.app.Config)
	if err == nil { // the Release keeps what the file says; what was asked for is for this deployment only
		config, err = store.WithStrategy(config, a.d.AskedStrategy)
	}
	if err != nil {
		return nil, err
	}
	before, plan := store.PlanOf(a.config), store.PlanOf(config)
	a.config, a.app.Config = config, merged
	if plan == before && plan.Strategy == a.d.Strategy && plan.Reason == a.d.StrategyReason {
		return nil, nil
	}
	a.say(ctx, "plan", "%s decides: %s", store.RepoFileName, plan)
	if plan.Forced {
		a.say(ctx, "plan", "blue-green was asked for and is not possible: %s", plan.Reason)
	}
	return &plan, nil
}

// findArtefact makes sure that what a Release is made of is still there.
func (r *Runner) findArtefact(ctx context.Context, release store.Release) error {
	pruned, err := r.Store.Pruned(ctx, release.ID)
	if err != nil {
		return err
	}
	present := !pruned
	if present && r.Present != nil {
		if present, err = r.Present(ctx, release.Artefact); err != nil {
			return fmt.Errorf("look for artefact: %w", err)
		}
	}
	if present {
		return nil
	}
	problem := store.Problemf(store.CodeFailed, "what deployment %d built is gone", release.Deployment)
	if release.Artefact.Digest != "" {
		return problem.WithHint("get it again: shipgate deploy %s --image %s", release.App, release.Artefact.Digest)
	}
	return problem.WithHint("build it again: shipgate deploy %s --ref %.7s", release.App, release.SHA)
}

func (a *attempt) buildArtefact(ctx context.Context) (store.Artefact, error) {
	if a.Preflight != nil {
		if err := a.Preflight(ctx); err != nil {
			return store.Artefact{}, err
		}
	}
	began := time.Now()
	bounded, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	clock := time.AfterFunc(a.Patience.Build, func() { cancel(errBuildTime) })
	defer clock.Stop()
	artefact, err := a.runBuilder(bounded, clock)
	if err != nil && errors.Is(context.Cause(bounded), errBuildTime) {
		return store.Artefact{}, store.Problemf(store.CodeFailed, "the build took longer than %s", seconds0(a.Patience.Build))
	}
	if err != nil {
		return store.Artefact{}, err
	}
	a.say(ctx, "build", "done in %s · %s", seconds(time.Since(began)), shortArtefact(artefact))
	return artefact, nil
}

// errBuildTime ends a build that takes too long.
var errBuildTime = errors.New("the build took too long")

// runBuilder has the last line of the build in the history before anything that follows. The clock stands still while the build waits
// for its slot, and begins anew with it.
func (a *attempt) runBuilder(ctx context.Context, clock *time.Timer) (store.Artefact, error) {
	lines := a.newLineLog("build")
	defer lines.close()
	return a.Builder.Build(ctx, store.BuildRequest{
		App: a.d.App, Deployment: a.d.ID, SHA: a.d.SHA, Image: a.d.Image, Config: a.config, Env: a.env,
		Slot: func(ctx context.Context) (release func(), err error) {
			clock.Stop()
			defer clock.Reset(a.Patience.Build)
			return a.builds.take(ctx, func(ahead int) { a.say(ctx, "wait", "for a build slot (%d ahead)", ahead) })
		},
	}, lines.add)
}

// shortArtefact names an image by the first digits of its digest, as a commit is named.
func shortArtefact(artefact store.Artefact) string {
	digest, isDigest := strings.CutPrefix(artefact.Image, "sha256:")
	switch {
	case artefact.Site != "":
		return artefact.Site
	case artefact.Stack != "":
		return artefact.Stack
	case artefact.Digest != "":
		return artefact.Digest
	case isDigest && len(digest) > 6:
		return "sha256:" + digest[:6] + "…"
	}
	return artefact.Image
}

func (a *attempt) newRelease(artefact store.Artefact) (store.Release, error) {
	sealed, err := a.Store.SealEnv(a.env)
	if err != nil {
		return store.Release{}, err
	}
	return store.Release{
		App: a.d.App, Deployment: a.d.ID, SHA: a.d.SHA, Artefact: artefact,
		Source: a.app.Source, Config: a.app.Config, SealedEnv: sealed,
	}, nil
}
