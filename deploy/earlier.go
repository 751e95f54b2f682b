package deploy

import (
	"context"
	"path/filepath"
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
