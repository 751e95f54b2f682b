package builder

import (
	"errors"
	"regexp"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/client"

	"github.com/shipgate/shipgate/store"
)

// registryFault is a kind of trouble with a registry.
type registryFault int

const (
	otherFault registryFault = iota
	noRepository
	noTag
	unauthorised
	unreachable
)

// registryPhrases are the clauses that engines and registries say; of several in one text the first listed counts. A
// clause is what stands between two ": " of a chain of errors.
var registryPhrases = []struct {
	fault registryFault
	whole *regexp.Regexp // of the clause, in lower case
}{
	{noTag, regexp.MustCompile(`^(manifest[ _]unknown|unknown manifest)$`)},
	{noRepository, regexp.MustCompile(`^(name[ _]unknown|unknown name|repository name not known to registry)$`)},
	{unreachable, regexp.MustCompile(`^toomanyrequests$`)},
	{unauthorised, regexp.MustCompile(`^(unauthorized|denied|no basic auth credentials|(pull )?access denied\b.*|authentication required|authorization failed|insufficient_scope|requested access to the resource is denied)$`)},
	{unreachable, regexp.MustCompile(`^(connection refused|no such host|server misbehaving|temporary failure in name resolution|network is unreachable|no route to host|connection reset by peer|broken pipe|(connection|operation) timed out|` +
		`(unexpected )?eof|(i/o |tls handshake )?timeout|context deadline exceeded|.*\(client\.timeout exceeded while [a-z ]+\)|x509|tls|remote error|server gave http response to https client|failed size validation)$`)},
	{noRepository, regexp.MustCompile(`^(not found|unknown blob)$`)},
}

var (
	// outsideNames are the parts of an error that others chose: quotations, addresses and digests.
	outsideNames = regexp.MustCompile(`"(\\.|[^"\\])*"|https?://\S*[^\s:]|sha256:[0-9a-f]{64}`)
	// statusSaid is how the engine and BuildKit tell of the status that a registry answered with.
	statusSaid = regexp.MustCompile(`(?:unexpected|failed with) (?:HTTP )?status[^:]*: (\d{3})\b|error parsing HTTP (\d{3}) response body`)
)

// faultOf sorts what came of asking for an image: by the engine's answer, by the registry's status in its text, and only
// then by what the clauses of the text are. No part of it is read that may be a name.
func faultOf(err error) registryFault {
	text := outsideNames.ReplaceAllString(err.Error(), "")
	said := faultSaid(text)
	switch {
	case errdefs.IsUnauthorized(err), errdefs.IsPermissionDenied(err):
		return unauthorised
	case errdefs.IsNotFound(err) && said != noTag:
		return noRepository
	}
	if status := statusSaid.FindStringSubmatch(text); status != nil {
		return faultOfStatus(status[1] + status[2])
	}
	return said
}

// faultOfStatus sorts a registry's status of three digits.
func faultOfStatus(status string) registryFault {
	switch {
	case status == "401", status == "403":
		return unauthorised
	case status == "404":
		return noRepository
	case status == "408", status == "429", status >= "500":
		return unreachable
	}
	return otherFault
}

// faultSaid sorts by the clauses of a text.
func faultSaid(text string) registryFault {
	clauses := strings.Split(strings.ToLower(text), ": ")
	for _, phrase := range registryPhrases {
		for _, clause := range clauses {
			if phrase.whole.MatchString(strings.TrimSpace(clause)) {
				return phrase.fault
			}
		}
	}
	return otherFault
}

// registryProblem says what went wrong between the engine and a registry. The app is empty where the image is one of
// several that a file names.
func (b *Builder) registryProblem(app string, named reference.Named, login *registryLogin, err error) error {
	if strings.Contains(err.Error(), "no space left on device") {
		return b.engineTrouble(err)
	}
	if client.IsErrConnectionFailed(err) {
		return b.engineProblem("get image "+familiar(named), err)
	}
	name, host := familiar(named), login.host
	switch faultOf(err) {
	case noTag:
		return store.Problemf(store.CodeFailed, "registry %s has no image %s: there is no such tag or digest", host, name).
			WithHint("%s", otherImage(app, name, reference.FamiliarName(named)+":TAG"))
	case noRepository:
		return store.Problemf(store.CodeFailed, "registry %s has no image %s", host, name).
			WithHint("%s", otherImage(app, name, "REFERENCE"))
	case unauthorised:
		if login.known() {
			return store.Problemf(store.CodeFailed, "registry %s does not let user %s have image %s, or it is not there", host, login.username, name).
				WithHint("shipgate registry login %s --username NAME", host)
		}
		return store.Problemf(store.CodeFailed, "registry %s asks for a login for image %s, or it is not there", host, name).
			WithHint("shipgate registry login %s --username NAME", host)
	case unreachable:
		return store.Problemf(store.CodeErrored, "registry %s cannot be reached for image %s: %s", host, name, login.hide(lastWords(err))).
			WithHint("docker pull %s", name)
	}
	return store.Problemf(store.CodeFailed, "get image %s: %s", name, login.hide(shorten(lastWords(err)))).
		WithHint("docker pull %s", name)
}

// otherImage is the hint of an image that is not there.
func otherImage(app, name, other string) string {
	if app == "" {
		return "docker manifest inspect " + name
	}
	return "shipgate deploy " + app + " --image " + other
}

// familiar gives the reference as people write it.
func familiar(named reference.Named) string { return reference.FamiliarString(named) }

// lastWords gives the end of a chain of errors, where the cause stands.
func lastWords(err error) string {
	for errors.Unwrap(err) != nil {
		err = errors.Unwrap(err)
	}
	text := strings.TrimSpace(err.Error())
	if parts := strings.Split(text, ": "); len(parts) > 3 {
		text = strings.Join(parts[len(parts)-3:], ": ")
	}
	return text
}
