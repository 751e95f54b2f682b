package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

func median(values []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

func medianRatio(over, under []time.Duration) float64 {
	var ratios []float64
	for i := range over {
		ratios = append(ratios, over[i].Seconds()/under[i].Seconds())
	}
	slices.Sort(ratios)
	return ratios[len(ratios)/2]
}

func report(what, figure, goal string) { fmt.Printf("%-58s %-28s goal %s\n", what, figure, goal) }

// memory reads the proportional set size of both processes, once they are idle, and the size of the binary.
func (b *bench) memory(ctx context.Context) error {
	select { // idle is a state of time: nothing tells of it
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(5 * time.Second):
	}
	server, err := residentKB(b.server.Process.Pid)
	if err != nil {
		return err
	}
	proxy, err := residentKB(b.doctor.ProxyPID)
	if err != nil {
		return err
	}
	binary, err := os.Stat(b.shipgate)
	if err != nil {
		return err
	}
	report("idle memory, server + proxy (PSS)", fmt.Sprintf("%.1f + %.1f MiB", float64(server)/1024, float64(proxy)/1024), "≤ 45 MiB together")
	report("binary", fmt.Sprintf("%.1f MB", float64(binary.Size())/1e6), "≤ 45 MB")
	return nil
}

func residentKB(pid int) (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "Pss:" {
			return strconv.Atoi(fields[1])
		}
	}
	return 0, fmt.Errorf("no Pss in smaps of process %d", pid)
}

// deployment is what the bench needs of `shipgate show --json`.
type deployment struct {
	ID         int64     `json:"id"`
	SHA        string    `json:"sha"`
	Step       string    `json:"step"`
	Verdict    string    `json:"verdict"`
	CreatedAt  time.Time `json:"created_at"`
	StartedAt  time.Time `json:"started_at"`
	FinishedAt time.Time `json:"finished_at"`
	Steps      map[string]time.Time
	Events     []struct {
		Step string    `json:"step"`
		At   time.Time `json:"at"`
	} `json:"events"`
}

func (b *bench) newest(ctx context.Context, app string) (deployment, error) {
	var list []deployment
	text, err := b.output(ctx, b.dir, b.shipgate, "deployments", app, "--json")
	if err != nil {
		return deployment{}, err
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil || len(list) == 0 {
		return deployment{}, fmt.Errorf("read deployments: %w", err)
	}
	return b.settled(ctx, list[0].ID)
}

// settled waits until a deployment has reaped what it replaced, so that this is not measured with the next one.
func (b *bench) settled(ctx context.Context, id int64) (deployment, error) {
	for {
		text, err := b.output(ctx, b.dir, b.shipgate, "show", strconv.FormatInt(id, 10), "--json")
		if err != nil {
			return deployment{}, err
		}
		var d deployment
		if err := json.Unmarshal([]byte(text), &d); err != nil {
			return deployment{}, fmt.Errorf("read deployment: %w", err)
		}
		if d.Step == "done" || d.Step == "undone" {
			d.Steps = map[string]time.Time{}
			for _, event := range d.Events {
				d.Steps[event.Step] = event.At
			}
			return d, nil
		}
		select {
		case <-ctx.Done():
			return d, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

const floorHook = `#!/bin/sh
# The floor: what has to be done by any means. Native git has received the push; build, run, wait until it answers.
set -e
read -r old new ref
context=$(mktemp -d)
git archive "$new" | tar -x -C "$context"
$DOCKER build -q --label shipgate-bench-floor -t shipgate-bench-floor "$context" >/dev/null
rm -rf "$context"
container=$($DOCKER run -d --label shipgate-bench-floor -e PORT=8080 shipgate-bench-floor)
address=$($DOCKER inspect -f '{{.NetworkSettings.IPAddress}}' "$container")
until curl -sf -o /dev/null "http://$address:8080/healthz"; do sleep 0.01; done
printf '%s' "$container" >serving.next
`

// prepareHello makes the example app's repository with two remotes: shipgate and the floor.
func (b *bench) prepareHello(ctx context.Context) (string, error) {
	repository, floor := filepath.Join(b.dir, "hello"), filepath.Join(b.dir, "floor.git")
	if err := os.MkdirAll(repository, 0o755); err != nil {
		return "", err
	}
	dockerfile, err := os.ReadFile("examples/hello/Dockerfile")
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(repository, "Dockerfile"), dockerfile, 0o644); err != nil {
		return "", err
	}
	if _, err := b.output(ctx, ".", "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(repository, "hello"), "./examples/hello"); err != nil {
		return "", err
	}
	if err := b.createApp(ctx, repository, "hello", "--source", "dockerfile", "--host", "hello.localhost", "--health", "/healthz"); err != nil {
		return "", err
	}
	if err := b.git(ctx, b.dir, "init", "-q", "--bare", "-b", "main", floor); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(floor, "hooks", "pre-receive"), []byte(floorHook), 0o755); err != nil {
		return "", err
	}
	return repository, b.git(ctx, repository, "remote", "add", "floor", floor)
}

// pushToLive pushes the same commits to both, in turn, with a warm build cache.
func (b *bench) pushToLive(ctx context.Context, rounds int) error {
	repository, err := b.prepareHello(ctx)
	if err != nil {
		return err
	}
	var ours, floor, outside []time.Duration
	for round := range rounds + 1 {
		if err := os.WriteFile(filepath.Join(repository, "message.txt"), fmt.Appendf(nil, "hello, version %d\n", round), 0o644); err != nil {
			return err
		}
		if err := b.commit(ctx, repository, fmt.Sprintf("Version %d", round)); err != nil {
			return err
		}
		took, err := b.timed(ctx, repository, "git", "push", "-q", "shipgate", "main")
		if err != nil {
			return err
		}
		d, err := b.newest(ctx, "hello")
		if err != nil {
			return err
		}
		base, err := b.timed(ctx, repository, "git", "push", "-q", "floor", "main")
		if err != nil {
			return err
		}
		if err := b.dropFloor(ctx); err != nil {
			return err
		}
		if round == 0 {
			continue // fills the caches of both
		}
		build := d.Steps["built"].Sub(d.CreatedAt)
		start := d.Steps["started"].Sub(d.Steps["built"])
		ours, floor, outside = append(ours, took), append(floor, base), append(outside, took-build-start)
	}
	report("push→live / floor (git receive-pack, build, run, probe)", fmt.Sprintf("%.2f× (%.0f ms / %.0f ms)", medianRatio(ours, floor),
		median(ours).Seconds()*1e3, median(floor).Seconds()*1e3), "≤ 1.15×")
	report("of a push outside build and start, git client included", fmt.Sprintf("%.0f ms", median(outside).Seconds()*1e3), "≤ 60 ms")
	return nil
}

// dropFloor removes the floor's old container after its push, as shipgate removes its own.
func (b *bench) dropFloor(ctx context.Context) error {
	_, err := b.output(ctx, filepath.Join(b.dir, "floor.git"), "sh", "-c",
		`[ ! -f serving ] || $DOCKER rm -f "$(cat serving)"; mv serving.next serving`)
	return err
}

// crashToVerdict pushes versions whose container exits at its start, and asks the engine when it did.
func (b *bench) crashToVerdict(ctx context.Context, rounds int) error {
	repository := filepath.Join(b.dir, "crash")
	if err := os.MkdirAll(repository, 0o755); err != nil {
		return err
	}
	if err := os.Link(filepath.Join(b.dir, "hello", "hello"), filepath.Join(repository, "hello")); err != nil {
		return err
	}
	dockerfile := "FROM scratch\nCOPY hello /hello\nCOPY round /round\nEXPOSE 8080\nENTRYPOINT [\"/hello\"]\n" // without its message it exits
	if err := os.WriteFile(filepath.Join(repository, "Dockerfile"), []byte(dockerfile), 0o644); err != nil {
		return err
	}
	if err := b.createApp(ctx, repository, "crash", "--source", "dockerfile", "--host", "crash.localhost", "--health", "/healthz"); err != nil {
		return err
	}
	var delays []time.Duration
	for round := range rounds {
		if err := os.WriteFile(filepath.Join(repository, "round"), []byte(strconv.Itoa(round)), 0o644); err != nil {
			return err
		}
		if err := b.commit(ctx, repository, "Crash"); err != nil {
			return err
		}
		began := time.Now()
		_, _ = b.output(ctx, repository, "git", "push", "shipgate", "main") // refused
		d, err := b.newest(ctx, "crash")
		if err != nil {
			return err
		}
		if d.Verdict != "failed" {
			return fmt.Errorf("deployment %d of a crashing app is %q", d.ID, d.Verdict)
		}
		died, err := b.firstDeath(ctx, d.ID, began)
		if err != nil {
			return err
		}
		delays = append(delays, d.FinishedAt.Sub(died))
	}
	report("exit of the new container → verdict", fmt.Sprintf("%.0f ms", median(delays).Seconds()*1e3), "≤ 150 ms")
	return nil
}

func (b *bench) firstDeath(ctx context.Context, id int64, since time.Time) (time.Time, error) {
	text, err := b.output(ctx, b.dir, "docker", "events", "--since", strconv.FormatInt(since.Unix(), 10), "--until", strconv.FormatInt(time.Now().Unix()+1, 10),
		"--filter", "event=die", "--filter", "label=dev.shipgate.deployment="+strconv.FormatInt(id, 10), "--format", "{{.TimeNano}}")
	if err != nil {
		return time.Time{}, err
	}
	fields := strings.Fields(text)
	if len(fields) == 0 {
		return time.Time{}, fmt.Errorf("the engine saw no end of the container of deployment %d", id)
	}
	nanos, err := strconv.ParseInt(fields[0], 10, 64)
	return time.Unix(0, nanos), err
}

// staticSite changes one file of many.
func (b *bench) staticSite(ctx context.Context, files, rounds int) error {
	repository := filepath.Join(b.dir, "site")
	for n := range files {
		path := filepath.Join(repository, "public", fmt.Sprintf("d%03d", n/100), fmt.Sprintf("page-%05d.html", n))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		body := strings.Repeat(fmt.Sprintf("<p>This is line of page %d, which differs from the others.</p>\n", n), 8+n%56)
		if err := os.WriteFile(path, []byte(body), 0o644); err != nil {
			return err
		}
	}
	if err := b.createApp(ctx, repository, "site", "--source", "static", "--publish-dir", "public", "--host", "site.localhost"); err != nil {
		return err
	}
	if err := b.commit(ctx, repository, "All"); err != nil {
		return err
	}
	first, err := b.timed(ctx, repository, "git", "push", "-q", "shipgate", "main")
	if err != nil {
		return err
	}
	var changed []time.Duration
	for round := range rounds {
		if err := os.WriteFile(filepath.Join(repository, "public", "d000", "page-00000.html"), fmt.Appendf(nil, "<p>round %d</p>\n", round), 0o644); err != nil {
			return err
		}
		if err := b.commit(ctx, repository, "One file"); err != nil {
			return err
		}
		took, err := b.timed(ctx, repository, "git", "push", "-q", "shipgate", "main")
		if err != nil {
			return err
		}
		changed = append(changed, took)
		if _, err := b.newest(ctx, "site"); err != nil {
			return err
		}
	}
	report(fmt.Sprintf("static site of %d files, first push", files), fmt.Sprintf("%.1f s", first.Seconds()), "none")
	report(fmt.Sprintf("static site of %d files, one changed: push→live", files), fmt.Sprintf("%.2f s", median(changed).Seconds()), "≤ 1 s")
	return nil
}
