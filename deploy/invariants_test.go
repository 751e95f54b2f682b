package deploy

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/shipgate/shipgate/store"
)

// checkBetween holds at every moment, whatever happens next.
func (s *schedule) checkBetween(point string) {
	route, routed, held := s.world.router.look(appName)
	seen := s.look(s.d.ID, route.Target.Deployment)
	if was := s.verdicts[s.d.ID]; was != "" && was != seen.verdict {
		s.fault("%s: the verdict %s became %q", point, was, seen.verdict)
	}
	s.verdicts[s.d.ID] = seen.verdict
	if (seen.verdict == store.Succeeded) != (seen.live == s.d.ID) {
		s.fault("%s: the verdict is %q and %d is live", point, seen.verdict, seen.live)
	}
	if seen.live == s.d.ID && !s.goesLive() {
		s.fault("%s: live and never healthy", point)
	}
	if !s.rollback && s.world.branches.tip(appName) == s.d.SHA && route.Target.Deployment != s.d.ID {
		s.fault("%s: the branch has moved and the route has not", point)
	}
	if runs := s.world.commands.Runs(store.CommandName(s.store.ServerID(), appName, s.d.ID)); runs > 1 {
		s.fault("%s: the release command ran %d times", point, runs)
	}
	switch {
	case seen.live == 0:
	case !routed:
		s.fault("%s: no route", point)
	case seen.live == s.d.ID && route.Target.Deployment != seen.live:
		s.fault("%s: live and not routed", point)
	case !s.site && !s.stack(): // Compose replaces what is live while its requests wait
		s.checkServing(point, seen, held)
	}
}

// checkServing: the live container is there; blue-green is never down; the old one is not touched before the new one is live,
// or, with recreate, before the new one is built and its release command has done its work.
func (s *schedule) checkServing(point string, seen sight, held bool) {
	runs := map[string]bool{}
	var running []string
	for _, container := range s.world.engine.Containers() {
		runs[container.Name] = container.Running
		if container.Running && container.Role != store.RoleCommand {
			running = append(running, container.Name)
		}
	}
	if _, there := runs[seen.liveContainer]; !there {
		s.fault("%s: the live container is gone", point)
	}
	down := !runs[seen.targetContainer]
	if s.strategy == store.BlueGreen && (down || held) {
		s.fault("%s: down %t, held %t", point, down, held)
	}
	if down && !held && slices.ContainsFunc([]string{"before build", "before run"}, func(early string) bool { return strings.HasPrefix(point, early) }) {
		s.fault("%s: what is live was stopped before the new version was there", point)
	}
	if held && strings.HasPrefix(point, "before run") && s.world.commands.Runs(store.CommandName(s.store.ServerID(), appName, s.d.ID)) == 0 {
		s.fault("%s: requests wait for the release command", point)
	}
	fresh := runs[seen.container] && seen.live != s.d.ID
	starting := strings.HasPrefix(point, "before start hello.new") || strings.HasPrefix(point, "before start hello.back") || fresh && strings.HasPrefix(point, "before probe")
	if starting && down && !held {
		s.fault("%s: requests go to the stopped container", point)
	}
	if s.strategy == store.Recreate && fresh && len(running) > 1 {
		s.fault("%s: %s run at once", point, running)
	}
	if s.command != "" && fresh && s.world.commands.Runs(store.CommandName(s.store.ServerID(), appName, s.d.ID)) != 1 {
		s.fault("%s: started without its release command", point)
	}
}

// checkEnd holds when all work is done.
func (s *schedule) checkEnd() {
	ctx := context.Background()
	all, err := s.store.Deployments(ctx, appName, 100)
	s.must(err)
	for _, d := range all {
		if !d.Step.Terminal() || d.Verdict == "" {
			s.fault("%d is unfinished: %s", d.ID, d.Step)
		}
	}
	live, found, err := s.store.Live(ctx, appName)
	s.must(err)
	route, routed, held := s.world.router.look(appName)
	want, addresses := s.wantedContainers(live)
	tip := ""
	if s.source != store.SourceImage {
		tip = live.SHA
	}
	if got := s.world.engine.Containers(); !slices.Equal(got, want) {
		s.fault("containers %+v, want %+v", got, want)
	}
	if got := s.addresses(); !maps.Equal(got, addresses) {
		s.fault("addresses %v, want %v", got, addresses)
	}
	if routed != found || (found && !route.Target.Equal(live.Target)) {
		s.fault("route %+v (%t), live %+v (%t)", route.Target, routed, live.Target, found)
	}
	if got := s.world.branches.tip(appName); got != tip {
		s.fault("the branch says %.7s and %.7s is live", got, tip)
	}
	if held {
		s.fault("requests are held for ever")
	}
}

// wantedContainers are what is live, and what is kept warm, with their addresses. A container that was taken over has the
// number of the deployment that it was made for.
func (s *schedule) wantedContainers(live store.Live) (want []store.Container, addresses map[int64]string) {
	want, addresses = []store.Container{}, map[int64]string{}
	add := func(container store.Container, deployment int64, address string) {
		container.App = appName
		fmt.Sscanf(container.Name, strings.TrimSuffix(store.ContainerName(s.store.ServerID(), appName, 0), "0")+"%d", &container.Deployment)
		want = append(want, container)
		addresses[deployment] = strings.TrimSuffix(address, ":8080")
	}
	switch {
	case live.Container == "":
	case s.stack():
		add(store.Container{Name: live.Container, Role: store.RoleStack, Running: true}, live.Deployment, live.Target.Address)
		want = append(want, store.Container{Name: "shipgate-" + appName + "-other-1", App: appName, Role: store.RoleStack, Running: true})
	default:
		add(store.Container{Name: live.Container, Running: true}, live.Deployment, live.Target.Address)
	}
	warm, err := s.store.Warm(context.Background(), appName)
	s.must(err)
	for _, one := range warm {
		add(store.Container{Name: one.Deployment.Container}, one.Deployment.ID, one.Deployment.Address)
	}
	slices.SortFunc(want, func(a, b store.Container) int { return cmp.Compare(a.Name, b.Name) })
	return want, addresses
}

// checkOutcome: with crashes alone, the version decides the verdict.
func (s *schedule) checkOutcome() {
	d, err := s.store.Deployment(context.Background(), s.d.ID)
	s.must(err)
	want := map[string]store.Verdict{"healthy": store.Succeeded, "unhealthy": store.Failed, "exits": store.Failed, "gone": store.Errored}
	if s.command == "fails" {
		want["healthy"] = store.Failed
	}
	if d.Verdict != want[s.version] {
		s.fault("verdict %s: %s\n%s", d.Verdict, d.Reason, s.history())
	}
	if warm, err := s.store.Warm(context.Background(), appName); err != nil || (s.warm && s.goesLive()) != (len(warm) == 1) {
		s.fault("%d containers are warm, error %v", len(warm), err)
	}
	s.checkOld()
}

func (s *schedule) history() string {
	events, err := s.store.Events(context.Background(), s.d.ID, 0, 1000)
	s.must(err)
	var lines []string
	for _, event := range events {
		lines = append(lines, "\t\t"+event.Kind+" "+event.Text)
	}
	return strings.Join(lines, "\n")
}

// checkOld: without success, what was live is live.
func (s *schedule) checkOld() {
	live, found, err := s.store.Live(context.Background(), appName)
	s.must(err)
	if live.Deployment != s.d.ID && (found != s.hadLive || !reflect.DeepEqual(live, s.before)) {
		s.fault("live %+v, was %+v", live, s.before)
	}
}
