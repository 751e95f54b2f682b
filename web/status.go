package web

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"strconv"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/shipgate/shipgate/store"
)

// listStatus says of each app that the token may read whether it does its work.
func (s *server) listStatus(c echo.Context) error {
	all, err := s.Store.AppStatuses(c.Request().Context(), "")
	if err != nil {
		return err
	}
	token := c.Get(tokenKey).(store.Token)
	shown := []store.AppStatus{}
	for _, status := range all {
		if token.May(store.RightRead, status.App) {
			shown = append(shown, status)
		}
	}
	return c.JSON(http.StatusOK, shown)
}

// stopApp stops an app until it is started, or until a newer deployment is live.
func (s *server) stopApp(c echo.Context) error { return s.changeWanted(c, s.Runner.StopApp) }

func (s *server) startApp(c echo.Context) error { return s.changeWanted(c, s.Runner.StartApp) }

func (s *server) changeWanted(c echo.Context, change func(ctx context.Context, app string) error) error {
	ctx := c.Request().Context()
	if err := change(ctx, c.Param("app")); err != nil {
		return err
	}
	app, err := s.Store.App(ctx, c.Param("app"))
	if err != nil {
		return err
	}
	return s.answerApp(c, http.StatusOK, app)
}

// restartApp deploys what is live once more.
func (s *server) restartApp(c echo.Context) error {
	ctx := c.Request().Context()
	d, err := s.Runner.Restart(ctx, c.Param("app"))
	if err != nil {
		return err
	}
	shown, err := s.deploymentJSON(ctx, d)
	if err != nil {
		return err
	}
	c.Set(deploymentKey, d.ID)
	c.Response().Header().Set("Location", "/api/v1/deployments/"+strconv.FormatInt(d.ID, 10))
	return c.JSON(http.StatusAccepted, shown)
}

type purge struct {
	Path string `json:"path"`
}

// purgeSite has files of earlier releases of a site served no longer.
func (s *server) purgeSite(c echo.Context) error {
	var request purge
	if err := decode(c, &request); err != nil {
		return err
	}
	noteDetail(c, "%s", cmp.Or(request.Path, "all files of earlier releases"))
	releases, err := s.Runner.PurgeSite(c.Request().Context(), c.Param("app"), request.Path)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, map[string]int{"releases": releases})
}

func (s *server) statusOf(ctx context.Context, app string) (store.AppStatus, error) {
	statuses, err := s.Store.AppStatuses(ctx, app)
	if err != nil {
		return store.AppStatus{}, err
	}
	return statuses[0], nil
}

// runtimeMetrics gives Prometheus the states of the apps that have been live.
type runtimeMetrics struct {
	store    *store.Store
	logger   *slog.Logger
	up       *prometheus.Desc
	wanted   *prometheus.Desc
	restarts *prometheus.Desc
}

func newRuntimeMetrics(from *store.Store, logger *slog.Logger) *runtimeMetrics {
	app := []string{"app"}
	return &runtimeMetrics{
		store: from, logger: logger,
		up:       prometheus.NewDesc("shipgate_app_up", "1 when what is live of the app runs, and is healthy where its image can tell.", app, nil),
		wanted:   prometheus.NewDesc("shipgate_app_wanted", "0 when the app was stopped on purpose.", app, nil),
		restarts: prometheus.NewDesc("shipgate_app_restarts", "How often the engine has restarted the live container.", app, nil),
	}
}

// Describe implements prometheus.Collector.
func (m *runtimeMetrics) Describe(descriptions chan<- *prometheus.Desc) {
	descriptions <- m.up
	descriptions <- m.wanted
	descriptions <- m.restarts
}

// Collect implements prometheus.Collector.
func (m *runtimeMetrics) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
	defer cancel()
	statuses, err := m.store.AppStatuses(ctx, "")
	if err != nil {
		m.logger.Error("read states of apps", "error", err)
		return
	}
	gauge := func(description *prometheus.Desc, value int, app string) {
		metrics <- prometheus.MustNewConstMetric(description, prometheus.GaugeValue, float64(value), app)
	}
	for _, status := range statuses {
		if status.State == store.AppNever {
			continue
		}
		gauge(m.up, oneIf(status.Up), status.App)
		gauge(m.wanted, oneIf(status.State != store.AppStopped), status.App)
		gauge(m.restarts, status.Restarts, status.App)
	}
}

func oneIf(is bool) int {
	if is {
		return 1
	}
	return 0
}
