package store

import (
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Source is where the artefact of an app comes from.
type Source string

// The sources.
const (
	SourceDockerfile Source = "dockerfile"
	SourceStatic     Source = "static"
	SourceImage      Source = "image"
	SourceCompose    Source = "compose"
)

// App is a named workload.
type App struct {
	Name      string    `json:"name"`
	Source    Source    `json:"source"`
	Hosts     []string  `json:"hosts"`
	Config    []byte    `json:"-"` // the source's JSON blob; see DecodeConfig
	CreatedAt time.Time `json:"created_at"`

	StoppedAfter int64     `json:"-"` // the newest deployment when the app was stopped; 0: it is to run. See Stopped
	StoppedAt    time.Time `json:"-"`
}

var (
	appName   = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`)
	hostLabel = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
)

// ValidateAppName accepts what can be a container name, a host label and a directory at once.
func ValidateAppName(name string) error {
	if !appName.MatchString(name) {
		return Problemf(CodeUsage, "app name %q is not allowed: use 1 to 40 of a-z, 0-9 and -, not at the ends", name).
			WithHint("shipgate app create my-app --source dockerfile --host my-app.localhost")
	}
	return nil
}

// NormaliseHost lowers a host and checks it. A leading "*." is a wildcard for one label. Names under .internal are how apps
// call each other, and are no hosts.
func NormaliseHost(host string) (string, error) {
	lowered := strings.ToLower(strings.TrimSuffix(host, "."))
	labels := strings.Split(strings.TrimPrefix(lowered, "*."), ".")
	for _, label := range labels {
		if !hostLabel.MatchString(label) || len(lowered) > 253 {
			return "", Problemf(CodeUsage, "host %q is not a host name", host).
				WithHint("give a name without scheme, port or path: --host app.example.com")
		}
	}
	if lowered != strings.TrimPrefix(lowered, "*.") && len(labels) < 2 {
		return "", Problemf(CodeUsage, "host %q would match a whole top-level domain", host).
			WithHint("give a narrower wildcard: --host '*.example.com'")
	}
	if labels[len(labels)-1] == InternalDomain {
		return "", Problemf(CodeUsage, "host %q is not possible: names under .%s are how apps call each other", host, InternalDomain).
			WithHint("give a name of your own domain: --host app.example.com; for calls between apps see --calls and --allow-from")
	}
	return lowered, nil
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
