package deploy

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/shipgate/shipgate/store"
)

const logLines = 50

// gate waits until the new version is really healthy, or knows that it will not be.
func (a *attempt) gate(ctx context.Context) (store.Change, error) {
	if a.isSite() {
		return store.Change{}, a.gateSite()
	}
	if a.d.Strategy == store.Recreate {
		if err := a.ensureHeld(ctx); err != nil {
			return store.Change{}, err
		}
	}
	if a.watched == nil {
		var err error
		if a.watched, err = a.Engine.Watch(ctx, a.d.Container); err != nil {
			return store.Change{}, fmt.Errorf("watch new container: %w", err)
		}
	}
	return store.Change{}, a.gateContainer(ctx)
}

// gateSite makes sure that the tree is there; the router checks it again when it takes the route.
func (a *attempt) gateSite() error {
	if _, err := os.Stat(filepath.Join(a.target().Site, "manifest.json")); err != nil {
		return store.Problemf(store.CodeErrored, "the files of this release are gone").
			WithHint("shipgate deploy %s --ref %s", a.d.App, a.d.ShortSHA())
	}
	return nil
}

func (a *attempt) gateContainer(ctx context.Context) error {
	probe, successes, timeout := a.probeOf()
	bounded, cancel := context.WithTimeout(ctx, timeout)
	healthcheck, err := a.imageHealth(bounded)
	if err != nil {
		cancel()
		return err
	}
	probed := make(chan trial, 1)
	go func() { probed <- a.probeAndLive(bounded, probe, successes) }()
	result, ended, err := a.await(bounded, probed, healthcheck)
	cancel()
	if result == nil {
		last := <-probed
		result = &last
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return err
	case ended != nil:
		return a.explainEnd(ctx, *ended)
	case !result.passed:
		return a.explainTimeout(ctx, probe, *result, timeout)
	case bounded.Err() != nil && healthcheck.waiting:
		return a.explainHealthcheck(ctx, timeout)
	}
	a.sayPassed(ctx, probe, *result)
	return nil
}

// dockerHealth is the HEALTHCHECK of the image, which counts in addition to our own probe.
type dockerHealth struct{ waiting bool }

func (a *attempt) imageHealth(ctx context.Context) (*dockerHealth, error) {
	containers, err := a.Engine.List(ctx, a.d.App)
	if err != nil {
		return nil, fmt.Errorf("look at new container: %w", err)
	}
	for _, container := range containers {
		if container.Name == a.d.Container {
			return &dockerHealth{waiting: container.Health != "" && container.Health != "healthy"}, nil
		}
	}
	return &dockerHealth{}, nil
}

// await listens to the probe and to the engine at once. It gives the event that ended the container, if one did.
func (a *attempt) await(ctx context.Context, probed <-chan trial, health *dockerHealth) (*trial, *store.ContainerEvent, error) {
	var result *trial
	for result == nil || (result.passed && health.waiting) {
		select {
		case r := <-probed:
			result = &r
		case event, open := <-a.watched:
			switch {
			case !open:
				return result, nil, fmt.Errorf("watch new container: %w", context.Cause(ctx))
			case event.Kind == store.ContainerHealthy:
				health.waiting = false
			default:
				return result, &event, nil
			}
		case <-ctx.Done():
			return result, nil, nil
		}
	}
	return result, nil, nil
}

// probeAndLive probes; without a health check the container must also have lived for the liveness window, which runs
// from its start and overlaps with the probing.
func (a *attempt) probeAndLive(ctx context.Context, probe Probe, successes int) trial {
	began := time.Now()
	result := a.probeUntil(ctx, probe, successes)
	if !result.passed || probe.Path != "" {
		return result
	}
	window := newBackoff(a.config.Shared().Liveness.Or(store.DefaultLiveness)-time.Since(began), time.Hour)
	result.passed = window.wait(ctx)
	return result
}

func (a *attempt) sayPassed(ctx context.Context, probe Probe, result trial) {
	took := result.took.Round(time.Millisecond)
	if probe.Path == "" {
		a.say(ctx, "gate", "accepts connections after %s and lived for %s", took, a.config.Shared().Liveness.Or(store.DefaultLiveness))
		return
	}
	a.say(ctx, "gate", "GET %s → %s after %s (%s)", probe.Path, result.last.Text, took, probes(result.probes))
}

// explainEnd says why a container ended before it was healthy, with the last lines it wrote.
func (a *attempt) explainEnd(ctx context.Context, event store.ContainerEvent) error {
	diagnosis, err := a.diagnose(ctx)
	if err != nil {
		return err
	}
	hint := a.sprintf("shipgate logs %s --deployment %d", a.d.App, a.d.ID)
	switch {
	case event.Kind == store.ContainerOOM || diagnosis.OOMKilled:
		a.say(ctx, "gate", "the container ran out of memory")
		return store.Problemf(store.CodeFailed, "the container ran out of memory").
			WithHint("give it more: shipgate app update %s --memory 512m", a.d.App)
	case event.Kind == store.ContainerUnhealthy:
		a.say(ctx, "gate", "the image's HEALTHCHECK says unhealthy")
		return store.Problemf(store.CodeFailed, "health check failed: the image's HEALTHCHECK says unhealthy").WithHint("%s", hint)
	case event.Kind == store.ContainerRemoved:
		return store.Problemf(store.CodeErrored, "the container was removed by somebody else while it started").
			WithHint("shipgate deploy %s", a.d.App)
	}
	a.say(ctx, "gate", "the container exited with code %d", event.ExitCode)
	return store.Problemf(store.CodeFailed, "the container exited with code %d", event.ExitCode).WithHint("%s", hint)
}

// explainTimeout says what was wrong with the last answers, and where the app listens instead when that can be seen.
func (a *attempt) explainTimeout(ctx context.Context, probe Probe, result trial, timeout time.Duration) error {
	diagnosis, err := a.diagnose(ctx)
	if err != nil {
		return err
	}
	port := a.release.Artefact.Port
	if text, hint := listeningElsewhere(diagnosis.Listening, port, a.d.App); text != "" {
		a.say(ctx, "gate", "%s", text)
		return store.Problemf(store.CodeFailed, "%s", text).WithHint("%s", hint)
	}
	hint := a.sprintf("shipgate logs %s --deployment %d", a.d.App, a.d.ID)
	if probe.Path == "" {
		a.say(ctx, "gate", "port %d: %s for %s (%s)", port, result.last.Text, timeout, probes(result.probes))
		return store.Problemf(store.CodeFailed, "port %d: %s after %s", port, result.last.Text, seconds0(timeout)).WithHint("%s", hint)
	}
	text := a.sprintf("GET %s → %s for %s (%s)", probe.Path, result.last.Text, seconds0(timeout), probes(result.probes))
	if result.last.Body != "" {
		text += a.sprintf("; last answer: %q", result.last.Body)
	}
	a.say(ctx, "gate", "%s", text)
	return store.Problemf(store.CodeFailed, "health check failed: GET %s: %s after %s", probe.Path, result.last.Text, seconds0(timeout)).
		WithHint("%s", hint)
}

func (a *attempt) explainHealthcheck(ctx context.Context, timeout time.Duration) error {
	if _, err := a.diagnose(ctx); err != nil {
		return err
	}
	return store.Problemf(store.CodeFailed, "health check failed: the image's HEALTHCHECK was not healthy after %s", seconds0(timeout)).
		WithHint("shipgate logs %s --deployment %d", a.d.App, a.d.ID)
}

// diagnose looks at the container while it is still there, and puts its last lines into the history.
func (a *attempt) diagnose(ctx context.Context) (store.Diagnosis, error) {
	bounded, cancel := context.WithTimeout(ctx, a.Patience.Engine)
	defer cancel()
	diagnosis, err := a.Engine.Diagnose(bounded, a.d.Container, logLines)
	if err != nil {
		return store.Diagnosis{}, fmt.Errorf("look at new container: %w", err)
	}
	if len(diagnosis.Log) == 0 {
		a.say(ctx, "log", "(%s wrote nothing)", a.d.Container)
		return diagnosis, nil
	}
	events := []store.Event{{Kind: "log", Text: a.sprintf("(last %d lines of %s)", logLines, a.d.Container)}}
	for _, line := range diagnosis.Log {
		events = append(events, store.Event{Kind: "log", Text: a.masked.Replace(line)})
	}
	if err := a.Store.Log(ctx, a.d.ID, events...); err != nil {
		return store.Diagnosis{}, err
	}
	return diagnosis, nil
}

// listeningElsewhere explains a port that refuses connections by the sockets the app does listen on.
func listeningElsewhere(listening []netip.AddrPort, port int, app string) (text, hint string) {
	var other int
	for _, socket := range listening {
		switch {
		case int(socket.Port()) == port && !socket.Addr().IsLoopback():
			return "", ""
		case int(socket.Port()) == port:
			text = fmt.Sprintf("the app listens on %s only, which cannot be reached from outside its container", socket)
			hint = fmt.Sprintf("let it listen on 0.0.0.0:%d and push again", port)
		case !socket.Addr().IsLoopback() && other == 0:
			other = int(socket.Port())
		}
	}
	if text == "" && other != 0 {
		text = fmt.Sprintf("nothing listens on port %d; the app listens on %d", port, other)
		hint = fmt.Sprintf("shipgate app update %s --port %d", app, other)
	}
	return text, hint
}

func probes(n int) string {
	if n == 1 {
		return "1 probe"
	}
	return fmt.Sprintf("%d probes", n)
}

// seconds0 writes a configured time, which has no meaningful fractions most of the time.
func seconds0(d time.Duration) string {
	if d%time.Second == 0 {
		return fmt.Sprintf("%d s", d/time.Second)
	}
	return d.String()
}
