package gitserver

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/go-git/go-git/v5/plumbing"
)

// links collects what the objects of one pack refer to, and checks the form of each on the way. A pack whose links all
// end in itself or in the repository keeps the repository closed: whatever an object refers to is there.
type links struct {
	wanted   map[plumbing.Hash]link
	boundary boundary // commits whose parents may be missing

	objects int      // how many the pack has; 0: not known yet
	there   *objects // what the repository has
}

type link struct {
	from plumbing.Hash
	kind plumbing.ObjectType
}

func newLinks(b boundary) *links { return &links{wanted: map[plumbing.Hash]link{}, boundary: b} }

func (l *links) add(id plumbing.Hash, kind plumbing.ObjectType, content []byte) error {
	var err error
	want := func(to plumbing.Hash, kind plumbing.ObjectType) error {
		if kind == plumbing.CommitObject && l.boundary[id] {
			return nil
		}
		if known, ok := l.wanted[to]; ok && known.kind != kind {
			return fmt.Errorf("refers to %s as a %s, and %s as a %s", to, kind, known.from, known.kind)
		}
		l.wanted[to] = link{from: id, kind: kind}
		return l.checkCount()
	}
	switch kind {
	case plumbing.CommitObject:
		err = checkCommit(content, want)
	case plumbing.TreeObject:
		err = checkTree(content, want)
	case plumbing.TagObject:
		err = checkTag(content, want)
	}
	if err != nil {
		return refusal("%s %s %w", kind, id, err)
	}
	return nil
}

// checkCount bounds the memory for links: those that do not end in the repository are no more than the pack has objects, or
// some of them end nowhere.
func (l *links) checkCount() error {
	if l.there == nil || len(l.wanted) < 2*l.objects+1<<16 {
		return nil
	}
	for to, from := range l.wanted {
		if l.there.has(to) && (from.kind != plumbing.CommitObject || l.there.isKind(to, from.kind)) {
			delete(l.wanted, to)
		}
	}
	if len(l.wanted) > l.objects {
		return errors.New("refers to more objects than there are")
	}
	return nil
}

// missing gives one link that leads nowhere, or to an object of another kind.
func (l *links) missing(here map[plumbing.Hash]plumbing.ObjectType, there *objects) (to plumbing.Hash, from link, broken bool) {
	for to, from := range l.wanted {
		kind, ok := here[to]
		if !ok && from.kind == plumbing.CommitObject {
			kind, ok = there.kind(to)
		} else if !ok {
			kind, ok = from.kind, there.has(to) // its kind was checked when it came; reading it again would cost too much
		}
		if !ok || kind != from.kind {
			return to, from, true
		}
	}
	return plumbing.ZeroHash, link{}, false
}

func checkCommit(content []byte, want func(plumbing.Hash, plumbing.ObjectType) error) error {
	tree, rest, ok := takeID(content, "tree ")
	if !ok {
		return fmt.Errorf("does not start with its tree")
	}
	if err := want(tree, plumbing.TreeObject); err != nil {
		return err
	}
	for {
		parent, after, ok := takeID(rest, "parent ")
		if !ok {
			break
		}
		if err := want(parent, plumbing.CommitObject); err != nil {
			return err
		}
		rest = after
	}
	if !bytes.HasPrefix(rest, []byte("author ")) {
		return fmt.Errorf("has no author behind its parents")
	}
	return nil
}

func checkTag(content []byte, want func(plumbing.Hash, plumbing.ObjectType) error) error {
	target, rest, ok := takeID(content, "object ")
	if !ok {
		return fmt.Errorf("does not start with its object")
	}
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	name, ok := bytes.CutPrefix(line, []byte("type "))
	kind, err := plumbing.ParseObjectType(string(name))
	if !ok || err != nil || kind.IsDelta() {
		return fmt.Errorf("does not say what type its object has")
	}
	return want(target, kind)
}

// takeID reads a header line such as "tree 4b825dc6…".
func takeID(content []byte, word string) (id plumbing.Hash, rest []byte, ok bool) {
	line, rest, _ := bytes.Cut(content, []byte("\n"))
	text, ok := bytes.CutPrefix(line, []byte(word))
	if !ok || !plumbing.IsHash(string(text)) {
		return id, nil, false
	}
	return plumbing.NewHash(string(text)), rest, true
}
