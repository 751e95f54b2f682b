package deploy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/shipgate/shipgate/store"
)

const logLines = 50

// killedExit is the exit code of a process that SIGKILL ended. We send none to a version on trial, so it was the kernel;
// engines lose the event that says so when it happens right at the start.
const killedExit = 137

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
	if a.isStack() {
		return store.Change{}, a.gateStack(ctx)
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
	healthcheck, err := a.imageHealth(ctx)
	if err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, timeout)
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
	container, err := a.newContainer(ctx)
	if err != nil {
		return nil, err
	}
	return &dockerHealth{waiting: container.Health != "" && container.Health != "healthy"}, nil
}

// newContainer gives the container as the engine has it now; an empty one when it is not there.
func (a *attempt) newContainer(ctx context.Context) (store.Container, error) {
	bounded, cancel := context.WithTimeout(ctx, a.Patience.Engine)
	defer cancel()
	containers, err := a.Engine.List(bounded, a.d.App)
	if err != nil {
		return store.Container{}, fmt.Errorf("look at new container: %w", err)
	}
	for _, container := range containers {
		if container.Name == a.d.Container {
			return container, nil
		}
	}
	return store.Container{}, nil
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
				return result, nil, errors.New("watch new container: the engine tells no more")
			case event.Kind == store.ContainerHealthy:
				health.waiting = false
			default:
				return result, &event, nil
			}
		case <-ctx.Done():
			return result, nil, nil
		}
	}
	return result, a.endedMeanwhile(), nil
}

// endedMeanwhile gives the event that came at the same moment as the probe's good result, if one did.
func (a *attempt) endedMeanwhile() *store.ContainerEvent {
	for {
		select {
		case event, open := <-a.watched:
			if open && event.Kind == store.ContainerHealthy {
				continue
			}
			if open {
				return &event
			}
		default:
		}
		return nil
	}
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
	took := milliseconds(result.took)
	if probe.Path == "" {
		text := fmt.Sprintf("port %d accepts connections after %s", a.release.Artefact.Port, took)
		if lived := a.config.Shared().Liveness.Or(store.DefaultLiveness); lived > 0 {
			text += "; lived for " + seconds0(lived)
		}
		a.say(ctx, "gate", "%s", text)
		return
	}
	a.say(ctx, "gate", "GET %s → %s after %s (%s)", probe.Path, result.last.Text, took, probes(result.probes))
}

// explainEnd says why a container ended before it was healthy, and then shows the last lines it wrote.
func (a *attempt) explainEnd(ctx context.Context, event store.ContainerEvent) error {
	if event.Kind == store.ContainerRemoved {
		return store.Problemf(store.CodeErrored, "the container was removed by somebody else while it started").
			WithHint("shipgate deploy %s", a.d.App)
	}
	diagnosis := a.diagnose(ctx)
	problem := store.Problemf(store.CodeFailed, "the container exited with code %d", event.ExitCode).WithHint("%s", a.logsHint())
	text := problem.Message
	switch {
	case event.Kind == store.ContainerOOM || diagnosis.OOMKilled:
		text = "the container ran out of memory"
		problem = store.Problemf(store.CodeFailed, "%s", text).WithHint("give it more: shipgate app update %s --memory 512m", a.d.App)
	case event.Kind == store.ContainerUnhealthy:
		text = "the image's HEALTHCHECK says unhealthy"
		problem = store.Problemf(store.CodeFailed, "health check failed: %s", text).WithHint("%s", a.logsHint())
	case event.ExitCode == killedExit:
		text = "the container was killed (exit code 137), most likely because it ran out of memory"
		problem = store.Problemf(store.CodeFailed, "%s", text).WithHint("give it more: shipgate app update %s --memory 512m", a.d.App)
	}
	a.say(ctx, "gate", "%s", text)
	a.sayLog(ctx, diagnosis.Log)
	return problem
}

// explainTimeout says what was wrong with the last answers, and where the app listens instead when that can be seen.
func (a *attempt) explainTimeout(ctx context.Context, probe Probe, result trial, timeout time.Duration) error {
	diagnosis := a.diagnose(ctx)
	port := a.release.Artefact.Port
	text, hint := listeningElsewhere(diagnosis.Listening, port, a.d.App)
	problem := store.Problemf(store.CodeFailed, "%s", text).WithHint("%s", hint)
	switch asked := fmt.Sprintf("port %d", port); {
	case text != "":
	case probe.Path == "":
		text = fmt.Sprintf("%s: %s for %s (%s)", asked, result.last.Text, seconds0(timeout), probes(result.probes))
		problem = store.Problemf(store.CodeFailed, "%s: %s after %s", asked, result.last.Text, seconds0(timeout)).WithHint("%s", a.logsHint())
	default:
		asked = "GET " + probe.Path
		text = fmt.Sprintf("%s → %s for %s (%s)", asked, result.last.Text, seconds0(timeout), probes(result.probes))
		if result.last.Body != "" {
			text += fmt.Sprintf("; last answer: %q", result.last.Body)
		}
		problem = store.Problemf(store.CodeFailed, "health check failed: %s: %s after %s", asked, result.last.Text, seconds0(timeout)).
			WithHint("%s", a.logsHint())
	}
	a.say(ctx, "gate", "%s", text)
	a.sayLog(ctx, diagnosis.Log)
	return problem
}

func (a *attempt) explainHealthcheck(ctx context.Context, timeout time.Duration) error {
	text := fmt.Sprintf("the image's HEALTHCHECK was not healthy after %s", seconds0(timeout))
	diagnosis := a.diagnose(ctx)
	a.say(ctx, "gate", "%s", text)
	a.sayLog(ctx, diagnosis.Log)
	return store.Problemf(store.CodeFailed, "health check failed: %s", text).WithHint("%s", a.logsHint())
}

func (a *attempt) logsHint() string {
	return fmt.Sprintf("shipgate logs %s --deployment %d", a.d.App, a.d.ID)
}

// diagnose looks at the container while it is still there. What is known without it is worth a verdict, too.
func (a *attempt) diagnose(ctx context.Context) store.Diagnosis {
	bounded, cancel := context.WithTimeout(ctx, a.Patience.Engine)
	defer cancel()
	diagnosis, err := a.Engine.Diagnose(bounded, a.d.Container, logLines)
	if err != nil {
		a.logger.Warn("look at new container", "container", a.d.Container, "error", err)
		return store.Diagnosis{}
	}
	return diagnosis
}

// sayLog puts the container's last lines into the history.
func (a *attempt) sayLog(ctx context.Context, lines []string) {
	if len(lines) == 0 {
		a.say(ctx, "log", "(%s wrote nothing)", a.d.Container)
		return
	}
	events := []store.Event{{Kind: "log", Text: a.sprintf("(last %d lines of %s)", logLines, a.d.Container)}}
	for _, line := range lines {
		events = append(events, store.Event{Kind: "log", Text: a.masked.Replace(line)})
	}
	if err := a.Store.Log(context.WithoutCancel(ctx), a.d.ID, events...); err != nil {
		a.logger.Error("write event", "error", err)
	}
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

// milliseconds writes a time in which something answered.
func milliseconds(d time.Duration) string { return fmt.Sprintf("%d ms", d.Milliseconds()) }

// seconds0 writes a configured time, which has no meaningful fractions most of the time.
func seconds0(d time.Duration) string {
	if d%time.Second == 0 {
		return fmt.Sprintf("%d s", d/time.Second)
	}
	return d.String()
}
