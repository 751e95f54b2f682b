package deploy

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/shipgate/shipgate/store"
)

// mostEarlier is how many earlier sites stay reachable.
const mostEarlier = 5

func (a *attempt) sitePath() string {
	return filepath.Join(a.SitesDir, filepath.FromSlash(a.release.Artefact.Site))
}

// findEarlier finds the sites whose files pages in open browsers may still ask for. The times count from the moment the
// deployment left the queue, so that a resumed one says the same again.
func (a *attempt) findEarlier(ctx context.Context) error {
	if !a.isSite() {
		return nil
	}
	live, found, err := a.Store.Live(ctx, a.d.App)
	if err != nil || !found || live.Deployment == a.d.ID {
		return err
	}
	keep := time.Duration(store.DefaultKeepAssets)
	if static, ok := a.config.(*store.StaticConfig); ok {
		keep = static.KeepAssets.Or(store.DefaultKeepAssets)
	}
	a.earlier = earlierSites(live.Target, a.sitePath(), a.d.StartedAt, keep)
	return nil
}

// earlierSites lists what was live before and is not yet out of time, the newest first, each once and never the site itself. A shorter
// time than before holds for all of them.
func earlierSites(live store.Target, site string, now time.Time, keep time.Duration) []store.EarlierSite {
	candidates := append([]store.EarlierSite{{Site: live.Site, Until: now.Add(keep)}}, live.Earlier...)
	seen := map[string]bool{site: true, "": true}
	var earlier []store.EarlierSite
	for _, candidate := range candidates {
		if longest := now.Add(keep); candidate.Until.After(longest) {
			candidate.Until = longest
		}
		if seen[candidate.Site] || !candidate.Until.After(now) || len(earlier) == mostEarlier {
			continue
		}
		seen[candidate.Site] = true
		earlier = append(earlier, candidate)
	}
	return earlier
}

// sayEarlier says in the push how many files that the site has no more are still to be found, and until when.
func (a *attempt) sayEarlier(ctx context.Context) {
	if len(a.earlier) == 0 {
		return
	}
	present, gone, until := map[string]bool{}, map[string]bool{}, time.Time{}
	for _, name := range filesOf(a.sitePath()) {
		present[name] = true
	}
	for _, earlier := range a.earlier {
		for _, name := range filesOf(earlier.Site) {
			if !present[name] && store.HasHashedName(name) && !earlier.Purged(name) {
				gone[name] = true
				if earlier.Until.After(until) {
					until = earlier.Until
				}
			}
		}
	}
	if len(gone) > 0 {
		a.say(ctx, "note", "%d files of earlier releases stay reachable until %s, for pages that are open; remove them at once with: shipgate site purge %s",
			len(gone), until.UTC().Format("2006-01-02 15:04 MST"), a.d.App)
	}
}

// filesOf returns the paths of the files that a release tree serves. One that cannot be read has none: the proxy serves none of
// it. Trees of earlier versions have no list of names, only the manifest, which takes many times longer to read.
func filesOf(tree string) []string {
	names, err := os.ReadFile(filepath.Join(tree, "names"))
	if err != nil {
		return manifestFiles(tree)
	}
	if len(names) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(names), "\x00"), "\x00")
}

func manifestFiles(tree string) []string {
	var manifest struct {
		Files map[string]struct{} `json:"files"`
	}
	text, err := os.ReadFile(filepath.Join(tree, "manifest.json"))
	if err != nil || json.Unmarshal(text, &manifest) != nil {
		return nil
	}
	return slices.Collect(maps.Keys(manifest.Files))
}
