package gitserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/shipgate/shipgate/store"
)

// longestSubject is how much of a subject a commit gets.
const longestSubject = 200 // runes

// Upload makes a commit without parents of a tar stream, in the app's repository, through the same checks as a push. No ref
// holds it: whoever uploads has an hour to have it deployed. What is wrong with the stream is a usage Problem that names
// the entry. The format: https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html#tag_20_94_13
func (s *Server) Upload(ctx context.Context, app store.App, subject string, content io.Reader) (upload store.Upload, err error) {
	if !s.begin() {
		return upload, store.Problemf(store.CodeUnreachable, "upload to %s: %w", app.Name, errClosing)
	}
	defer s.pushes.Done()
	if err := s.preflight(ctx, app); err != nil {
		return upload, err
	}
	r, err := s.ensureRepository(app.Name)
	if err != nil {
		return upload, err
	}
	leave, err := s.receiving.enter(app.Name)
	if err != nil {
		return upload, err
	}
	defer leave()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(r.alive, func() { cancel(errDestroyed) })()
	dir, err := os.MkdirTemp(r.dir, quarantinePrefix)
	if err != nil {
		return upload, fmt.Errorf("create quarantine: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	pack, err := newUploadPack(dir)
	if err != nil {
		return upload, err
	}
	defer func() { err = errors.Join(err, pack.file.Close()) }()
	tree := newUploadTree(s.limits)
	if err := tree.take(ctx, content, pack); err != nil {
		return upload, err
	}
	root, err := tree.root.write(pack)
	if err != nil {
		return upload, err
	}
	id, err := pack.commit(root, subject, time.Now())
	if err != nil {
		return upload, err
	}
	upload = store.Upload{SHA: id.String(), Tree: root.String(), Files: tree.files, Bytes: tree.bytes}
	return upload, s.takeIn(ctx, r, pack)
}

// takeIn has the pack of an upload checked and moved into the repository like that of a push.
func (s *Server) takeIn(ctx context.Context, r *repository, pack *uploadPack) error {
	stream, err := pack.stream()
	if err != nil {
		return err
	}
	limits := s.limits
	limits.InflatedBytes = math.MaxInt64 // the pack is ours, without deltas, of files that were counted
	q, err := r.ingest(ctx, stream, intake{limits: limits, cut: r.packs.Load().boundary})
	if err != nil {
		return err
	}
	r.lock.Lock()
	defer r.lock.Unlock()
	return errors.Join(q.promote(r), q.discard())
}

// commit writes the commit of a tree, and gives its id.
func (p *uploadPack) commit(root plumbing.Hash, subject string, now time.Time) (plumbing.Hash, error) {
	who := fmt.Sprintf("shipgate <shipgate@localhost> %d +0000", now.Unix())
	content := fmt.Sprintf("tree %s\nauthor %s\ncommitter %s\n\n%s\n", root, who, who, orText(plainSubject(subject), "Upload"))
	return p.add(plumbing.CommitObject, int64(len(content)), strings.NewReader(content))
}

// plainSubject makes one short line of a text that somebody sent.
func plainSubject(text string) string {
	text = strings.ToValidUTF8(text, "�")
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
	if utf8.RuneCountInString(text) <= longestSubject {
		return text
	}
	return string([]rune(text)[:longestSubject-1]) + "…"
}
