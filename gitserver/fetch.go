package gitserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	bands "github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"

	"github.com/shipgate/shipgate/store"
)

// Fetch brings a commit from the forge into the app's repository, without its history, unless it is here. It gives an
// unreachable Problem when another try may succeed, and not_found when the app has no remote.
func (s *Server) Fetch(ctx context.Context, app, sha string) (fetched bool, err error) {
	if err := store.ValidateCommitID(sha); err != nil {
		return false, err
	}
	record, err := s.store.App(ctx, app)
	if err != nil {
		return false, err
	}
	if !s.begin() {
		return false, store.Problemf(store.CodeUnreachable, "fetch %.7s: %w", sha, errClosing)
	}
	defer s.pushes.Done()
	r, err := s.ensureRepository(app)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.closing, func() { cancel(errClosing) })()
	defer context.AfterFunc(r.alive, func() { cancel(errDestroyed) })()
	fetched, err = s.fetchMissing(ctx, r, record, plumbing.NewHash(sha))
	return fetched, interrupted(ctx, app, err)
}

func (s *Server) fetchMissing(ctx context.Context, r *repository, app store.App, want plumbing.Hash) (fetched bool, err error) {
	done, err := r.takeTurn(ctx)
	if err != nil {
		return false, err
	}
	defer done()
	if r.packs.Load().has(want) {
		return false, nil // every pack is closed: its whole tree is here too
	}
	f, err := s.forge(ctx, app)
	if err != nil {
		return false, err
	}
	if f == nil {
		return false, noRemote(app.Name)
	}
	if err := s.fetch(ctx, r, f, want); err != nil {
		return false, err
	}
	return true, nil
}

// takeTurn waits until no other fetch of the repository runs.
func (r *repository) takeTurn(ctx context.Context) (done func(), err error) {
	turn := r.fetching
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for another fetch: %w", ctx.Err())
	}
}

// fetch takes one commit over. The repository's fetches exclude each other, so the boundary only grows by this one.
func (s *Server) fetch(ctx context.Context, r *repository, f *forge, want plumbing.Hash) (err error) {
	advertised, err := f.references(ctx)
	if err != nil {
		return err
	}
	request, err := r.fetchRequest(advertised.Capabilities, want)
	if err != nil {
		return err
	}
	response, err := f.session.UploadPack(ctx, request)
	if err != nil {
		return f.refusedFetch(want, err)
	}
	defer func() { _ = response.Close() }()
	f.allowPack(s.limits.PackBytes)
	body := &forgeBody{source: packBody(request.Capabilities, response)}
	cut := slices.DeleteFunc(response.Shallows, func(id plumbing.Hash) bool { return id != want })
	q, err := r.ingest(ctx, body, intake{limits: s.limits, cut: r.packs.Load().boundary.with(cut)})
	if err != nil {
		return f.refusedPack(want, body.fault, err)
	}
	defer func() { err = errors.Join(err, q.discard()) }()
	if !r.holds(q, want) {
		return store.Problemf(store.CodeErrored, "the forge sent a pack without commit %.7s of %s", want.String(), f.name).WithHint("shipgate doctor")
	}
	if err := r.enlargeBoundary(cut); err != nil {
		return err
	}
	r.lock.Lock()
	defer r.lock.Unlock()
	return q.promote(r)
}

// holds says whether the quarantine has brought this commit.
func (r *repository) holds(q *quarantine, id plumbing.Hash) bool {
	if q.pack == nil {
		return false
	}
	kind, _ := r.packs.Load().with(q.pack).kind(id)
	return kind == plumbing.CommitObject
}

// fetchRequest asks for one commit without its parents, as what differs from what is here. Only a thin pack leaves out
// what a commit that is no ancestor within the depth has already.
func (r *repository) fetchRequest(offered *capability.List, want plumbing.Hash) (*packp.UploadPackRequest, error) {
	if !offered.Supports(capability.Shallow) {
		return nil, store.Problemf(store.CodeErrored, "the forge of %s does not give single commits", r.app).WithHint("shipgate doctor")
	}
	request := packp.NewUploadPackRequestFromCapabilities(offered)
	request.Wants = []plumbing.Hash{want}
	request.Depth = packp.DepthCommits(1)
	err := errors.Join(request.Capabilities.Set(capability.Shallow), request.Capabilities.Set(capability.ThinPack))
	if offered.Supports(capability.NoProgress) {
		err = errors.Join(err, request.Capabilities.Set(capability.NoProgress))
	}
	if err != nil {
		return nil, fmt.Errorf("list capabilities: %w", err)
	}
	request.Shallows = r.packs.Load().shallows()
	request.Haves, err = r.haves()
	return request, err
}

// haves lists some of what is here: the newest deployments' commits and the tips of branches.
func (r *repository) haves() ([]plumbing.Hash, error) {
	const most = 32
	all, err := r.refs.all()
	if err != nil {
		return nil, err
	}
	haves, err := r.refs.hidden(most / 2)
	if err != nil {
		return nil, err
	}
	packs := r.packs.Load()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if len(haves) < most && strings.HasPrefix(name, "refs/heads/") {
			haves = append(haves, all[name])
		}
	}
	return slices.DeleteFunc(haves, func(id plumbing.Hash) bool { return !packs.has(id) }), nil
}

func packBody(capabilities *capability.List, response io.Reader) io.Reader {
	switch {
	case capabilities.Supports(capability.Sideband64k):
		return bands.NewDemuxer(bands.Sideband64k, response)
	case capabilities.Supports(capability.Sideband):
		return bands.NewDemuxer(bands.Sideband, response)
	}
	return response
}

// forgeBody remembers why a pack could not be read to its end, which is no fault of the pack's.
type forgeBody struct {
	source io.Reader
	fault  error
}

func (b *forgeBody) Read(p []byte) (int, error) {
	n, err := b.source.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		b.fault = err
	}
	return n, err
}

// refusedPack tells a pack that did not come whole from one that is not to be had, and both from trouble of our own.
func (f *forge) refusedPack(want plumbing.Hash, unread, err error) error {
	if unread != nil {
		return f.problem("read the pack of", unread)
	}
	if errors.Is(err, errEndsEarly) {
		return f.problem("read the pack of", err)
	}
	if _, refused := store.AsProblem(err); refused {
		return f.errored("take in commit %.7s of %s: %w", want.String(), f.name, err)
	}
	return fmt.Errorf("take in commit %.7s of %s: %w", want.String(), f.name, err)
}

// refusedFetch tells a commit that is gone, or never was there, from a forge that has trouble.
func (f *forge) refusedFetch(want plumbing.Hash, err error) error {
	text := err.Error()
	if strings.Contains(text, "not our ref") || strings.Contains(text, "unadvertised object") {
		return store.Problemf(store.CodeErrored, "the forge does not give commit %.7s of %s: it is no longer there, or no branch's tip", want.String(), f.name).
			WithHint("push it again, or deploy the branch as it is now")
	}
	return f.problem("fetch from", err)
}

// Obtain makes sure that the deployment's commit is here, and keeps it under a ref of the deployment's own. A deployment
// of something that is no commit needs nothing from here.
func (s *Server) Obtain(ctx context.Context, d store.Deployment) (fetched bool, err error) {
	if store.ValidateCommitID(d.SHA) != nil {
		return false, nil
	}
	r, err := s.ensureRepository(d.App)
	if err != nil {
		return false, err
	}
	id := plumbing.NewHash(d.SHA)
	for {
		if kept, err := r.keep(id, d.ID); err != nil || kept {
			return fetched, errors.Join(err, s.describe(ctx, r, d))
		}
		if fetched, err = s.Fetch(ctx, d.App, d.SHA); err != nil {
			return false, err
		}
	}
}

// describe gives a deployment that was asked for by an id alone the subject of its commit.
func (s *Server) describe(ctx context.Context, r *repository, d store.Deployment) error {
	if d.Subject != "" {
		return nil
	}
	commit, err := r.packs.Load().commit(plumbing.NewHash(d.SHA))
	if err != nil {
		return nil // what the build makes of an object that is no commit is its business
	}
	if subject := subjectOf(commit.Message); subject != "" {
		return s.store.Describe(ctx, d.ID, subject)
	}
	return nil
}

// keep puts the commit under the deployment's ref; false when it is not here.
func (r *repository) keep(id plumbing.Hash, deployment int64) (bool, error) {
	r.lock.Lock()
	defer r.lock.Unlock()
	if !r.packs.Load().has(id) {
		return false, nil
	}
	if kept, err := r.refs.get(hiddenRef(deployment)); err != nil || kept == id {
		return true, err
	}
	return true, r.refs.set(hiddenRef(deployment), id)
}

// Follows gives the full name of the ref that deploys when this one is pushed, and its present commit here; "" when
// nothing is live from it yet.
func (s *Server) Follows(_ context.Context, app store.App, pushed string) (branch, tip string, err error) {
	r, err := s.ensureRepository(app.Name)
	if err != nil {
		return "", "", err
	}
	present, err := r.refs.all()
	if err != nil {
		return "", "", err
	}
	branch, err = r.deployBranch(app, present, []command{{name: pushed}})
	return branch, hexOrEmpty(present[branch]), err
}

// Message gives the whole message of a commit.
func (s *Server) Message(_ context.Context, app, sha string) (string, error) {
	r, err := s.repository(app)
	if err != nil {
		return "", err
	}
	commit, err := r.packs.Load().commit(plumbing.NewHash(sha))
	if errors.Is(err, plumbing.ErrObjectNotFound) {
		return "", store.Problemf(store.CodeNotFound, "%s has no commit %s", app, sha).WithHint("shipgate deploy %s", app)
	}
	if err != nil {
		return "", err
	}
	return commit.Message, nil
}
