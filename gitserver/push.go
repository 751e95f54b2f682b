package gitserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"

	"github.com/shipgate/shipgate/store"
)

// push is one push on its way through: commands, pack, checks, refs, deployment, report.
type push struct {
	server     *Server
	app        store.App
	repository *repository
	request    *pushRequest
	body       io.Reader
	steady     *steadyBody // below body
	out        *sideband
	audit      func(d *store.Deployment, refs string, err error)
	log        *slog.Logger

	deployBranch string
	refused      map[string]error // by ref
	moved        map[string]bool  // refs that have moved already, whatever happens to the others
	unpack       error            // why the pack was refused
}

// run takes the push in and, when it deploys, stays until the verdict. A client that leaves once its pack is unpacked
// changes nothing.
func (p *push) run(ctx context.Context) {
	receiving, end := p.whileReceiving(ctx)
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(p.server.closing, cancel)()
	deployment, err := p.take(work, receiving)
	end()
	p.audit(deployment, p.refNames(), err)
	if err != nil {
		p.refuseRest(p.ours(err))
	}
	if deployment != nil {
		p.conclude(p.follow(ctx, *deployment))
	}
	p.report()
}

// whileReceiving gives the context of the work until the deployment exists: it ends with the client, the app and the server.
func (p *push) whileReceiving(ctx context.Context) (receiving context.Context, end func()) {
	receiving, cancel := context.WithCancelCause(ctx)
	stop := func(why error) func() { return func() { cancel(why); p.steady.stop() } }
	closing := context.AfterFunc(p.server.closing, stop(errClosing))
	destroyed := context.AfterFunc(p.repository.alive, stop(errDestroyed))
	return receiving, func() { closing(); destroyed(); p.steady.end(); cancel(nil) }
}

// refNames lists what the push asks to change, for the audit log.
func (p *push) refNames() string {
	names := make([]string, len(p.request.commands))
	for i, c := range p.request.commands {
		names[i] = c.name
	}
	return strings.Join(names, ", ")
}

// take brings objects and refs in, in an order that leaves nothing behind when it is broken off: everything is checked
// in the quarantine before the first change to the repository. It gives the deployment to follow, if there is one.
func (p *push) take(ctx, receiving context.Context) (*store.Deployment, error) {
	defer p.drain()
	if err := p.chooseDeployBranch(); err != nil {
		return nil, err
	}
	p.checkCommands()
	p.noteOptions()
	if len(p.accepted()) == 0 {
		return nil, nil
	}
	if err := p.server.preflight(ctx, p.app); err != nil {
		return nil, err
	}
	q := &quarantine{}
	if p.request.hasPack() {
		var err error
		if q, err = p.unpackPack(receiving); err != nil {
			p.unpack = p.ours(p.beyondBoundary(err))
			return nil, p.unpack
		}
		defer func() { p.logError("discard quarantine", q.discard()) }()
	}
	p.repository.lock.Lock()
	defer p.repository.lock.Unlock()
	return p.admit(ctx, q)
}

func (p *push) unpackPack(ctx context.Context) (*quarantine, error) {
	leave, err := p.server.receiving.enter(p.app.Name)
	if err != nil {
		return nil, err
	}
	defer leave()
	q, err := p.repository.ingest(ctx, p.body, intake{
		limits: p.server.limits, shallow: p.request.shallow, cut: p.repository.packs.Load().boundary,
		waits: func() { p.out.line("wait", fmt.Sprintf("%d other packs are being unpacked", unpackedAtOnce)) },
	})
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return nil, store.Problemf(store.CodeUnreachable, "the push was broken off: %w", cause).WithHint("git push again")
	}
	return q, err
}

// admit checks what depends on the present refs, and makes the push's changes. The repository is locked.
func (p *push) admit(ctx context.Context, q *quarantine) (*store.Deployment, error) {
	objects := p.repository.packs.Load()
	if q.pack != nil {
		objects = objects.with(q.pack)
	}
	if err := p.checkValues(ctx, objects); err != nil {
		return nil, err
	}
	accepted := p.accepted()
	if len(accepted) == 0 {
		return nil, nil
	}
	if err := q.promote(p.repository); err != nil {
		return nil, err
	}
	deploys := slices.ContainsFunc(accepted, func(c command) bool { return c.name == p.deployBranch })
	var updates []store.RefUpdate
	for _, c := range accepted {
		update := store.RefUpdate{Name: c.name, Old: hexOrEmpty(c.old), New: hexOrEmpty(c.new)}
		switch {
		case c.name == p.deployBranch:
			updates = append([]store.RefUpdate{update}, updates...)
		case deploys && p.atomic():
			updates = append(updates, update)
			p.out.line("", fmt.Sprintf("%s moves together with %s", shortName(c.name), shortName(p.deployBranch)))
		default:
			p.move(c)
		}
	}
	if len(updates) == 0 {
		return nil, nil
	}
	return p.enqueue(ctx, objects, updates)
}

// beyondBoundary names the cure when git has left out what it believes to be here.
func (p *push) beyondBoundary(err error) error {
	problem, ok := store.AsProblem(err)
	if !ok || !errors.Is(err, errBeyondBoundary) {
		return err
	}
	for _, c := range p.accepted() {
		if !c.deletes() {
			return problem.WithHint("shipgate deploy %s --ref %s", p.app.Name, c.new)
		}
	}
	return err
}

// move changes a ref that deploys nothing.
func (p *push) move(c command) {
	var err error
	if c.deletes() {
		err = p.repository.refs.remove(c.name)
	} else {
		err = p.repository.refs.set(c.name, c.new)
	}
	p.moved[c.name] = err == nil
	switch {
	case err != nil:
		p.refuse(c.name, p.ours(err))
	case c.deletes():
		p.out.line("", shortName(c.name)+" deleted")
	default:
		p.out.line("", shortName(c.name)+" stored; "+p.deploysBy())
	}
}

// deploysBy says what the app is deployed by instead.
func (p *push) deploysBy() string {
	if p.app.Source == store.SourceImage {
		return fmt.Sprintf("%s deploys an image: shipgate deploy %s --image REF", p.app.Name, p.app.Name)
	}
	return fmt.Sprintf("only %s deploys", shortName(p.deployBranch))
}

// enqueue keeps the commit under a ref of its own before the deployment exists that needs it.
func (p *push) enqueue(ctx context.Context, objects *objects, updates []store.RefUpdate) (*store.Deployment, error) {
	sha := updates[0].New
	commit, err := objects.commit(plumbing.NewHash(sha))
	if err != nil {
		return nil, err
	}
	id, err := p.server.store.ReserveDeployment(ctx)
	if err != nil {
		return nil, err
	}
	if err := p.repository.refs.set(hiddenRef(id), commit.Hash); err != nil {
		return nil, err
	}
	deployment, err := p.server.store.Enqueue(ctx, store.NewDeployment{
		ID: id, App: p.app.Name, Trigger: store.TriggerPush, SHA: sha, Ref: p.deployBranch,
		Subject: subjectOf(commit.Message), Updates: updates,
	})
	if err != nil {
		return nil, errors.Join(err, p.repository.refs.remove(hiddenRef(id)))
	}
	return &deployment, nil
}

// accepted lists the commands that nothing speaks against so far.
func (p *push) accepted() []command {
	var accepted []command
	for _, c := range p.request.commands {
		if p.refused[c.name] == nil {
			accepted = append(accepted, c)
		}
	}
	if p.atomic() && len(accepted) < len(p.request.commands) {
		p.refuseRest(refusal("atomic push failed: another ref was refused"))
		return nil
	}
	return accepted
}

func (p *push) atomic() bool { return p.request.capabilities.Supports(capability.Atomic) }

func (p *push) commands(name string) (count int) {
	for _, c := range p.request.commands {
		if c.name == name {
			count++
		}
	}
	return count
}

func (p *push) refuse(name string, err error) {
	if err != nil && p.refused[name] == nil && !p.moved[name] {
		p.refused[name] = err
	}
}

func (p *push) refuseRest(err error) {
	for _, c := range p.request.commands {
		p.refuse(c.name, err)
	}
}

// conclude turns the verdict into the fate of the refs that waited for it. Git waits for ever for a report that does
// not come while the connection ends in good order, so there is one also when the verdict is not known yet.
func (p *push) conclude(d store.Deployment, err error) {
	if err != nil {
		p.log.Info("push no longer followed", "deployment", d.ID, "error", err)
	}
	for _, update := range d.Updates {
		p.refuse(update.Name, p.fate(d, update, err))
	}
}

func (p *push) fate(d store.Deployment, update store.RefUpdate, lost error) error {
	if lost != nil {
		return store.Problemf(store.CodeErrored, "%w; deployment %d goes on", lost, d.ID).WithHint("shipgate show %d", d.ID)
	}
	if d.Verdict != store.Succeeded {
		return store.Problemf(store.CodeFailed, "%s", orText(d.Reason, string(d.Verdict)))
	}
	current, err := p.repository.refs.get(update.Name)
	if err != nil {
		return p.ours(err)
	}
	if hexOrEmpty(current) != update.New {
		return store.Problemf(store.CodeErrored, "deployment %d succeeded, and the ref did not move", d.ID)
	}
	return nil
}

// report answers for each ref, and shows the hint of each refusal once.
func (p *push) report() {
	report := packp.NewReportStatus()
	report.UnpackStatus = "ok"
	if p.unpack != nil {
		report.UnpackStatus = message(p.unpack)
	}
	hinted := map[string]bool{}
	told := map[string]bool{}
	for _, c := range p.request.commands {
		if told[c.name] {
			continue
		}
		told[c.name] = true
		status := &packp.CommandStatus{ReferenceName: plumbing.ReferenceName(c.name), Status: "ok"}
		if err := p.refused[c.name]; err != nil {
			status.Status = message(err)
			if problem, ok := store.AsProblem(err); ok && problem.Hint != "" && !hinted[problem.Hint] {
				hinted[problem.Hint] = true
				p.out.line("hint", problem.Hint)
			}
		}
		report.CommandStatuses = append(report.CommandStatuses, status)
	}
	var encoded bytes.Buffer
	if p.request.capabilities.Supports(capability.ReportStatus) {
		p.logError("encode report", report.Encode(&encoded))
	}
	p.out.finish(encoded.Bytes())
}

// maxDrain bounds what is read of a push that was refused already. Git reads the answer only after it has sent its pack.
const maxDrain = 1 << 30

func (p *push) drain() {
	if p.steady.over() {
		return
	}
	if _, err := io.CopyN(io.Discard, p.body, maxDrain); err != nil && !errors.Is(err, io.EOF) {
		p.log.Debug("client left during its push", "error", err)
	}
}

// ours turns what is not the user's fault into a Problem that says so, and logs it.
func (p *push) ours(err error) error {
	if _, ok := store.AsProblem(err); ok {
		return err
	}
	p.log.Error("push", "error", err)
	return store.Problemf(store.CodeErrored, "internal error, see the server's log")
}

func (p *push) logError(action string, err error) {
	if err != nil {
		p.log.Error(action, "error", err)
	}
}
