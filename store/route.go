package store

import "time"

// Target is where the requests of a route go: an upstream address or a site directory, never both.
type Target struct {
	Deployment int64  `json:"deployment"`        // whose it is; names the target in drains
	Address    string `json:"address,omitempty"` // host:port
	Site       string `json:"site,omitempty"`    // absolute path of a release tree
	SPA        bool   `json:"spa,omitempty"`
	CleanURLs  bool   `json:"clean_urls,omitempty"`
}

// Route sends an app's hosts to its target. Generation grows with every change of the route; the router refuses an
// older one and takes an equal one as a repetition.
type Route struct {
	App        string   `json:"app"`
	Hosts      []string `json:"hosts"` // lower case, without port; "*.example.com" matches one label
	Target     Target   `json:"target"`
	Generation int64    `json:"generation"`
}

// Hold bounds the requests that wait while an app is recreated.
type Hold struct {
	Requests int           `json:"requests"` // how many may wait; one more gets 503 with Retry-After
	Limit    time.Duration `json:"limit"`    // how long each may wait
	Drain    time.Duration `json:"drain"`    // how long to wait for those in flight on the old target
}
