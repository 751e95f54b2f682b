package web

import (
	_ "embed"
	"net/http"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

//go:embed openapi.json
var openAPIDocument []byte

func openAPI(c echo.Context) error {
	return c.Blob(http.StatusOK, "application/json", openAPIDocument)
}

func (s *server) alive(c echo.Context) error { return c.String(http.StatusOK, "ok\n") }

// ready says whether a push can be taken: the database answers. An engine that is away is the deployment's trouble.
func (s *server) ready(c echo.Context) error {
	if _, err := s.Store.Apps(c.Request().Context()); err != nil {
		return err
	}
	return c.String(http.StatusOK, "ready\n")
}

func (s *server) diagnose(c echo.Context) error {
	return c.JSON(http.StatusOK, s.Doctor(c.Request().Context()))
}

// metricsHandler reads the history when it is asked; the counts of verdicts survive a restart.
func (s *server) metricsHandler() echo.HandlerFunc {
	registry := prometheus.NewRegistry()
	registry.MustRegister(newVerdicts(s.Store, s.Logger), newPhases(s.Store, s.Logger), newRuntimeMetrics(s.Store, s.Logger))
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "shipgate_build_info", Help: "The version that runs."}, []string{"version"})
	build.WithLabelValues(s.Version).Set(1)
	registry.MustRegister(build)
	return echo.WrapHandler(promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
}
