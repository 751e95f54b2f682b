package store

import (
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Target is where the requests of a route go: an upstream address or a site directory, never both.
type Target struct {
	Deployment int64  `json:"deployment"`        // whose it is; names the target in drains
	Address    string `json:"address,omitempty"` // host:port
	Site       string `json:"site,omitempty"`    // absolute path of a release tree
	SPA        bool   `json:"spa,omitempty"`
	CleanURLs  bool   `json:"clean_urls,omitempty"`

	// Earlier are the release trees that were live before, the newest first: a page loaded before the cutover finds its
	// chunks there.
	Earlier []EarlierSite `json:"earlier,omitempty"`
}

// EarlierSite is a release tree whose files, other than pages, stay reachable for a time.
type EarlierSite struct {
	Site    string    `json:"site"` // absolute path of a release tree
	Until   time.Time `json:"until"`
	Without []string  `json:"without,omitempty"` // paths in the site that were purged, with all below them
}

// Purged reports whether a file of the release tree is no longer served.
func (e EarlierSite) Purged(name string) bool {
	return slices.ContainsFunc(e.Without, func(under string) bool { return name == under || strings.HasPrefix(name, under+"/") })
}

// Equal says that two targets lead requests to the same place.
func (t Target) Equal(other Target) bool {
	sameEarlier := slices.EqualFunc(t.Earlier, other.Earlier, func(a, b EarlierSite) bool {
		return a.Site == b.Site && a.Until.Equal(b.Until) && slices.Equal(a.Without, b.Without)
	})
	return t.Deployment == other.Deployment && t.Address == other.Address && t.Site == other.Site &&
		t.SPA == other.SPA && t.CleanURLs == other.CleanURLs && sameEarlier
}

// Route sends an app's hosts to its target. Generation grows with every change of the route; the router refuses an
// older one and takes an equal one as a repetition.
type Route struct {
	App        string   `json:"app"`
	Hosts      []string `json:"hosts"` // lower case, without port; "*.example.com" matches one label
	Target     Target   `json:"target"`
	Generation int64    `json:"generation"`
	Stopped    bool     `json:"stopped,omitempty"` // the app was stopped on purpose: every request is answered 503
}

// Hold bounds the requests that wait while an app is recreated.
type Hold struct {
	Requests int           `json:"requests"` // how many may wait; one more gets 503 with Retry-After
	Limit    time.Duration `json:"limit"`    // how long each may wait
	Drain    time.Duration `json:"drain"`    // how long to wait for those in flight on the old target
}

// deploymentOf reads the number of the deployment that made a release tree from its path; 0 when there is none.
func deploymentOf(site string) int64 {
	number, err := strconv.ParseInt(path.Base(filepath.ToSlash(site)), 10, 64)
	if err != nil {
		return 0
	}
	return number
}
