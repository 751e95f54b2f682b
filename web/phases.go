package web

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/shipgate/shipgate/store"
)

// observed is how many of an app's newest deployments a scrape looks back at.
const observed = 200

// phases gives Prometheus how long the deployments that ended since this process began took for each step. It looks at
// the history when it is asked, so that nothing has to report to it.
type phases struct {
	store   *store.Store
	logger  *slog.Logger
	begun   time.Time
	seconds *prometheus.HistogramVec

	mu   sync.Mutex
	upTo map[string]int64 // by app: the newest deployment that was looked at
}

func newPhases(from *store.Store, logger *slog.Logger) *phases {
	return &phases{
		store: from, logger: logger, begun: time.Now(), upTo: map[string]int64{},
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "shipgate_phase_seconds", Help: "How long deployments took to reach a step from the one before.",
			Buckets: prometheus.ExponentialBuckets(0.005, 4, 10),
		}, []string{"step"}),
	}
}

// Describe implements prometheus.Collector.
func (p *phases) Describe(descriptions chan<- *prometheus.Desc) { p.seconds.Describe(descriptions) }

// Collect implements prometheus.Collector.
func (p *phases) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
	defer cancel()
	if err := p.lookBack(ctx); err != nil {
		p.logger.Error("measure deployments", "error", err)
	}
	p.seconds.Collect(metrics)
}

func (p *phases) lookBack(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	apps, err := p.store.Apps(ctx)
	if err != nil {
		return err
	}
	for _, app := range apps {
		newest, err := p.store.Deployments(ctx, app.Name, observed)
		if err != nil {
			return err
		}
		slices.Reverse(newest)
		if err := p.observe(ctx, app.Name, newest); err != nil {
			return err
		}
	}
	return nil
}

// observe takes deployments in their order, up to the first that is under way: it is looked at when it has ended.
func (p *phases) observe(ctx context.Context, app string, deployments []store.Deployment) error {
	for _, d := range deployments {
		if d.ID <= p.upTo[app] {
			continue
		}
		if !d.Step.Terminal() {
			return nil
		}
		if d.FinishedAt.After(p.begun) && !d.StartedAt.IsZero() {
			times, err := p.store.StepTimes(ctx, d.ID)
			if err != nil {
				return err
			}
			p.measure(d, times)
		}
		p.upTo[app] = d.ID
	}
	return nil
}

// measure counts the wait in the queue apart from the build.
func (p *phases) measure(d store.Deployment, times map[store.Step]time.Time) {
	p.seconds.WithLabelValues(string(store.StepQueued)).Observe(d.StartedAt.Sub(d.CreatedAt).Seconds())
	before := d.StartedAt
	for _, step := range store.StepsOf(d.Strategy)[1:] {
		reached, found := times[step]
		if !found {
			return
		}
		p.seconds.WithLabelValues(string(step)).Observe(reached.Sub(before).Seconds())
		before = reached
	}
}
