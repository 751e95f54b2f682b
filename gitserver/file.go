package gitserver

import (
	"context"
	"fmt"
	"io"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/shipgate/shipgate/store"
)

const maxFile = 1 << 20 // bytes that File reads; it is for settings

// File gives the content of a plain file at the top of a commit; false when there is none. It reads one tree object,
// however many files the commit has.
func (s *Server) File(ctx context.Context, app, sha, name string) (content []byte, found bool, err error) {
	snapshot, err := s.Snapshot(ctx, app, sha)
	if err != nil {
		return nil, false, err
	}
	entries, err := snapshot.objects.readKind(snapshot.tree, plumbing.TreeObject)
	for err == nil && len(entries) > 0 {
		var e treeEntry
		if e, entries, err = nextTreeEntry(entries); err == nil && e.name == name && (e.mode == store.ModeFile || e.mode == store.ModeExecutable || e.mode == groupWritable) {
			content, err = snapshot.readBlob(e.id.String(), name)
			return content, err == nil, err
		}
	}
	if err != nil {
		return nil, false, fmt.Errorf("read tree of commit %s: %w", sha, err)
	}
	return nil, false, nil
}

func (s *Snapshot) readBlob(id, name string) ([]byte, error) {
	blob, err := s.OpenBlob(id)
	if err != nil {
		return nil, err
	}
	defer blob.Close()
	content, err := io.ReadAll(io.LimitReader(blob, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(content) > maxFile {
		return nil, store.Problemf(store.CodeFailed, "%s is larger than %d bytes", name, maxFile)
	}
	return content, nil
}
