package web

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

const (
	benchedApps  = 100
	benchedEach  = 50 // deployments of an app
	benchedLines = 10_000
)

// BenchmarkPages measures what a browser waits for on a server with a past.
func BenchmarkPages(b *testing.B) {
	opened, handler, cookie := newBenchServer(b)
	begun := time.Now()
	long, short := fill(b, opened)
	b.Logf("filled in %.1f s", time.Since(begun).Seconds())
	for name, path := range map[string]string{
		"overview":        "/",
		"deployment":      fmt.Sprintf("/deployments/%d", short),
		"long deployment": fmt.Sprintf("/deployments/%d", long),
	} {
		b.Run(name, func(b *testing.B) {
			var waits []time.Duration
			for b.Loop() {
				waits = append(waits, wait(b, handler, path, cookie))
			}
			slices.Sort(waits)
			b.ReportMetric(milliseconds(waits[len(waits)/2]), "p50-ms")
			b.ReportMetric(milliseconds(waits[len(waits)*99/100]), "p99-ms")
		})
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func wait(b *testing.B, handler http.Handler, path, cookie string) time.Duration {
	b.Helper()
	request := httptest.NewRequestWithContext(b.Context(), "GET", path, nil)
	request.AddCookie(&http.Cookie{Name: sessionCookie, Value: cookie})
	answer := httptest.NewRecorder()
	begun := time.Now()
	handler.ServeHTTP(answer, request)
	took := time.Since(begun)
	if answer.Code != http.StatusOK {
		b.Fatalf("%s answers %d", path, answer.Code)
	}
	return took
}

func newBenchServer(b *testing.B) (*store.Store, http.Handler, string) {
	b.Helper()
	opened, err := store.Open(b.Context(), b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { opened.Close() })
	_, token, err := opened.CreateToken(b.Context(), store.Token{Rights: store.Rights{store.RightAdmin}})
	if err != nil {
		b.Fatal(err)
	}
	options := Options{
		Store: opened, GitHub: &fakeGitHub{}, Repositories: &fakeRepositories{}, Logger: slog.New(slog.DiscardHandler),
		URL: func(host string) string { return "http://" + host },
	}
	cookie := (&server{options}).sealSession(token, time.Now().Add(time.Hour))
	return opened, New(options), cookie
}

// fill deploys every app again and again, and gives the numbers of one deployment with a long log and of a usual one.
func fill(b *testing.B, s *store.Store) (long, short int64) {
	b.Helper()
	var apps sync.WaitGroup
	for i := range benchedApps {
		name := fmt.Sprintf("app-%d", i)
		if _, err := s.CreateApp(b.Context(), store.App{Name: name, Source: store.SourceDockerfile, Hosts: []string{name + ".localhost"}, Config: []byte("{}")}); err != nil {
			b.Fatal(err)
		}
		apps.Go(func() {
			for range benchedEach / 2 {
				_, err := enqueueWithLog(b.Context(), s, name, 40)
				if err == nil {
					_, err = deployOnce(b, s, name, 40) // supersedes it
				}
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	apps.Wait()
	var errs [2]error
	short, errs[0] = deployOnce(b, s, "app-0", 40)
	long, errs[1] = deployOnce(b, s, "app-1", benchedLines)
	for _, err := range errs {
		if err != nil {
			b.Fatal(err)
		}
	}
	return long, short
}

func enqueueWithLog(ctx context.Context, s *store.Store, app string, lines int) (store.Deployment, error) {
	d, err := s.Enqueue(ctx, store.NewDeployment{App: app, Trigger: store.TriggerPush, SHA: firstCommit, Ref: "refs/heads/main", Subject: "One"})
	if err != nil {
		return d, err
	}
	log := make([]store.Event, lines)
	for i := range log {
		log[i] = store.Event{Kind: "build", Text: fmt.Sprintf("#%d [build 2/4] a line as long as the ones that a build writes, more or less", i)}
	}
	return d, s.Log(ctx, d.ID, log...)
}

func deployOnce(b *testing.B, s *store.Store, app string, lines int) (int64, error) {
	ctx := b.Context()
	d, err := enqueueWithLog(ctx, s, app, lines)
	if err != nil {
		return 0, err
	}
	if d, _, err = s.Claim(ctx, app); err != nil {
		return 0, err
	}
	env, err := s.SealEnv(nil)
	if err != nil {
		return 0, err
	}
	for _, step := range store.StepsOf(d.Strategy)[1:] {
		change := store.Change{}
		switch step {
		case store.StepBuilt:
			change.Release = &store.Release{App: app, SHA: d.SHA, Source: store.SourceDockerfile, Config: []byte("{}"), SealedEnv: env}
		case store.StepLive:
			change.Verdict = store.Succeeded
			change.Live = &store.Live{App: app, Deployment: d.ID, Release: d.Release, SHA: d.SHA, Container: store.ContainerName(s.ServerID(), app, d.ID)}
		}
		if d, err = s.Advance(ctx, d, step, change); err != nil {
			return 0, err
		}
	}
	return d.ID, nil
}
