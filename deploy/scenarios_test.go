package deploy

import (
	"slices"

	"github.com/shipgate/shipgate/store"
)

// scenario is one situation a deployment can be in; the suite goes through all of them.
type scenario struct {
	source    store.Source // empty: dockerfile, or static for a site
	storage   bool         // of a Deno app: what makes blue-green impossible
	strategy  store.Strategy
	version   string // healthy, unhealthy, exits; of a site: healthy or gone
	command   string // the release command: none, works or fails
	site      bool
	repoFile  bool // the config asks for the other strategy, and the commit's shipgate.yaml for this one
	warm      bool // what is replaced is kept, stopped
	rollback  bool // to the first of two versions instead of a push
	holdsLost bool // the proxy dies with us: its routes survive, what it parked does not
	stray     bool // a container of an older deployment runs
	previous  bool // a version is live
	hasty     bool // its health check does not wait for what has ended
}

func (s scenario) String() string {
	name := string(s.strategy) + "/" + s.version
	if s.source != "" {
		name = string(s.source) + "," + name
	}
	for _, flag := range []struct {
		set  bool
		word string
	}{
		{s.site, "site"}, {s.storage, "storage"}, {s.command != "", "command-" + s.command}, {s.repoFile, "repo-file"}, {s.warm, "warm"},
		{s.rollback, "rollback"}, {s.holdsLost, "holds-lost"}, {s.stray, "stray"}, {!s.previous, "first"},
	} {
		if flag.set {
			name += "," + flag.word
		}
	}
	return name
}

// goesLive says that nothing is wrong with the version.
func (s scenario) goesLive() bool { return s.version == "healthy" && s.command != "fails" }

func (s scenario) stack() bool { return s.source == store.SourceCompose }

// scenarios leaves out what makes no difference: a hold needs a recreate of something live.
func scenarios() []scenario {
	var all []scenario
	for _, strategy := range []store.Strategy{store.BlueGreen, store.Recreate} {
		for _, previous := range []bool{true, false} {
			for _, version := range []string{"healthy", "unhealthy", "exits"} {
				for _, stray := range []bool{false, true} {
					s := scenario{strategy: strategy, version: version, stray: stray, previous: previous}
					all = append(all, s)
					if strategy == store.Recreate && previous {
						s.holdsLost = true
						all = append(all, s)
					}
				}
			}
			for _, version := range []string{"healthy", "gone"} {
				all = append(all, scenario{strategy: strategy, version: version, site: true, previous: previous})
			}
		}
		all = append(all, scenario{strategy: strategy, version: "healthy", rollback: true, previous: true})
	}
	return slices.Concat(all, otherSources(), otherWays())
}

// otherSources are those whose artefact is no image of the commit's Dockerfile. From the artefact on, an image is an image.
func otherSources() []scenario {
	var all []scenario
	for _, version := range []string{"healthy", "unhealthy", "exits"} {
		for _, previous := range []bool{true, false} {
			all = append(all,
				scenario{source: store.SourceImage, strategy: store.BlueGreen, version: version, previous: previous},
				scenario{source: store.SourceImage, strategy: store.Recreate, version: version, previous: previous},
				scenario{source: store.SourceCompose, strategy: store.Recreate, version: version, previous: previous})
		}
		all = append(all,
			scenario{source: store.SourceStatic, strategy: store.BlueGreen, version: version, previous: true},
			scenario{source: store.SourceStatic, strategy: store.Recreate, storage: true, version: version, previous: true})
	}
	return append(all,
		scenario{source: store.SourceCompose, strategy: store.Recreate, version: "healthy", rollback: true, previous: true},
		scenario{source: store.SourceCompose, strategy: store.Recreate, version: "unhealthy", holdsLost: true, previous: true},
		scenario{source: store.SourceImage, strategy: store.BlueGreen, version: "healthy", rollback: true, previous: true})
}

// otherWays are what a config or a commit adds to the way of a deployment: a release command, a container that is kept
// warm and gone back to, and a shipgate.yaml that decides the strategy.
func otherWays() []scenario {
	var all []scenario
	for _, strategy := range []store.Strategy{store.BlueGreen, store.Recreate} {
		for _, previous := range []bool{true, false} {
			for _, command := range []string{"works", "fails"} {
				all = append(all, scenario{strategy: strategy, version: "healthy", command: command, previous: previous})
			}
		}
		all = append(all,
			scenario{strategy: strategy, version: "unhealthy", command: "works", previous: true},
			scenario{source: store.SourceImage, strategy: strategy, version: "healthy", command: "works", previous: true},
			scenario{strategy: strategy, version: "healthy", warm: true, previous: true},
			scenario{strategy: strategy, version: "unhealthy", warm: true, previous: true},
			scenario{strategy: strategy, version: "healthy", warm: true, rollback: true, previous: true},
			scenario{strategy: strategy, version: "healthy", repoFile: true, previous: true},
			scenario{strategy: strategy, version: "unhealthy", repoFile: true, previous: true})
	}
	return all
}
