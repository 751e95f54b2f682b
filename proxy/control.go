package proxy

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/shipgate/shipgate/store"
)

// controlBodyLimit bounds what a control request may carry.
const controlBodyLimit = 1 << 20

// The bodies of the control API besides store.Route, store.Hold, store.Problem and Status. Durations are nanoseconds.
type (
	drainRequest struct {
		Deployment int64         `json:"deployment"`
		Limit      time.Duration `json:"limit"`
	}
	leftAnswer struct {
		Left int `json:"left"`
	}
	upgradeRequest struct {
		Executable string `json:"executable"`
	}
)

// errMoved tells a caller that reached us while our sockets went to a successor to ask again.
var errMoved = store.Problemf(store.CodeUnreachable, "the proxy is being replaced").WithHint("try again")

// controlAPI is what the server may ask of us: HTTP and JSON on a socket that only its user can open.
func (p *process) controlAPI() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", answering(func(*http.Request) (any, error) { return p.status(), nil }))
	mux.HandleFunc("PUT /v1/settings", answering(p.putSettings))
	mux.HandleFunc("PUT /v1/internal", answering(p.putCallTable))
	mux.HandleFunc("POST /v1/stop", answering(func(*http.Request) (any, error) { p.stop(); return nil, nil }))
	mux.HandleFunc("GET /v1/routes", answering(func(*http.Request) (any, error) { return p.router.table.Load().routes(), nil }))
	mux.HandleFunc("PUT /v1/apps/{app}/route", answering(p.putRoute))
	mux.HandleFunc("DELETE /v1/apps/{app}/route", answering(func(r *http.Request) (any, error) {
		return nil, p.router.remove(r.PathValue("app"))
	}))
	mux.HandleFunc("POST /v1/apps/{app}/hold", answering(p.postHold))
	mux.HandleFunc("POST /v1/apps/{app}/release", answering(func(r *http.Request) (any, error) {
		return nil, p.router.release(r.PathValue("app"))
	}))
	mux.HandleFunc("POST /v1/apps/{app}/drain", answering(p.postDrain))
	mux.HandleFunc("POST /v1/upgrade", answering(p.postUpgrade))
	return mux
}

func (p *process) putRoute(r *http.Request) (any, error) {
	var route store.Route
	if err := readJSON(r, &route); err != nil {
		return nil, err
	}
	if route.App != r.PathValue("app") {
		return nil, store.Problemf(store.CodeUsage, "the route is of another app")
	}
	if err := p.router.apply(route); err != nil {
		return nil, err
	}
	p.Logger.Info("route", "app", route.App, "deployment", route.Target.Deployment, "generation", route.Generation)
	return nil, nil
}

func (p *process) putSettings(r *http.Request) (any, error) {
	var wanted Settings
	if err := readJSON(r, &wanted); err != nil {
		return nil, err
	}
	return nil, p.configure(r.Context(), wanted)
}

func (p *process) putCallTable(r *http.Request) (any, error) {
	var wanted store.CallTable
	if err := readJSON(r, &wanted); err != nil {
		return nil, err
	}
	return nil, p.setCallers(r.Context(), wanted)
}

func (p *process) postHold(r *http.Request) (any, error) {
	var wanted store.Hold
	if err := readJSON(r, &wanted); err != nil {
		return nil, err
	}
	left, err := p.router.hold(r.Context(), r.PathValue("app"), wanted)
	return leftAnswer{Left: left}, err
}

func (p *process) postDrain(r *http.Request) (any, error) {
	var wanted drainRequest
	if err := readJSON(r, &wanted); err != nil {
		return nil, err
	}
	left, err := p.router.drain(r.Context(), r.PathValue("app"), wanted.Deployment, wanted.Limit)
	return leftAnswer{Left: left}, err
}

func (p *process) postUpgrade(r *http.Request) (any, error) {
	var wanted upgradeRequest
	if err := readJSON(r, &wanted); err != nil {
		return nil, err
	}
	return p.handOver(r.Context(), wanted.Executable)
}

func readJSON(r *http.Request, into any) error {
	if err := json.NewDecoder(http.MaxBytesReader(nil, r.Body, controlBodyLimit)).Decode(into); err != nil {
		return store.Problemf(store.CodeUsage, "decode request: %w", err)
	}
	return nil
}

// answering turns a call into a handler that answers with JSON, errors as a store.Problem.
func answering(call func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		answer, err := call(r)
		status := http.StatusOK
		if err != nil {
			problem := problemOf(err)
			answer, status = problem, statusOf(problem.Code)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(answer) // a caller that has gone is nothing to report
	}
}

func problemOf(err error) *store.Problem {
	if problem, ok := store.AsProblem(err); ok {
		return problem
	}
	return store.Problemf(store.CodeErrored, "proxy: %w", err)
}

func statusOf(code store.Code) int {
	switch code {
	case store.CodeUsage:
		return http.StatusBadRequest
	case store.CodeNotFound:
		return http.StatusNotFound
	case store.CodeConflict:
		return http.StatusConflict
	case store.CodeUnreachable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

func unexpectedStatus(status int) error {
	return fmt.Errorf("answer of the proxy: %d %s", status, http.StatusText(status))
}
