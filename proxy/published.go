package proxy

import (
	"log/slog"
	"sync"
	"time"
	"weak"

	"github.com/shipgate/shipgate/store"
)

// published is what one release tree has to serve. It never changes, so that all targets that serve it share one.
type published struct {
	*contents
	files     map[string]siteFile
	headers   []headerRule
	ignored   int // rules that there are too many of
	redirects []redirectRule

	headerIndex, redirectIndex store.RuleIndex
}

// indexRules must be called when the rules are there. It returns how many are left out.
func (p *published) indexRules() int {
	patterns, weights := make([]store.RulePattern, len(p.headers)), make([]int, len(p.headers))
	for i, rule := range p.headers {
		patterns[i], weights[i] = rule.RulePattern, rule.Weight(len(rule.set)+len(rule.unset))
	}
	var left, more []int
	p.headerIndex, left = store.NewRuleIndex(patterns, weights)
	patterns, weights = make([]store.RulePattern, len(p.redirects)), make([]int, len(p.redirects))
	for i, rule := range p.redirects {
		patterns[i], weights[i] = rule.RulePattern, rule.Weight(len(rule.query))
	}
	p.redirectIndex, more = store.NewRuleIndex(patterns, weights)
	return len(left) + len(more)
}

func (p *published) has(name string) bool {
	_, found := p.files[name]
	return found
}

// shelf finds what was read already and is still in use. A cutover reads only what is new.
type shelf struct {
	mu   sync.Mutex
	read map[string]weak.Pointer[published] // by tree
}

func newShelf() *shelf { return &shelf{read: map[string]weak.Pointer[published]{}} }

// open gives what a tree publishes.
func (s *shelf) open(tree string) (*published, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.read[tree].Value(); known != nil {
		return known, nil
	}
	loaded, err := loadManifest(tree)
	if err != nil {
		return nil, err
	}
	for other, pointer := range s.read {
		if pointer.Value() == nil {
			delete(s.read, other)
		}
	}
	s.read[tree] = weak.Make(loaded)
	return loaded, nil
}

// earlier is a release tree that was live before and whose files are still to be found until a time.
type earlier struct {
	*published
	store.EarlierSite
}

// openEarlier opens the earlier trees. One that is gone keeps nobody from serving the present one.
func (s *shelf) openEarlier(wanted store.Target, logger *slog.Logger) []earlier {
	var opened []earlier
	for _, before := range wanted.Earlier {
		if !time.Now().Before(before.Until) {
			continue
		}
		read, err := s.open(before.Site)
		if err != nil {
			logger.Warn("files of an earlier release cannot be served", "site", before.Site, "error", err)
			continue
		}
		opened = append(opened, earlier{read, before})
	}
	return opened
}

func openSite(wanted store.Target, shelf *shelf, logger *slog.Logger) (*site, error) {
	read, err := shelf.open(wanted.Site)
	if err != nil {
		return nil, err
	}
	if info, err := read.root.Stat("files"); err != nil || !info.IsDir() {
		return nil, store.Problemf(store.CodeErrored, "site %s has no files directory", wanted.Site)
	}
	if read.ignored > 0 {
		logger.Warn("rules of a site are ignored: there are too many for one path", "site", wanted.Site, "rules", read.ignored)
	}
	return &site{published: read, spa: wanted.SPA, cleanURLs: wanted.CleanURLs, earlier: shelf.openEarlier(wanted, logger)}, nil
}
