package compose

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/shipgate/shipgate/store"
)

// bringing is one attempt to bring a stack up. Each part can be repeated, so after a crash it begins anew.
type bringing struct {
	*Stacks
	plugin plugin
	r      *rendering
	model  []byte
	before containers // that were there when it began
	remake bool       // what has ended is made anew
	said   *tail      // by the plugin
	log    func(string)
}

// bringUp begins again where the engine made a network or a container only after the plugin that had asked for it was ended, and
// where a container can only be made anew.
func (s *Stacks) bringUp(ctx context.Context, r *rendering, model []byte, before containers, log func(string)) error {
	found, err := s.findPlugin(ctx)
	if err != nil {
		return err
	}
	found.env = slices.Concat(found.env, r.env)
	remake := false
	for try := 1; ; try++ {
		b := &bringing{Stacks: s, plugin: found, r: r, model: model, before: before, remake: remake, said: &tail{}, log: log}
		err := b.do(ctx)
		remake = errors.Is(err, errLastRunLeft)
		again := remake || errors.Is(err, errDoubleNetwork) || errors.Is(err, errLateContainer)
		if !again || try == busyTries {
			return err
		}
		if err := s.options.Engine.DropDoubles(ctx, r.spec.App); err != nil {
			return err
		}
		if before, err = s.containers(ctx, r.spec.App, true); err != nil {
			return err
		}
	}
}

// do has Compose create what is missing, puts the routed container where the proxy dials it, and only then has Compose start
// what does not run.
func (b *bringing) do(ctx context.Context) error {
	if err := b.create(ctx); err != nil {
		return err
	}
	if err := b.retireOld(ctx, b.r.spec.App, b.before.old, b.log); err != nil {
		return err
	}
	if err := b.connect(ctx); err != nil {
		return err
	}
	if err := b.start(ctx); err != nil {
		return err
	}
	// A plugin that was ended may have left a container whose networks were not all connected yet, and which the engine
	// started only after we had looked. Compose sees it now that it runs.
	all, err := b.look(ctx)
	if err != nil || len(detached(all, b.r)) == 0 {
		return err
	}
	if err := b.create(ctx); err != nil {
		return err
	}
	return errors.Join(b.connect(ctx), b.start(ctx))
}

func (b *bringing) look(ctx context.Context) ([]store.StackContainer, error) {
	found, err := b.containers(ctx, b.r.spec.App, true)
	return found.ours, err
}

// create has Compose make containers of all services and replace those that are not as they are to be.
func (b *bringing) create(ctx context.Context) error {
	if err := b.remove(ctx, orphans(b.before.ours, b.r)); err != nil {
		return err
	}
	if err := b.makeRoom(ctx, b.r.spec, b.before.old); err != nil {
		return err
	}
	var err error
	if half := halfMade(b.before.ours, b.r, b.remake); len(half) > 0 {
		err = b.run(ctx, slices.Concat([]string{"--no-start", "--no-deps", "--force-recreate"}, half)...)
	}
	if err == nil {
		err = b.run(ctx, "--no-start")
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	return b.explain(err)
}

func (b *bringing) run(ctx context.Context, args ...string) error {
	all := slices.Concat([]string{"-p", b.r.project.Name, "--env-file", os.DevNull, "-f", "-", "up", "--no-build", "--pull", "never"}, args)
	return unlessBusy(ctx, b.said, func() error {
		return b.plugin.run(ctx, b.model, func(line string) { b.said.add(line); b.log(line) }, all...)
	})
}

// connect puts the routed container on the proxy's network. Compose is not told of that network: it would make the names of
// the service and the container known to everything on it. It leaves alone a container that is on one network more.
func (b *bringing) connect(ctx context.Context) error {
	all, err := b.look(ctx)
	if err != nil {
		return err
	}
	for _, c := range all {
		switch {
		case c.Service() != b.r.built.Routed:
		case c.Name == b.r.spec.Container:
			return b.options.Engine.ConnectStack(ctx, b.r.app, c.ID, b.r.spec.Address)
		case replacing(c.Name) != "":
			return errLateContainer
		}
	}
	return fmt.Errorf("connect container %s: Compose did not create it", b.r.spec.Container)
}

// start has Compose start what does not run, in the order of the dependencies, and waits until all is as it should be.
func (b *bringing) start(ctx context.Context) error {
	settling := &settling{spec: b.r.spec, routed: b.r.built.Routed, restarts: remembered(b.before.ours), began: time.Now()}
	working := make(chan struct{})
	plugin, endPlugin := context.WithCancel(ctx)
	defer endPlugin()
	waiting, endWait := context.WithCancel(ctx)
	defer endWait()
	var failed error
	go func() {
		defer close(working)
		if failed = b.run(plugin, "--detach"); failed != nil {
			endWait()
		}
	}()
	changes := b.options.Engine.StackChanges(waiting, b.r.project.Name)
	found, err := settling.wait(waiting, b.look, changes, working)
	endPlugin()
	<-working
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case found.how != "":
		return b.accuse(ctx, found.guilty, found.how)
	case failed != nil && waiting.Err() != nil:
		return b.explainStart(ctx, settling, failed)
	}
	return err
}

// explainStart says which service kept Compose from starting the others.
func (b *bringing) explainStart(ctx context.Context, s *settling, err error) error {
	if problem := engineProblem(b.said.lines); problem != nil {
		return problem
	}
	all, lookErr := b.look(ctx)
	if lookErr != nil {
		return lookErr
	}
	for _, c := range all {
		// What Compose waited for to complete may have ended before.
		if v := s.judgeOne(c, time.Now()); v.how != "" {
			return b.accuse(ctx, c.Service(), v.how)
		}
	}
	return b.explain(err)
}

func (b *bringing) explain(err error) error {
	if problem := engineProblem(b.said.lines); problem != nil {
		return problem
	}
	return store.Problemf(store.CodeFailed, "the stack does not come up: %s", lastOf(b.said.lines, err)).WithHint("shipgate logs %s", b.r.app)
}

func (b *bringing) accuse(ctx context.Context, service, how string) error {
	b.lastLines(ctx, service)
	return store.Problemf(store.CodeFailed, "service %s %s", service, how).WithHint("shipgate logs %s", b.r.app)
}

// lastLines hands on the end of a service's log. That it cannot be had is said there too: the problem itself matters more.
func (b *bringing) lastLines(ctx context.Context, service string) {
	b.log(fmt.Sprintf("(last %d lines of %s)", lastLines, service))
	err := b.plugin.run(ctx, nil, b.log, "-p", b.r.project.Name, "logs", "--no-color", "--no-log-prefix", "--tail", fmt.Sprint(lastLines), service)
	if err != nil {
		b.log(fmt.Sprintf("the log of %s cannot be read: %v", service, err))
	}
}
