package gitserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/transport"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"

	"github.com/shipgate/shipgate/store"
)

// forge is one conversation with the repository at the forge, in the protocol of git's gitprotocol-http(5).
type forge struct {
	name     string // of the repository, for messages
	password string
	session  transport.UploadPackSession
	*conversation
}

var errRedirect = errors.New("the forge redirects to another host")

// sameHost follows a redirect only within the scheme and host that the credentials are for.
func sameHost(next *http.Request, before []*http.Request) error {
	const most = 5
	if next.URL.Scheme != before[0].URL.Scheme || next.URL.Host != before[0].URL.Host || len(before) > most {
		return errRedirect
	}
	return nil
}

// newForgeClient bounds each wait that no deadline of a caller bounds. What takes long by its size has no bound here.
func newForgeClient() *http.Client {
	const patience = 30 * time.Second
	return &http.Client{CheckRedirect: sameHost, Transport: &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: patience}).DialContext,
		TLSHandshakeTimeout: patience, ResponseHeaderTimeout: 2 * patience, IdleConnTimeout: 2 * patience,
		ForceAttemptHTTP2: true,
	}}
}

func openForge(client *http.Client, remote store.Remote, patience time.Duration) (*forge, error) {
	endpoint, err := transport.NewEndpoint(remote.URL)
	if err != nil || (endpoint.Protocol != "http" && endpoint.Protocol != "https") {
		return nil, store.Problemf(store.CodeUsage, "the address of the app's repository is not http or https").WithHint("shipgate doctor")
	}
	endpoint.User, endpoint.Password = "", "" // they come from the Remote only
	f := &forge{
		name: strings.TrimSuffix(strings.Trim(endpoint.Path, "/"), ".git"), password: remote.Password,
		conversation: &conversation{transport: client.Transport, patience: patience},
	}
	var auth transport.AuthMethod
	if remote.Password != "" {
		auth = &githttp.BasicAuth{Username: remote.Username, Password: remote.Password}
	}
	f.session, err = githttp.NewClient(&http.Client{CheckRedirect: client.CheckRedirect, Transport: f.conversation}).
		NewUploadPackSession(endpoint, auth)
	if err != nil {
		return nil, f.errored("open %s: %s", f.name, f.masked(err))
	}
	return f, nil
}

// references lists what the forge has. An empty repository has none.
func (f *forge) references(ctx context.Context) (*packp.AdvRefs, error) {
	advertised, err := f.session.AdvertisedReferencesContext(ctx)
	if errors.Is(err, transport.ErrEmptyRemoteRepository) {
		return packp.NewAdvRefs(), nil
	}
	if err != nil {
		return nil, interrupted(ctx, f.name, f.problem("read the branches of", err))
	}
	return advertised, nil
}

// problem says what went wrong at the forge. Only what may go away by itself is unreachable, and so worth another try.
func (f *forge) problem(action string, err error) error {
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.Is(err, errRedirect):
		return f.errored("%s %s: %w", action, f.name, errRedirect)
	case errors.Is(f.fault, errTooLong), errors.As(f.fault, &certificate):
		return f.errored("%s %s: %s", action, f.name, f.masked(f.fault))
	case f.fault != nil:
		return f.unreachable(action, f.masked(f.fault))
	case f.status/100 != 2:
		return f.refusal(action)
	case f.silent(), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, errEndsEarly), strings.HasSuffix(err.Error(), "EOF"):
		return f.unreachable(action, "its answer ends too early")
	}
	return f.errored("%s %s: %s", action, f.name, f.masked(err))
}

// refusal reads the status of an answer that is none.
func (f *forge) refusal(action string) error {
	text := fmt.Sprintf("the forge answers with status %d", f.status)
	switch {
	case f.status >= 500, f.status == http.StatusTooManyRequests, f.status == http.StatusRequestTimeout:
		return f.unreachable(action, text)
	case f.status == http.StatusForbidden && f.comeBack:
		return f.unreachable(action, text+" for now")
	case f.status == http.StatusUnauthorized, f.status == http.StatusForbidden:
		return f.errored("the forge does not let us %s %s", action, f.name)
	case f.status == http.StatusNotFound, f.status == http.StatusGone:
		return f.errored("the forge has no repository %s, or does not show it to us", f.name)
	}
	return f.errored("%s %s: %s", action, f.name, text)
}

func (f *forge) errored(format string, args ...any) error {
	return store.Problemf(store.CodeErrored, format, args...).WithHint("shipgate doctor")
}

func (f *forge) unreachable(action, text string) error {
	return store.Problemf(store.CodeUnreachable, "%s %s: %s", action, f.name, text)
}

// masked is an error's text as it can be shown: some of it is the forge's.
func (f *forge) masked(err error) string {
	text := err.Error()
	if f.password != "" {
		text = strings.ReplaceAll(text, f.password, "[masked]")
	}
	return printable(text)
}

var errDestroyed = errors.New("the app was destroyed")

// interrupted gives an error that the end of its context has brought about as what it is. The server's own stop and a
// deadline say nothing about the commit, so the work may be taken up again: both are unreachable.
func interrupted(ctx context.Context, name string, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	cause := context.Cause(ctx)
	switch {
	case errors.Is(cause, errDestroyed):
		return store.Problemf(store.CodeNotFound, "fetch from %s: %w", name, errDestroyed)
	case errors.Is(cause, errClosing):
		return store.Problemf(store.CodeUnreachable, "fetch from %s: %w", name, errClosing)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return store.Problemf(store.CodeUnreachable, "fetch from %s: %w", name, ctx.Err())
	}
	return fmt.Errorf("fetch from %s: %w", name, ctx.Err())
}

// forge opens the conversation about an app's repository; nil when the app has no remote.
func (s *Server) forge(ctx context.Context, app store.App) (*forge, error) {
	if s.remote == nil {
		return nil, nil
	}
	remote, found, err := s.remote(ctx, app)
	if err != nil || !found {
		return nil, err
	}
	return openForge(s.client, remote, s.stall)
}

// RemoteHead asks the forge for the commit of a branch, given by its full name; "" when there is no such branch.
func (s *Server) RemoteHead(ctx context.Context, app, branch string) (sha string, err error) {
	record, err := s.store.App(ctx, app)
	if err != nil {
		return "", err
	}
	f, err := s.forge(ctx, record)
	if err != nil {
		return "", err
	}
	if f == nil {
		return "", noRemote(app)
	}
	advertised, err := f.references(ctx)
	if err != nil {
		return "", err
	}
	return hexOrEmpty(advertised.References[branch]), nil
}

func noRemote(app string) error {
	return store.Problemf(store.CodeNotFound, "%s has no repository at a forge", app).WithHint("shipgate app update %s --repo OWNER/NAME", app)
}

// atForge finds what a name stands for at the forge: the deploy branch for "", a full ref, a branch, or a tag, which is
// peeled. It gives "" when the forge does not know the name.
func (s *Server) atForge(ctx context.Context, app store.App, f *forge, ref string) (string, error) {
	names := []string{ref, "refs/heads/" + ref, "refs/tags/" + ref}
	if ref == "" {
		branch, tip, err := s.DeployBranch(ctx, app)
		if err != nil {
			return "", err
		}
		if names = []string{branch}; tip == "" {
			names = append(names, mainBranch, masterBranch)
		}
	}
	advertised, err := f.references(ctx)
	if err != nil {
		return "", err
	}
	for _, name := range names {
		if id, ok := advertised.Peeled[name]; ok {
			return id.String(), nil
		}
		if id, ok := advertised.References[name]; ok && strings.HasPrefix(name, "refs/") {
			return id.String(), nil
		}
	}
	return "", nil
}

// nameAtForge gives the id of the commit that a name stands for at the forge, or the name where the forge has no say in it.
// Away says that the commit is not here yet.
func (s *Server) nameAtForge(ctx context.Context, name, ref string) (id string, away bool, err error) {
	sha := strings.ToLower(ref)
	full := store.ValidateCommitID(sha) == nil
	if s.remote == nil || (full && s.holds(name, sha)) {
		return ref, false, nil
	}
	app, err := s.store.App(ctx, name)
	if err != nil {
		return "", false, err
	}
	f, err := s.forge(ctx, app)
	if err != nil || f == nil {
		return ref, false, err
	}
	if !full {
		if sha, err = s.atForge(ctx, app, f, ref); err != nil || sha == "" {
			return ref, false, err
		}
	}
	return sha, !s.holds(name, sha), nil
}

// holds says whether an object is here already.
func (s *Server) holds(app, id string) bool {
	r, err := s.repository(app)
	return err == nil && r.packs.Load().has(plumbing.NewHash(id))
}
