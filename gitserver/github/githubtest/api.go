package githubtest

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// call is one request to the API, with who makes it.
type call struct {
	*http.Request
	answer http.ResponseWriter
	who    grant
}

func (c *call) decode(into any) bool {
	if err := json.NewDecoder(c.Body).Decode(into); err != nil {
		say(c.answer, http.StatusBadRequest, "Problems parsing JSON")
		return false
	}
	return true
}

func (c *call) reply(status int, content any) {
	c.answer.Header().Set("Content-Type", "application/json; charset=utf-8")
	c.answer.WriteHeader(status)
	json.NewEncoder(c.answer).Encode(content)
}

type object = map[string]any

func (f *Fake) routes() http.Handler {
	mux := http.NewServeMux()
	const repository = "/repos/{owner}/{repo}"
	for pattern, handle := range map[string]func(*call){
		"GET /rate_limit":                                   f.rateLimit,
		"GET /app":                                          f.asApp(f.getApp),
		"GET /app/hook/config":                              f.asApp(f.getHook),
		"GET /app/hook/deliveries":                          f.asApp(f.listDeliveries),
		"POST /app/hook/deliveries/{id}/attempts":           f.asApp(f.attempt),
		"POST /app/installations/{id}/access_tokens":        f.asApp(f.mint),
		"GET " + repository + "/installation":               f.asApp(f.getInstallation),
		"GET " + repository:                                 f.in("metadata:read", f.getRepository),
		"GET " + repository + "/hooks":                      f.in("repository_hooks:read", f.listHooks),
		"POST " + repository + "/statuses/{sha}":            f.in("statuses:write", f.createStatus),
		"GET " + repository + "/commits/{ref}/statuses":     f.in("statuses:read", f.listStatuses),
		"GET " + repository + "/deployments":                f.in("deployments:read", f.listDeployments),
		"POST " + repository + "/deployments":               f.in("deployments:write", f.createDeployment),
		"POST " + repository + "/deployments/{id}/statuses": f.in("deployments:write", f.createDeploymentStatus),
	} {
		method, path, _ := strings.Cut(pattern, " ")
		mux.HandleFunc(method+" "+apiPath+path, f.known(handle))
	}
	mux.HandleFunc("POST "+apiPath+"/app-manifests/{code}/conversions", func(w http.ResponseWriter, r *http.Request) {
		f.record(r, grant{})
		f.convert(&call{r, w, grant{}})
	})
	return mux
}

// known lets in whose credentials are good.
func (f *Fake) known(handle func(*call)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who, ok := f.grantOf(r)
		f.record(r, who)
		if !ok {
			say(w, http.StatusUnauthorized, "Bad credentials")
			return
		}
		handle(&call{r, w, who})
	}
}

func (f *Fake) asApp(handle func(*call)) func(*call) {
	return func(c *call) {
		if !c.who.app {
			say(c.answer, http.StatusUnauthorized, "A JSON web token could not be decoded")
			return
		}
		handle(c)
	}
}

// in lets in who may do something in the repository of the address. Who may not is told, if at all, that there is none.
func (f *Fake) in(need string, handle func(*call, *Repository)) func(*call) {
	permission, level, _ := strings.Cut(need, ":")
	return func(c *call) {
		r := f.find(c.PathValue("owner"), c.PathValue("repo"))
		switch {
		case r == nil || !c.who.sees(r) || c.who.app:
			say(c.answer, http.StatusNotFound, "Not Found")
		case !c.who.may(permission, level) && c.who.installation:
			say(c.answer, http.StatusForbidden, "Resource not accessible by integration")
		case !c.who.may(permission, level):
			say(c.answer, http.StatusNotFound, "Not Found")
		default:
			handle(c, r)
		}
	}
}

func (f *Fake) find(owner, name string) *Repository {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.repositories[strings.ToLower(owner+"/"+name)]
}

func (f *Fake) rateLimit(c *call) {
	f.mu.Lock()
	unlimited := f.unlimited
	f.mu.Unlock()
	if unlimited {
		c.reply(http.StatusNotFound, object{"message": "Rate limiting is not enabled."})
		return
	}
	c.reply(http.StatusOK, object{"resources": object{"core": object{"limit": 5000, "remaining": 4999, "reset": time.Now().Add(time.Hour).Unix()}}})
}

func (f *Fake) getApp(c *call) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c.reply(http.StatusOK, object{"id": f.app.ID, "slug": f.app.Slug, "name": "shipgate test"})
}

// OwnerID is the number of everyone who owns a repository here.
const OwnerID = 583231

func (f *Fake) getRepository(c *call, r *Repository) {
	c.reply(http.StatusOK, object{
		"id": r.ID, "name": r.Name, "full_name": r.FullName(), "private": r.Private, "default_branch": "main",
		"owner":             object{"id": OwnerID, "login": r.Owner},
		"permissions":       object{"pull": true, "push": c.who.may("statuses", "write")},
		"custom_properties": object{"teams": []string{"web", "core"}},
	})
}

func (f *Fake) getInstallation(c *call) {
	r := f.find(c.PathValue("owner"), c.PathValue("repo"))
	if r == nil || r.installation == 0 {
		say(c.answer, http.StatusNotFound, "Not Found")
		return
	}
	c.reply(http.StatusOK, object{"id": r.installation, "app_id": f.app.ID, "permissions": r.permissions, "repository_selection": "selected"})
}

func (f *Fake) mint(c *call) {
	var asked struct {
		Repositories []string
		Permissions  map[string]string
	}
	if !c.decode(&asked) {
		return
	}
	g := grant{installation: true, permissions: asked.Permissions, repositories: asked.Repositories, expires: f.now().Add(f.tokenLife())}
	installation := number(c.PathValue("id"))
	found := false
	var repositories []object
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.repositories {
		if r.installation != installation {
			continue
		}
		found = true
		for name, level := range asked.Permissions {
			if !(grant{permissions: r.permissions}).may(name, level) {
				say(c.answer, http.StatusUnprocessableEntity, "The permissions requested are not granted to this installation.")
				return
			}
		}
		if g.sees(r) {
			repositories = append(repositories, object{"id": r.ID, "name": r.Name, "custom_properties": object{"teams": []string{"web"}}})
		}
	}
	if !found || len(repositories) == 0 {
		say(c.answer, http.StatusNotFound, "Not Found")
		return
	}
	token := "ghs_" + random(200) // much longer than they once were
	f.grants[token] = g
	c.reply(http.StatusCreated, object{"token": token, "expires_at": g.expires.UTC().Format(time.RFC3339), "permissions": asked.Permissions,
		"repository_selection": "selected", "repositories": repositories})
}

// ManifestCode gives the code by which a manifest is completed, once.
func (f *Fake) ManifestCode() string {
	code := random(20)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.codes[code] = true
	return code
}

func (f *Fake) convert(c *call) {
	code := c.PathValue("code")
	f.mu.Lock()
	waits := f.codes[code]
	delete(f.codes, code)
	f.mu.Unlock()
	access, err := f.AppAccess()
	if !waits || err != nil {
		say(c.answer, http.StatusNotFound, "Not Found")
		return
	}
	c.reply(http.StatusCreated, object{"id": access.AppID, "slug": f.app.Slug, "pem": access.PrivateKey, "webhook_secret": access.WebhookSecret,
		"client_id": "Iv1.8a61f9b3a7aba766", "client_secret": random(20), "name": "shipgate test", "html_url": access.WebURL + "/apps/" + f.app.Slug})
}
