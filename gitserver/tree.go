package gitserver

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/shipgate/shipgate/store"
)

// treeEntry is one line of a tree object.
type treeEntry struct {
	mode uint32
	name string
	id   plumbing.Hash
}

// kind is what the entry has to refer to; AnyObject for a submodule, whose commit is elsewhere.
func (e treeEntry) kind() plumbing.ObjectType {
	switch e.mode {
	case store.ModeDirectory:
		return plumbing.TreeObject
	case store.ModeSubmodule:
		return plumbing.AnyObject
	}
	return plumbing.BlobObject
}

// nextTreeEntry takes the first entry off a tree's content.
func nextTreeEntry(content []byte) (e treeEntry, rest []byte, err error) {
	head, rest, ok := bytes.Cut(content, []byte{0})
	mode, name, spaced := bytes.Cut(head, []byte{' '})
	if !ok || !spaced || len(rest) < len(e.id) {
		return e, nil, errors.New("is cut off inside an entry")
	}
	if e.mode, ok = octal(mode); !ok {
		return e, nil, fmt.Errorf("has an entry of mode %.20q", mode)
	}
	e.name = string(name)
	copy(e.id[:], rest)
	return e, rest[len(e.id):], nil
}

func octal(digits []byte) (n uint32, ok bool) {
	if len(digits) == 0 || len(digits) > 10 {
		return 0, false
	}
	for _, d := range digits {
		if d < '0' || d > '7' {
			return 0, false
		}
		n = n<<3 | uint32(d-'0')
	}
	return n, true
}

// groupWritable is a file mode of git's first years. It is read as ModeFile.
const groupWritable = 0o100664

func checkTree(content []byte, want func(plumbing.Hash, plumbing.ObjectType) error) error {
	var order treeOrder
	for len(content) > 0 {
		e, rest, err := nextTreeEntry(content)
		if err != nil {
			return err
		}
		content = rest
		switch e.mode {
		case store.ModeDirectory, store.ModeFile, store.ModeExecutable, store.ModeSymlink, store.ModeSubmodule, groupWritable:
		default:
			return fmt.Errorf("has %.100q with mode %o", e.name, e.mode)
		}
		if reason := refusedName(e.name); reason != "" {
			return fmt.Errorf("has an entry %.100q: %s", e.name, reason)
		}
		if err := order.next(e); err != nil {
			return err
		}
		if kind := e.kind(); kind != plumbing.AnyObject {
			if err := want(e.id, kind); err != nil {
				return err
			}
		}
	}
	return nil
}

// treeOrder holds git's order, in which a directory counts as if its name ended in a slash, and finds duplicates. A
// file and a directory of one name need not be neighbours: between them are the names that continue the file's.
type treeOrder struct {
	last  string
	files []string // those whose name the last entry continues
}

func (o *treeOrder) next(e treeEntry) error {
	key := e.name
	if e.mode == store.ModeDirectory {
		key += "/"
	}
	for len(o.files) > 0 && !strings.HasPrefix(e.name, o.files[len(o.files)-1]) {
		o.files = o.files[:len(o.files)-1]
	}
	same := len(o.files) > 0 && o.files[len(o.files)-1] == e.name
	if same || key == o.last {
		return fmt.Errorf("has %.100q twice", e.name)
	}
	if key < o.last {
		return fmt.Errorf("has %.100q out of order", e.name)
	}
	if e.mode != store.ModeDirectory {
		o.files = append(o.files, e.name)
	}
	o.last = key
	return nil
}

// refusedName says why a tree entry may not have this name; "" when it may.
func refusedName(name string) string {
	switch {
	case name == "":
		return "it is empty"
	case name == "." || name == "..":
		return "it leads elsewhere"
	case strings.Contains(name, "/"):
		return "it has a slash"
	case len(name) > 4096:
		return "it is too long"
	case isDotGit(name):
		return "git keeps its own files there"
	}
	return ""
}

// isDotGit knows the spellings of ".git" that a file system may take for it: upper case, NTFS with its short names,
// streams and ignored endings, HFS+ with its ignored code points. It refuses what git's fsck refuses.
func isDotGit(name string) bool {
	if !strings.ContainsAny(name, ".~") {
		return false // as all spellings have one
	}
	for part := range strings.SplitSeq(name, `\`) {
		if isNTFSDotGit(part) {
			return true
		}
	}
	return strings.EqualFold(withoutIgnoredRunes(name), ".git")
}

func isNTFSDotGit(part string) bool {
	part, _, _ = strings.Cut(part, ":")
	part = asciiLower(strings.TrimRight(part, " ."))
	return part == ".git" || part == "git~1"
}

func asciiLower(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

func withoutIgnoredRunes(name string) string {
	if !utf8.ValidString(name) {
		return name
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 0x200c && r <= 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x206a && r <= 0x206f, r == 0xfeff:
			return -1
		}
		return r
	}, name)
}
