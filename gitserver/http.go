package gitserver

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing/format/pktline"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"

	"github.com/shipgate/shipgate/store"
)

// ServeHTTP answers git's smart HTTP protocol for pushes: /APP.git/info/refs?service=git-receive-pack and
// /APP.git/git-receive-pack. The protocol is that of git's gitprotocol-http(5).
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.begin() {
		http.Error(w, errClosing.Error(), http.StatusServiceUnavailable)
		return
	}
	defer s.pushes.Done()
	name, verb, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), ".git/")
	app, token, err := s.authorise(r, name)
	if err != nil {
		s.auditRefusal(r, token, name, err)
		s.refuse(w, r, err)
		return
	}
	switch {
	case r.Method == http.MethodGet && verb == "info/refs":
		err = s.advertise(w, r, app)
	case r.Method == http.MethodPost && verb == "git-receive-pack":
		err = s.receive(w, r, app, token)
	case r.Method == http.MethodPost && verb == "git-upload-pack":
		err = pushOnly(app)
	default:
		err = store.Problemf(store.CodeNotFound, "there is nothing at %s", r.URL.Path)
	}
	if err != nil {
		s.refuse(w, r, err)
	}
}

// authorise finds the app that the request is for, for someone who may deploy it.
func (s *Server) authorise(r *http.Request, name string) (store.App, store.Token, error) {
	token, err := s.store.AuthenticateFrom(r.Context(), secretOf(r), remoteOf(r))
	if err != nil {
		return store.App{}, token, err
	}
	if !token.May(store.RightDeploy, name) {
		return store.App{}, token, errForbidden
	}
	app, err := s.store.App(r.Context(), name)
	return app, token, err
}

var errForbidden = store.Problemf(store.CodeUnauthorised, "the token does not allow to deploy this app").
	WithHint("on the server: shipgate token create --rights read,deploy --app APP")

// secretOf takes a token from the password, or from the user name when there is no password, or from a Bearer header.
func secretOf(r *http.Request) string {
	if user, password, ok := r.BasicAuth(); ok {
		if password == "" {
			return user
		}
		return password
	}
	scheme, secret, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") {
		return secret
	}
	return ""
}

func pushOnly(app store.App) error {
	return store.Problemf(store.CodeUsage, "%s is a deploy remote: it takes pushes and gives nothing back; clone from where the code is kept", app.Name)
}

// refuse answers in plain text, which git shows to its user.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	problem, ok := store.AsProblem(err)
	if !ok {
		s.log.Error("git request", "path", r.URL.Path, "error", err)
		problem = store.Problemf(store.CodeErrored, "internal error, see the server's log")
	}
	status := map[store.Code]int{
		store.CodeUnauthorised: http.StatusUnauthorized, store.CodeNotFound: http.StatusNotFound,
		store.CodeUsage: http.StatusBadRequest, store.CodeConflict: http.StatusConflict,
	}[problem.Code]
	switch {
	case status == 0:
		status = http.StatusInternalServerError
	case errors.Is(err, store.ErrTooManyWrongTokens):
		status = http.StatusTooManyRequests
	case errors.Is(err, errForbidden):
		status = http.StatusForbidden
	case status == http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Basic realm="shipgate", charset="UTF-8"`)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	w.WriteHeader(status)
	text := problem.Message + "\n"
	if problem.Hint != "" {
		text += problem.Hint + "\n"
	}
	_, _ = io.WriteString(w, text)
}

func (s *Server) advertise(w http.ResponseWriter, r *http.Request, app store.App) error {
	service := r.URL.Query().Get("service")
	if service != "git-receive-pack" && service != "git-upload-pack" {
		return store.Problemf(store.CodeUsage, "this server speaks git's smart HTTP protocol only")
	}
	var body bytes.Buffer
	if refused := s.refusedEarly(r.Context(), service, app); refused != nil {
		packets := pktline.NewEncoder(&body)
		_ = errors.Join(packets.Encodef("# service=%s\n", service), packets.Flush(), packets.Encodef("ERR %s", oneLine(refused)))
	} else if err := s.advertisement(&body, service, app); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-"+service+"-advertisement")
	w.Header().Set("Cache-Control", "no-cache")
	_, err := w.Write(body.Bytes())
	if err != nil {
		s.log.Debug("client left during the advertisement", "app", app.Name, "error", err)
	}
	return nil
}

func (s *Server) refusedEarly(ctx context.Context, service string, app store.App) error {
	if service == "git-upload-pack" {
		return pushOnly(app)
	}
	return s.preflight(ctx, app)
}

func oneLine(err error) string {
	text := err.Error()
	if problem, ok := store.AsProblem(err); ok && problem.Hint != "" {
		text = problem.Message + " (" + problem.Hint + ")"
	}
	return strings.Join(strings.Fields(text), " ")
}

func (s *Server) advertisement(w io.Writer, service string, app store.App) error {
	repository, err := s.ensureRepository(app.Name)
	if err != nil {
		return err
	}
	all, err := repository.refs.all()
	if err != nil {
		return err
	}
	advertised := packp.NewAdvRefs()
	advertised.Prefix = [][]byte{[]byte("# service=" + service), pktline.Flush}
	if advertised.Capabilities, err = ourCapabilities(); err != nil {
		return err
	}
	for name, id := range all {
		advertised.References[name] = id
	}
	// So that a push after a failed deployment need not send the same objects again.
	if id, err := repository.refs.newestHidden(); err != nil {
		return err
	} else if !id.IsZero() {
		advertised.References[".have"] = id
	}
	advertised.Shallows = repository.packs.Load().shallows()
	return advertised.Encode(w)
}

// ourCapabilities leaves quiet out: git asks for it whenever it does not write to a terminal, and a push from CI is to
// show its deployment too.
func ourCapabilities() (*capability.List, error) {
	list := capability.NewList()
	for _, c := range []capability.Capability{
		capability.ReportStatus, capability.DeleteRefs, capability.Sideband64k, capability.Atomic,
		capability.OFSDelta, capability.PushOptions, "no-thin",
	} {
		if err := list.Set(c); err != nil {
			return nil, fmt.Errorf("list capabilities: %w", err)
		}
	}
	return list, errors.Join(list.Set(capability.ObjectFormat, "sha1"), list.Set(capability.Agent, "shipgate"))
}

// receive answers a push. What is refused before the protocol is under way is given back as an error.
func (s *Server) receive(w http.ResponseWriter, r *http.Request, app store.App, token store.Token) error {
	control := http.NewResponseController(w)
	steady := &steadyBody{body: r.Body, control: control, idle: s.idle}
	defer steady.end()
	body, err := inflatedBody(r, steady)
	if err != nil {
		return err
	}
	request, err := decodeRequest(body, s.limits)
	if err != nil && !errors.Is(err, errProbe) {
		return err
	}
	w.Header().Set("Content-Type", "application/x-git-receive-pack-result")
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("X-Accel-Buffering", "no")
	if errors.Is(err, errProbe) {
		return nil
	}
	repository, err := s.ensureRepository(app.Name)
	if err != nil {
		return err
	}
	if err := control.EnableFullDuplex(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("answer while the request is read: %w", err)
	}
	out := newSideband(w, func() error {
		_ = control.SetWriteDeadline(time.Now().Add(s.idle)) // a client that reads nothing is let go
		return control.Flush()
	}, request.capabilities, s.keepAlive)
	defer func() { out.stop(); _ = control.SetWriteDeadline(time.Time{}) }()
	p := &push{
		server: s, app: app, repository: repository, request: request, body: body, steady: steady, out: out,
		refused: map[string]error{}, moved: map[string]bool{}, log: s.log.With("app", app.Name),
		audit: func(d *store.Deployment, refs string, err error) { s.auditPush(r, token, app.Name, d, refs, err) },
	}
	p.run(r.Context())
	return nil
}

func inflatedBody(r *http.Request, content io.Reader) (io.Reader, error) {
	switch r.Header.Get("Content-Encoding") {
	case "", "identity":
		return content, nil
	case "gzip", "x-gzip":
		body, err := gzip.NewReader(content)
		if err != nil {
			return nil, refusal("the request is not gzip: %w", err)
		}
		return body, nil
	}
	return nil, refusal("Content-Encoding %q is not known: send it plain or as gzip", r.Header.Get("Content-Encoding"))
}
