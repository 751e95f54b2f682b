package web

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/shipgate/shipgate/store"
)

const readTimeout = 5 * time.Second

// verdicts gives Prometheus the deployments by app and verdict.
type verdicts struct {
	store  *store.Store
	logger *slog.Logger
	total  *prometheus.Desc
	active *prometheus.Desc
}

func newVerdicts(from *store.Store, logger *slog.Logger) *verdicts {
	return &verdicts{
		store: from, logger: logger,
		total:  prometheus.NewDesc("shipgate_deployments_total", "Deployments that have their verdict.", []string{"app", "verdict"}, nil),
		active: prometheus.NewDesc("shipgate_deployments_unfinished", "Deployments that wait or run.", []string{"app"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (v *verdicts) Describe(descriptions chan<- *prometheus.Desc) {
	descriptions <- v.total
	descriptions <- v.active
}

// Collect implements prometheus.Collector.
func (v *verdicts) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
	defer cancel()
	counts, err := v.store.CountVerdicts(ctx)
	if err != nil {
		v.logger.Error("count deployments", "error", err)
		return
	}
	for _, count := range counts {
		if count.Verdict == "" {
			metrics <- prometheus.MustNewConstMetric(v.active, prometheus.GaugeValue, float64(count.Number), count.App)
			continue
		}
		metrics <- prometheus.MustNewConstMetric(v.total, prometheus.CounterValue, float64(count.Number), count.App, string(count.Verdict))
	}
}
