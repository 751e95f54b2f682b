package builder

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/registry"
	"github.com/moby/buildkit/session/auth"
	"google.golang.org/grpc"
)

// registryLogin gives one registry's credentials to a build, and those of no other.
type registryLogin struct {
	auth.UnimplementedAuthServer
	host               string // as it stands in references
	username, password string // empty: there are none
}

// loginFor looks up the credentials for the registry of a reference.
func (b *Builder) loginFor(ctx context.Context, app string, named reference.Named) (*registryLogin, error) {
	login := &registryLogin{host: reference.Domain(named)}
	if b.login == nil {
		return login, nil
	}
	username, password, found, err := b.login(ctx, app, login.host)
	if err != nil {
		return nil, fmt.Errorf("look up credentials for registry %s: %w", login.host, err)
	}
	if found {
		login.username, login.password = username, password
	}
	return login, nil
}

// known says that there are credentials.
func (l *registryLogin) known() bool { return l.password != "" }

// header encodes the credentials as the engine takes them: https://docs.docker.com/reference/api/engine/ (Authentication).
func (l *registryLogin) header() (string, error) {
	if !l.known() {
		return "", nil
	}
	text, err := json.Marshal(registry.AuthConfig{Username: l.username, Password: l.password, ServerAddress: l.host})
	if err != nil {
		return "", fmt.Errorf("encode credentials for registry %s: %w", l.host, err)
	}
	return base64.URLEncoding.EncodeToString(text), nil
}

// hide takes the password out of a text that others wrote.
func (l *registryLogin) hide(text string) string {
	if !l.known() {
		return text
	}
	return strings.ReplaceAll(text, l.password, "***")
}

// Register adds the credentials to a session with BuildKit.
func (l *registryLogin) Register(server *grpc.Server) { auth.RegisterAuthServer(server, l) }

// Credentials answers BuildKit, which asks by the host that it connects to.
func (l *registryLogin) Credentials(_ context.Context, request *auth.CredentialsRequest) (*auth.CredentialsResponse, error) {
	if referenceHost(request.GetHost()) != l.host {
		return &auth.CredentialsResponse{}, nil
	}
	return &auth.CredentialsResponse{Username: l.username, Secret: l.password}, nil
}

// registryLogins gives a build the credentials for each registry that a FROM of it names.
type registryLogins struct {
	auth.UnimplementedAuthServer
	app   string
	login func(ctx context.Context, app, host string) (username, password string, found bool, err error)
}

// Register adds the credentials to a session with BuildKit.
func (l *registryLogins) Register(server *grpc.Server) { auth.RegisterAuthServer(server, l) }

// Credentials answers BuildKit. A host that there are none for may let everybody in.
func (l *registryLogins) Credentials(ctx context.Context, request *auth.CredentialsRequest) (*auth.CredentialsResponse, error) {
	username, password, found, err := l.login(ctx, l.app, referenceHost(request.GetHost()))
	if err != nil || !found {
		return &auth.CredentialsResponse{}, err
	}
	return &auth.CredentialsResponse{Username: username, Secret: password}, nil
}

// referenceHost is the host that BuildKit connects to as it stands in references.
func referenceHost(host string) string {
	if host == "registry-1.docker.io" {
		return "docker.io"
	}
	return host
}
