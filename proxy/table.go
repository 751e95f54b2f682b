package proxy

import (
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/shipgate/shipgate/store"
)

// entry is what the table says about one app. It is never changed, only replaced.
type entry struct {
	route  store.Route
	target *target
	hold   *hold // nil when requests are not held

	overdue bool // a hold ran out, and nobody has said since what serves: the target may be stopped
}

// table maps hosts to apps. It is immutable, so that a request reads one consistent state without a lock.
type table struct {
	apps  map[string]*entry
	hosts map[string]*entry // exact names, and "*.parent" for wildcards
}

func newTable(apps map[string]*entry) *table {
	t := &table{apps: apps, hosts: map[string]*entry{}}
	for _, e := range apps {
		for _, host := range e.route.Hosts {
			t.hosts[host] = e
		}
	}
	return t
}

// with gives a copy of the table in which the app has the entry, or none when it is nil.
func (t *table) with(app string, e *entry) *table {
	apps := maps.Clone(t.apps)
	delete(apps, app)
	if e != nil {
		apps[app] = e
	}
	return newTable(apps)
}

// lookup finds the app of a request by its Host, which may carry a port and be in any case. An exact name wins over a
// wildcard, which stands for one label.
func (t *table) lookup(host string) *entry {
	name := canonicalHost(host)
	if strings.HasPrefix(name, "*") {
		return nil // no host is called so, and our own keys are
	}
	if _, internal := internalApp(name); internal {
		return nil // also where an app has such a host from before
	}
	if e := t.hosts[name]; e != nil {
		return e
	}
	label, parent, found := strings.Cut(name, ".")
	if !found || label == "" {
		return nil
	}
	return t.hosts["*."+parent]
}

// routes lists what is in place, by app.
func (t *table) routes() []store.Route {
	routes := make([]store.Route, 0, len(t.apps))
	for _, app := range slices.Sorted(maps.Keys(t.apps)) {
		routes = append(routes, t.apps[app].route)
	}
	return routes
}

// canonicalHost strips the port and a final dot and folds the case.
func canonicalHost(host string) string {
	if at := strings.LastIndexByte(host, ':'); at >= 0 && !strings.Contains(host[at:], "]") {
		host = host[:at]
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// checkRoute refuses what can never be served and gives the route with its hosts in canonical form.
func (t *table) checkRoute(route store.Route) (store.Route, error) {
	if route.App == "" {
		return route, store.Problemf(store.CodeUsage, "a route needs an app")
	}
	if err := checkTarget(route.Target); err != nil {
		return route, err
	}
	hosts := make([]string, len(route.Hosts))
	for i, host := range route.Hosts {
		hosts[i] = strings.ToLower(host)
		if !validHost(hosts[i]) {
			return route, store.Problemf(store.CodeUsage, "host %q is not a name that can be routed", host)
		}
		if other := t.hosts[hosts[i]]; other != nil && other.route.App != route.App {
			return route, store.Problemf(store.CodeConflict, "host %s belongs to %s", host, other.route.App).
				WithHint("shipgate app show %s", other.route.App)
		}
	}
	route.Hosts = hosts
	return route, nil
}

func checkTarget(wanted store.Target) error {
	switch {
	case (wanted.Address == "") == (wanted.Site == ""):
		return store.Problemf(store.CodeUsage, "a target is either an address or a site")
	case wanted.Site != "" && !filepath.IsAbs(wanted.Site):
		return store.Problemf(store.CodeUsage, "site %q is not an absolute path", wanted.Site)
	case wanted.Address != "":
		if _, port, found := strings.Cut(wanted.Address, ":"); !found || port == "" {
			return store.Problemf(store.CodeUsage, "address %q is not host:port", wanted.Address)
		}
	}
	return nil
}

// validHost takes names of letters, digits, hyphens and underscores, IP addresses, and a leading "*." label.
func validHost(host string) bool {
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return true
	}
	name := strings.TrimPrefix(host, "*.")
	if name == "" || len(host) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	return true
}

// judge decides about a route for an app that has one already: a new one, a repetition, or out of date.
func (e *entry) judge(route store.Route) (repeated bool, err error) {
	if e == nil || route.Generation > e.route.Generation {
		return false, nil
	}
	same := route.Generation == e.route.Generation && route.Stopped == e.route.Stopped && route.Target.Equal(e.route.Target) && slices.Equal(route.Hosts, e.route.Hosts)
	if !same {
		return false, store.Problemf(store.CodeConflict, "the route of %s is at generation %d already, so %s is refused",
			route.App, e.route.Generation, fmt.Sprintf("generation %d", route.Generation))
	}
	return true, nil
}
