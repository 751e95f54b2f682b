package builder

import (
	"context"
	"errors"
	"strings"

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

// registrySigns are the words that engines and registries use; of several in one text the first listed counts.
var registrySigns = []struct {
	fault registryFault
	words []string
}{
	{noTag, []string{"manifest unknown", "manifest_unknown", "unknown manifest"}},
	{noRepository, []string{"name unknown", "name_unknown", "unknown name", "repository name not known"}},
	{unauthorised, []string{"unauthorized", "no basic auth credentials", "access denied", "authentication required", "denied:", "authorization failed", "401", "403 forbidden", "insufficient_scope"}},
	{unreachable, []string{"connection refused", "no such host", "timeout", "temporary failure in name resolution", "server misbehaving", "network is unreachable",
		"no route to host", "connection reset", "eof", "x509:", "tls:", "http response to https client", "deadline exceeded", "bad gateway", "service unavailable", "internal server error", "failed size validation"}},
	{noRepository, []string{"404 not found", "not found"}},
}

func faultOf(err error) registryFault {
	text := strings.ToLower(err.Error())
	for _, sign := range registrySigns {
		for _, word := range sign.words {
			if strings.Contains(text, word) {
				return sign.fault
			}
		}
	}
	return otherFault
}

// registryProblem says what went wrong between the engine and a registry.
func (b *Builder) registryProblem(ctx context.Context, named reference.Named, login *registryLogin, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
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
			WithHint("shipgate deploy APP --image %s:TAG", reference.FamiliarName(named))
	case noRepository:
		return store.Problemf(store.CodeFailed, "registry %s has no image %s", host, name).
			WithHint("shipgate deploy APP --image REFERENCE")
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
