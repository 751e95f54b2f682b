package github

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/shipgate/shipgate/store"
)

const (
	examination     = 30 * time.Second // for all that GitHub is asked
	clockTolerance  = 30 * time.Second
	undeliveredFor  = 7 * 24 * time.Hour
	mostUndelivered = 20
)

// need is a repository with what its apps want of it.
type need struct {
	store.Repository
	deployments bool
}

// Findings examines the connection with GitHub for the doctor. Each finding has one cause, and says what to do about it.
func (g *GitHub) Findings(ctx context.Context) []store.Finding {
	ctx, stop := context.WithTimeout(ctx, examination)
	defer stop()
	repositories, err := g.needs(ctx)
	a, accessErr := g.access(ctx)
	if err := errors.Join(err, accessErr); err != nil {
		return []store.Finding{fail(hintOf(err, "shipgate github connect"), "GitHub: %s", g.Store.Masked(err.Error()))}
	}
	if a == nil {
		return append(unconnected(len(repositories)), g.undelivered(ctx)...)
	}
	findings, usable := g.examineAccess(ctx, a)
	if usable {
		for _, repository := range repositories {
			findings = append(findings, g.examineRepository(ctx, a, repository)...)
		}
		if a.Kind == store.AccessApp {
			findings = append(findings, g.examineAppHook(ctx, a))
		}
	}
	findings = append(findings, g.examineBase()...)
	findings = append(findings, g.lastDelivery(ctx))
	return append(findings, g.undelivered(ctx)...)
}

func finding(level, hint, format string, args ...any) store.Finding {
	return store.Finding{Level: level, Text: fmt.Sprintf(format, args...), Hint: hint}
}

func ok(format string, args ...any) store.Finding { return finding(store.LevelOK, "", format, args...) }

func warn(hint, format string, args ...any) store.Finding {
	return finding(store.LevelWarn, hint, format, args...)
}

func fail(hint, format string, args ...any) store.Finding {
	return finding(store.LevelFail, hint, format, args...)
}

func hintOf(err error, otherwise string) string {
	if problem, is := store.AsProblem(err); is && problem.Hint != "" {
		return problem.Hint
	}
	return otherwise
}

func unconnected(repositories int) []store.Finding {
	if repositories == 0 {
		return []store.Finding{ok("GitHub is not connected, and no app follows a repository there")}
	}
	return []store.Finding{warn("shipgate github connect", "GitHub is not connected, and apps follow %d of its repositories", repositories)}
}

// needs lists the repositories that apps follow, once each.
func (g *GitHub) needs(ctx context.Context) ([]need, error) {
	apps, err := g.Store.Apps(ctx)
	if err != nil {
		return nil, err
	}
	var all []need
	for _, app := range apps {
		config, err := store.DecodeConfig(app.Source, app.Config)
		if err != nil {
			continue // the doctor says so elsewhere
		}
		repository, follows := config.Shared().Repository()
		if !follows {
			continue
		}
		i := slices.IndexFunc(all, func(n need) bool { return n.Same(repository) })
		if i < 0 {
			i, all = len(all), append(all, need{Repository: repository})
		}
		all[i].deployments = all[i].deployments || config.Shared().GitHubDeployment
	}
	return all, nil
}

// examineAccess asks GitHub who we are. A clock that is wrong makes good credentials look bad: then it is the finding.
func (g *GitHub) examineAccess(ctx context.Context, a *access) (findings []store.Finding, usable bool) {
	_, date, err := a.whoAmI(ctx)
	clock, sane := g.examineClock(date)
	switch {
	case err == nil && a.Kind == store.AccessApp:
		return append(clock, ok("GitHub takes the key of the App %s (%d)", a.AppSlug, a.AppID)), true
	case err == nil:
		return append(clock, ok("GitHub takes the token")), true
	case !sane:
		return clock, false
	}
	t := classify(err, g.now())
	if t.kind == refused {
		return append(clock, fail("shipgate github connect", "GitHub does not take the credentials: %s", g.said(t))), false
	}
	return append(clock, fail("curl -sS "+a.APIURL+"/rate_limit", "%s cannot be asked: %s", a.APIURL, g.said(t))), false
}

func (g *GitHub) examineClock(date time.Time) (findings []store.Finding, sane bool) {
	if date.IsZero() {
		return nil, true
	}
	ahead := g.now().Sub(date).Round(time.Second)
	switch {
	case ahead > clockTolerance:
		return []store.Finding{fail("timedatectl set-ntp true", "the clock of this server is %s ahead of GitHub's", ahead)}, false
	case -ahead > clockTolerance:
		return []store.Finding{fail("timedatectl set-ntp true", "the clock of this server is %s behind GitHub's", -ahead)}, false
	}
	return []store.Finding{ok("the clock of this server agrees with GitHub's")}, true
}

// examineBase says when GitHub has no way to us.
func (g *GitHub) examineBase() []store.Finding {
	parsed, err := url.Parse(g.base)
	if err != nil {
		return []store.Finding{fail("shipgate serve --url https://shipgate.example.com", "%q is not an address", g.base)}
	}
	ip := net.ParseIP(parsed.Hostname())
	if isLoopback(parsed.Hostname()) || (ip != nil && (ip.IsPrivate() || ip.IsUnspecified() || ip.IsLinkLocalUnicast())) {
		return []store.Finding{warn("shipgate serve --url https://shipgate.example.com",
			"GitHub has no way to %s; pushes are found by looking every %s, if that is not a GitHub of your own network", g.base, g.CatchUpEvery)}
	}
	return nil
}

func (g *GitHub) lastDelivery(ctx context.Context) store.Finding {
	last, err := g.Store.Deliveries(ctx, 1)
	if err != nil {
		return fail("shipgate doctor", "read deliveries: %v", err)
	}
	if len(last) == 0 {
		return warn("git push origin HEAD, or redeliver from the settings of the webhook at GitHub", "no webhook delivery has come yet")
	}
	return ok("the last webhook delivery came %s ago (%s)", g.now().Sub(last[0].ReceivedAt).Round(time.Second), oneLine(last[0].Event, 40))
}

func (g *GitHub) undelivered(ctx context.Context) []store.Finding {
	posts, err := g.Store.UndeliveredPosts(ctx, g.now().Add(-undeliveredFor), mostUndelivered)
	if err != nil {
		return []store.Finding{fail("shipgate doctor", "read outbox: %v", err)}
	}
	var findings []store.Finding
	for _, post := range posts {
		what := "was refused by GitHub"
		if post.Outcome == store.Expired {
			what = "could not be delivered for 24 hours"
		}
		findings = append(findings, warn(fmt.Sprintf("shipgate show %d", post.Deployment), "the %s of %s at %.7s %s: %s",
			noun(post), post.Repository, post.SHA, what, post.Answer))
	}
	return findings
}

// examineRepository says whether we may do there what its apps want.
func (g *GitHub) examineRepository(ctx context.Context, a *access, repository need) []store.Finding {
	if a.Kind == store.AccessApp {
		return []store.Finding{g.examineInstallation(ctx, a, repository)}
	}
	var answer struct {
		Permissions struct {
			Push bool `json:"push"`
		} `json:"permissions"`
	}
	err := a.do(withToken(ctx, a.Token), a.client("doctor"), http.MethodGet, "repos/"+repository.String(), nil, &answer)
	if err != nil {
		return []store.Finding{fail("shipgate github connect --token-file FILE", "the token cannot read %s: %s", repository, g.said(classify(err, g.now())))}
	}
	if !answer.Permissions.Push {
		return []store.Finding{fail("shipgate github connect --token-file FILE", "the token may read %s, but not set commit statuses in it", repository)}
	}
	return []store.Finding{ok("the token may set commit statuses in %s", repository), g.examineHooks(ctx, a, repository)}
}

func (g *GitHub) examineInstallation(ctx context.Context, a *access, repository need) store.Finding {
	var answer struct {
		Permissions map[string]string `json:"permissions"`
		SuspendedAt *time.Time        `json:"suspended_at"`
	}
	install := g.connection(a).InstallURL
	err := a.asApp(ctx, http.MethodGet, "repos/"+repository.String()+"/installation", nil, &answer)
	if err != nil {
		return fail("let it in at "+install, "%s", g.said(classify(notInstalled(err, repository.Repository), g.now())))
	}
	if answer.SuspendedAt != nil {
		return fail("unsuspend it at "+install, "the installation of the App in %s is suspended", repository)
	}
	wanted := []purpose{forFetch, forStatus}
	if repository.deployments {
		wanted = append(wanted, forDeployment)
	}
	var missing []string
	for _, what := range wanted {
		name, level, _ := strings.Cut(string(what), ":")
		if have := answer.Permissions[name]; have != level && have != "write" {
			missing = append(missing, string(what))
		}
	}
	if len(missing) > 0 {
		return fail("grant it in the App's settings at GitHub, then accept it at "+install, "the App lacks %s in %s", strings.Join(missing, ", "), repository)
	}
	return ok("the App may do in %s what it has to", repository)
}

func (g *GitHub) examineAppHook(ctx context.Context, a *access) store.Finding {
	var hook struct {
		URL string `json:"url"`
	}
	if err := a.asApp(ctx, http.MethodGet, "app/hook/config", nil, &hook); err != nil {
		return warn("shipgate doctor", "GitHub does not say where the App's webhook goes: %s", g.said(classify(err, g.now())))
	}
	if want := g.base + webhookPath; hook.URL != want {
		return fail("set the webhook URL in the App's settings at GitHub to "+want, "the App's webhook goes to %s", oneLine(g.Store.Masked(hook.URL), 200))
	}
	return ok("the App's webhook comes here")
}

// hook is the webhook of a repository, as far as it matters.
type hook struct {
	Active bool     `json:"active"`
	Events []string `json:"events"`
	Config struct {
		URL string `json:"url"`
	} `json:"config"`
	LastResponse struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	} `json:"last_response"`
}

func (g *GitHub) examineHooks(ctx context.Context, a *access, repository need) store.Finding {
	settings := fmt.Sprintf("%s/%s/settings/hooks", a.WebURL, repository)
	var hooks []hook
	err := a.do(withToken(ctx, a.Token), a.client("doctor"), http.MethodGet, "repos/"+repository.String()+"/hooks?per_page=100", nil, &hooks)
	if err != nil {
		return warn("see for yourself: "+settings, "the token may not list the webhooks of %s, so they are not examined: %s", repository, g.said(classify(err, g.now())))
	}
	want := g.base + webhookPath
	i := slices.IndexFunc(hooks, func(h hook) bool { return h.Config.URL == want })
	if i < 0 {
		return fail("add one for push events to "+want+" at "+settings, "%s has no webhook that comes here", repository)
	}
	switch h := hooks[i]; {
	case !h.Active:
		return fail("activate it at "+settings, "the webhook of %s is not active", repository)
	case !slices.Contains(h.Events, "push") && !slices.Contains(h.Events, "*"):
		return fail("tick Pushes at "+settings, "the webhook of %s does not tell of pushes", repository)
	case h.LastResponse.Code != 0 && h.LastResponse.Code/100 != 2:
		return warn("see its recent deliveries at "+settings, "the webhook of %s was last answered %d %s", repository, h.LastResponse.Code,
			oneLine(h.LastResponse.Message, 80))
	}
	return ok("the webhook of %s comes here", repository)
}
