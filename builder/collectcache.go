package builder

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/filters"

	"github.com/shipgate/shipgate/store"
)

// What of BuildKit's cache goes: what nobody used for days, and while the whole is large the longest unused of the rest,
// but for what was used of late. The cache has no labels and belongs to everybody who builds on the engine. So only cache mounts whose
// record names an id of this server's go by default, which engines before 23 do not tell; the operator may have all of it pruned.
const (
	cacheUnused = 7 * 24 * time.Hour
	cacheOfLate = time.Hour
	cacheKept   = 10 << 30 // bytes
)

// collectCache removes what of BuildKit's cache is old, or too much. The engine takes an age and a size together as
// "only while both are passed", and with a size weighs how often a thing was used, so it is given the age alone.
func (b *Builder) collectCache(ctx context.Context, dry bool) ([]store.Garbage, error) {
	records, err := b.cacheRecords(ctx)
	if err != nil {
		return nil, err
	}
	if !b.pruneCache {
		return b.collectOwnCache(ctx, records, dry)
	}
	unused, bytes := prunable(records, time.Now())
	if !dry {
		report, err := b.docker.BuildCachePrune(ctx, olderThan(unused))
		if err != nil {
			return nil, b.engineProblem("prune the build cache", err)
		}
		bytes = int64(report.SpaceReclaimed)
	}
	if bytes == 0 {
		return nil, nil
	}
	return []store.Garbage{{Kind: "build cache", Name: "unused for " + unused.Round(time.Minute).String(), Bytes: bytes}}, nil
}

// collectOwnCache removes the cache mounts of this server's apps that nobody used for days, one by one: nothing else is touched.
func (b *Builder) collectOwnCache(ctx context.Context, records []*build.CacheRecord, dry bool) ([]store.Garbage, error) {
	var found []store.Garbage
	for _, record := range records {
		app, ours := b.cacheOwner(record)
		if !ours || record.InUse || record.LastUsedAt != nil && time.Since(*record.LastUsedAt) < cacheUnused {
			continue
		}
		if !dry {
			_, err := b.docker.BuildCachePrune(ctx, build.CachePruneOptions{All: true, Filters: filters.NewArgs(filters.Arg("id", record.ID))})
			if err != nil {
				return found, b.engineProblem("prune the build cache", err)
			}
		}
		found = append(found, store.Garbage{Kind: "build cache", App: app, Name: record.ID, Bytes: record.Size})
	}
	return found, nil
}

// ownCache is the end of the description of a cache mount, as newer engines write it.
var ownCache = regexp.MustCompile(`^cached mount [\s\S]* with id "(shipgate-[^/"]+)/([a-z0-9-]+)/[^"]*"$`)

// cacheOwner returns the app of this server whose cache mount a record is.
func (b *Builder) cacheOwner(record *build.CacheRecord) (app string, ours bool) {
	named := ownCache.FindStringSubmatch(record.Description)
	if record.Type != "exec.cachemount" || named == nil || named[1]+"/"+named[2] != b.repository(named[2]) {
		return "", false
	}
	return named[2], true
}

// CollectCache removes only what is known to be this server's build cache. It needs no database.
func (b *Builder) CollectCache(ctx context.Context, dry bool) ([]store.Garbage, error) {
	b.collecting.Lock()
	defer b.collecting.Unlock()
	records, err := b.cacheRecords(ctx)
	if err != nil {
		return nil, err
	}
	return b.collectOwnCache(ctx, records, dry)
}

const (
	cacheLookLimit = time.Minute // for the turns of others, too
	cacheLookRetry = 200 * time.Millisecond
)

// cacheRecords returns what is in BuildKit's cache. The engine measures its disk for one client at a time and refuses all others,
// also somebody's "docker system df"; nothing tells when it is free.
func (b *Builder) cacheRecords(ctx context.Context) ([]*build.CacheRecord, error) {
	ctx, cancel := context.WithTimeout(ctx, cacheLookLimit)
	defer cancel()
	retry := time.NewTicker(cacheLookRetry)
	defer retry.Stop()
	for {
		usage, err := b.docker.DiskUsage(ctx, types.DiskUsageOptions{Types: []types.DiskUsageObject{types.BuildCacheObject}})
		if err == nil {
			return usage.BuildCache, nil
		}
		if !strings.Contains(err.Error(), "disk usage operation is already running") {
			return nil, b.engineProblem("look at the build cache", err)
		}
		select {
		case <-ctx.Done():
			return nil, b.engineProblem("look at the build cache", err)
		case <-retry.C:
		}
	}
}

// olderThan prunes what was not used for a time. The engine leaves out what is in use and what an image shares.
func olderThan(unused time.Duration) build.CachePruneOptions {
	return build.CachePruneOptions{Filters: filters.NewArgs(filters.Arg("until", unused.String()))}
}

// prunable gives the age from which on the cache may go, and how many bytes that frees.
func prunable(records []*build.CacheRecord, now time.Time) (unused time.Duration, bytes int64) {
	used := usedLast(records, now)
	var whole int64
	var going []*build.CacheRecord
	for _, record := range records {
		if !record.Shared { // with an image, which keeps it
			whole += record.Size
			going = append(going, record)
		}
	}
	slices.SortStableFunc(going, func(x, y *build.CacheRecord) int { return used[x.ID].Compare(used[y.ID]) })
	unused = cacheUnused
	for _, record := range going {
		age := now.Sub(used[record.ID])
		if age < cacheOfLate || age < unused && whole-bytes <= cacheKept {
			break
		}
		unused = min(unused, age)
		bytes += record.Size
	}
	return unused, bytes
}

// usedLast tells by id when each record was used last. One that another was made from goes only after that one, so it
// counts as used with it; what never goes counts as used now; what has no time goes at once.
func usedLast(records []*build.CacheRecord, now time.Time) map[string]time.Time {
	byID, used := map[string]*build.CacheRecord{}, map[string]time.Time{}
	for _, record := range records {
		byID[record.ID] = record
	}
	var use func(id string, at time.Time)
	use = func(id string, at time.Time) {
		record, known := byID[id]
		if before, seen := used[id]; !known || seen && !at.After(before) {
			return
		}
		used[id] = at
		//lint:ignore SA1019 engines of API 1.41 name one parent, and that here
		for _, parent := range append(record.Parents, record.Parent) {
			use(parent, at)
		}
	}
	for _, record := range records {
		ofTheEngine := record.Type == "internal" || record.Type == "frontend"
		switch {
		case record.InUse, record.Shared, ofTheEngine:
			use(record.ID, now)
		case record.LastUsedAt != nil:
			use(record.ID, *record.LastUsedAt)
		default:
			use(record.ID, time.Time{})
		}
	}
	return used
}
