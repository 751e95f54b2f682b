// Package web is the HTTP API, the pages and the routing of git and webhooks.
package web

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"

	"github.com/shipgate/shipgate/store"
)

// Runner is what the API asks of the strategy runner.
type Runner interface {
	Rollback(ctx context.Context, app string, to int64) (store.Deployment, error)
	Reroute(ctx context.Context, app string) error
	SetCallers(ctx context.Context) error
	Destroy(ctx context.Context, app string) error
	StopApp(ctx context.Context, app string) error
	StartApp(ctx context.Context, app string) error
	PurgeSite(ctx context.Context, app, under string) (releases int, err error)
	Restart(ctx context.Context, app string) (store.Deployment, error)
}

// Repositories is what the API asks of the git side.
type Repositories interface {
	http.Handler
	// Resolve finds the commit of a branch, tag or commit id; "" is the deploy branch.
	Resolve(ctx context.Context, app, ref string) (sha, subject string, err error)
	DeployBranch(ctx context.Context, app store.App) (name, sha string, err error)
	// File reads a file at the top of a commit; false when there is none.
	File(ctx context.Context, app, sha, name string) (content []byte, found bool, err error)
	// Upload makes a commit of a tar stream.
	Upload(ctx context.Context, app store.App, subject string, content io.Reader) (store.Upload, error)
	Destroy(ctx context.Context, app string) error
}

// GitHub is what the API and the pages ask of the GitHub side.
type GitHub interface {
	http.Handler // POST /webhooks/github
	Connect(ctx context.Context, access store.ForgeAccess) (store.ForgeConnection, error)
	Connection(ctx context.Context) (store.ForgeConnection, bool, error)
	Disconnect(ctx context.Context) error
	Manifest(ctx context.Context, account, apiURL, state string) (store.ForgeSetup, error)
	CompleteSetup(ctx context.Context, apiURL, code string) (store.ForgeConnection, error)
	// RepositoryIDs gives the numbers of a repository and of its owner, which outlive their names.
	RepositoryIDs(ctx context.Context, owner, name string) (repository, ownerID string, err error)
}

// Logs writes the lines of a running container.
type Logs func(ctx context.Context, container string, tail int, follow bool, write func(line string)) error

// Report is what the doctor found.
type Report struct {
	ServerID string          `json:"server_id"`
	ProxyPID int             `json:"proxy_pid"`
	Findings []store.Finding `json:"findings"`
}

// Options are the collaborators of the API.
type Options struct {
	Store        *store.Store
	Runner       Runner
	Repositories Repositories
	GitHub       GitHub
	Identities   Identities
	Logs         Logs
	Doctor       func(ctx context.Context) Report
	Destroyed    func(ctx context.Context, app string, withData bool) error   // removes artefacts, and volumes with the data
	Volumes      func(ctx context.Context, app string) ([]string, error)      // of the app, on the engine; nil: none
	ImageVolumes func(ctx context.Context, image string) (string, error)      // the paths of its VOLUME lines, one a line; nil: not known
	Collect      func(ctx context.Context, dry bool) ([]store.Garbage, error) // removes, or dry only lists, what nothing needs
	URL          func(host string) string
	BaseURL      func() string   // the public address of this server, without a slash at the end
	Lifetime     context.Context // ends when the server stops, and with it the streams, which may have no end of their own
	// TrustedProxies are the networks of proxies in front of this server whose X-Forwarded-For is believed.
	TrustedProxies []netip.Prefix
	Heartbeat      time.Duration // how often a silent stream gives a sign of life; 0: 15 s
	Version        string
	Logger         *slog.Logger
}

// maxBody bounds what the API reads of a request; pushes have limits of their own.
const maxBody = "1M"

type server struct{ Options }

// New makes the handler of everything that the server's own address serves.
func New(options Options) http.Handler {
	options.Heartbeat = cmp.Or(options.Heartbeat, heartbeat)
	if options.Lifetime == nil {
		options.Lifetime = context.Background()
	}
	if options.BaseURL == nil {
		options.BaseURL = func() string { return "" }
	}
	s := &server{options}
	return clientAddress(options.TrustedProxies, boundBodies(splitGit(options.Repositories, s.router())))
}

func (s *server) router() *echo.Echo {
	router := echo.New()
	router.HideBanner, router.HidePort = true, true
	router.IPExtractor = echo.ExtractIPDirect() // behind a trusted proxy, clientAddress has put the client's there
	router.HTTPErrorHandler = s.answerError
	router.Use(middleware.Recover(), sayProtocol, unless(sameOrigin, webhookPath), unless(middleware.BodyLimit(maxBody), webhookPath, uploadPath))
	router.POST(webhookPath, echo.WrapHandler(s.GitHub))
	router.GET("/healthz", s.alive)
	router.GET("/readyz", s.ready)
	router.GET("/api/v1/openapi.json", openAPI)
	router.GET("/schema/shipgate.json", repoFileSchema)
	router.POST(exchangePath, s.exchange, s.limitExchanges())
	for _, r := range s.authorisedRoutes() {
		router.Add(r.method, r.path, r.handler, s.allow(r.right, r.action))
	}
	s.routePages(router)
	return router
}

// protocol is the major version of the API, which clients compare with theirs.
const protocol = "1"

func sayProtocol(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		c.Response().Header().Set("Shipgate-Protocol", protocol)
		return next(c)
	}
}

const webhookPath = "/webhooks/github"

// unless leaves some paths alone: deliveries have a limit of their own and a signature that they are trusted by, and uploads
// have a limit of their own.
func unless(middleware echo.MiddlewareFunc, paths ...string) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		limited := middleware(next)
		return func(c echo.Context) error {
			if slices.Contains(paths, c.Path()) {
				return next(c)
			}
			return limited(c)
		}
	}
}

// routePages has no route that takes a token: pages go by the session alone, and the API by tokens alone.
func (s *server) routePages(router *echo.Echo) {
	router.GET("/", s.overviewPage, s.page)
	router.GET("/login", s.loginPage, s.page)
	router.POST("/login", s.signIn, s.page)
	router.POST("/logout", s.signOut, s.page)
	router.GET("/setup/github", s.setupPage, s.page)
	router.GET("/deployments/:deployment", s.deploymentPage, s.page)
	router.GET("/deployments/:deployment/summary", s.deploymentSummary, s.page)
	router.GET("/deployments/:deployment/events", s.deploymentEvents, s.page)
	router.GET("/deployments/:deployment/log", s.deploymentText, s.page)
	router.POST("/deployments/:deployment/cancel", s.cancelByForm, s.page)
	router.POST("/deployments/:deployment/rollback", s.rollbackByForm, s.page)
	router.GET("/assets/:asset", asset)
}

// splitGit sends /APP.git/… to the git side, which checks tokens and sizes itself.
func splitGit(git http.Handler, rest http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		first, _, found := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		if found && strings.HasSuffix(first, ".git") {
			git.ServeHTTP(w, r)
			return
		}
		rest.ServeHTTP(w, r)
	})
}
