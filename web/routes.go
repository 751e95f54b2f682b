package web

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/shipgate/shipgate/store"
)

// route is one operation that takes a token.
type route struct {
	method, path string
	handler      echo.HandlerFunc
	right        store.Right // what the token needs, on the app in the path or on the server as a whole
	action       string      // how the audit log calls a use of it; empty: a read, which is not logged
}

// authorisedRoutes is the one table of who may ask for what. Lists are cut to what the token may see.
func (s *server) authorisedRoutes() []route {
	return []route{
		{http.MethodGet, "/metrics", s.metricsHandler(), store.RightRead, ""},
		{http.MethodGet, "/api/v1/apps", s.listApps, store.RightRead, ""},
		{http.MethodPost, "/api/v1/apps", s.createApp, store.RightAdmin, "create app"},
		{http.MethodGet, "/api/v1/apps/:app", s.showApp, store.RightRead, ""},
		{http.MethodPatch, "/api/v1/apps/:app", s.updateApp, store.RightAdmin, "change app"},
		{http.MethodDelete, "/api/v1/apps/:app", s.destroyApp, store.RightAdmin, "destroy app"},
		{http.MethodGet, "/api/v1/status", s.listStatus, store.RightRead, ""},
		{http.MethodPost, "/api/v1/apps/:app/stop", s.stopApp, store.RightDeploy, "stop app"},
		{http.MethodPost, "/api/v1/apps/:app/start", s.startApp, store.RightDeploy, "start app"},
		{http.MethodPost, "/api/v1/apps/:app/restart", s.restartApp, store.RightDeploy, "restart app"},
		{http.MethodPost, "/api/v1/apps/:app/purge", s.purgeSite, store.RightDeploy, "purge site"},
		{http.MethodGet, "/api/v1/apps/:app/plan", s.planApp, store.RightRead, ""},
		{http.MethodGet, "/api/v1/apps/:app/env", s.listEnv, store.RightEnv, ""},
		{http.MethodPatch, "/api/v1/apps/:app/env", s.changeEnv, store.RightEnv, "change env"},
		{http.MethodGet, "/api/v1/apps/:app/logs", s.followLogs, store.RightRead, ""},
		{http.MethodGet, "/api/v1/apps/:app/deployments", s.listDeployments, store.RightRead, ""},
		{http.MethodPost, "/api/v1/apps/:app/deployments", s.createDeployment, store.RightDeploy, "deploy"},
		{http.MethodPost, "/api/v1/apps/:app/uploads", s.createUpload, store.RightDeploy, "upload files"},
		{http.MethodGet, "/api/v1/deployments/:deployment", s.showDeployment, store.RightRead, ""},
		{http.MethodGet, "/api/v1/deployments/:deployment/events", s.followEvents, store.RightRead, ""},
		{http.MethodPost, "/api/v1/deployments/:deployment/cancel", s.cancelDeployment, store.RightDeploy, "cancel"},
		{http.MethodGet, "/api/v1/tokens", s.listTokens, store.RightAdmin, ""},
		{http.MethodPost, "/api/v1/tokens", s.createToken, store.RightAdmin, "create token"},
		{http.MethodDelete, "/api/v1/tokens/:token", s.revokeToken, store.RightAdmin, "revoke token"},
		{http.MethodGet, "/api/v1/github", s.showGitHub, store.RightAdmin, ""},
		{http.MethodPut, "/api/v1/github", s.connectGitHub, store.RightAdmin, "connect GitHub"},
		{http.MethodDelete, "/api/v1/github", s.disconnectGitHub, store.RightAdmin, "disconnect GitHub"},
		{http.MethodPost, "/api/v1/github/setup", s.beginSetup, store.RightAdmin, "begin GitHub setup"},
		{http.MethodGet, "/api/v1/github/deliveries", s.listDeliveries, store.RightAdmin, ""},
		{http.MethodGet, "/api/v1/registries", s.listRegistries, store.RightAdmin, ""},
		{http.MethodPut, "/api/v1/registries/:host", s.setRegistry, store.RightAdmin, "store registry login"},
		{http.MethodDelete, "/api/v1/registries/:host", s.removeRegistry, store.RightAdmin, "remove registry login"},
		{http.MethodPost, "/api/v1/gc", s.collect, store.RightAdmin, "collect garbage"},
		{http.MethodGet, "/api/v1/apps/:app/trust", s.listTrust, store.RightAdmin, ""},
		{http.MethodPost, "/api/v1/apps/:app/trust", s.addTrust, store.RightAdmin, "add trust"},
		{http.MethodDelete, "/api/v1/apps/:app/trust/:trust", s.removeTrust, store.RightAdmin, "remove trust"},
		{http.MethodGet, "/api/v1/audit", s.showAudit, store.RightAdmin, ""},
		{http.MethodGet, "/api/v1/doctor", s.diagnose, store.RightAdmin, ""},
	}
}

const exchangePath = "/api/v1/oidc/exchange"
