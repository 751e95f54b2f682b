package builder

import (
	"strings"

	"github.com/shipgate/shipgate/store"
)

// repository begins the names of the images that are built for an app, and of its caches. App names have no "/", so the names of two
// apps never meet.
func (b *Builder) repository(app string) string {
	return store.ImageRepository(b.serverID, app)
}

// cacheNamespace begins the ids of an app's cache mounts.
func (b *Builder) cacheNamespace(app string) string {
	return strings.TrimSuffix(store.CacheID(b.serverID, app, ""), "/")
}

// ownsCache reports whether a cache mount is one of the app's.
func (b *Builder) ownsCache(app, id string) bool {
	return strings.HasPrefix(id, b.cacheNamespace(app)+"/")
}
