package gitserver

import (
	"bufio"
	"bytes"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
)

func FuzzDecodeRequest(f *testing.F) {
	id := strings.Repeat("1", 40)
	for _, seed := range []string{
		request("refs/heads/main", zeroID, id), "0000", "", "zzzz",
		packet("shallow "+id) + packet(zeroID+" "+id+" refs/heads/a b\x00report-status atomic push-options\n") + "0000" + packet("ci.skip") + "0000",
		packet(id+" "+zeroID+" refs/tags/v1\x00 report-status side-band-64k agent=git/2.39.5") + packet(id+" "+id+" HEAD") + "0000PACK",
	} {
		f.Add([]byte(seed))
	}
	limits := Limits{Commands: 20}.withDefaults()
	f.Fuzz(func(t *testing.T, data []byte) {
		reader := bytes.NewReader(data)
		request, err := decodeRequest(reader, limits)
		if err != nil {
			return
		}
		if len(request.commands) > limits.Commands || len(request.options) > 100 {
			t.Errorf("%d commands, %d options", len(request.commands), len(request.options))
		}
		for _, c := range request.commands {
			if checkName(c.name) == nil && (strings.Contains(c.name, "..") || strings.ContainsAny(c.name, "\\ \x00") || !strings.HasPrefix(c.name, "refs/")) {
				t.Errorf("%q was taken", c.name)
			}
		}
	})
}

// FuzzPack holds that no pack makes the scan or the resolver fall over, and that what they take native rules allow.
func FuzzPack(f *testing.F) {
	for _, hostile := range hostilePacks() {
		if _, pack := hostile.make(&packBuilder{}); len(pack) < 64<<10 {
			f.Add(pack)
		}
	}
	var p packBuilder
	plain(&p)
	p.refDelta(idOf(plumbing.BlobObject, []byte("hello\n")), deltaOf(6, 8, 0x90, 6, 2, 'x', 'y'))
	f.Add(p.bytes())
	limits := Limits{ObjectBytes: 1 << 20, InflatedBytes: 4 << 20, Objects: 100}.withDefaults()
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, pack []byte) {
		links := newLinks(nil)
		budget := &budget{limits: limits}
		entries, _, err := scanPack(bytes.NewReader(pack), budget, links, scratch{dir})
		if err != nil {
			return
		}
		resolver := newResolver(t.Context(), bytes.NewReader(pack), entries, links, budget, scratch{dir})
		if err := resolver.inside(); err != nil || resolver.unresolved() {
			return
		}
		for _, e := range resolver.entries {
			if e.id.IsZero() || e.offset < packHeaderSize || e.data <= e.offset || e.data > int64(len(pack)) || e.result > limits.ObjectBytes {
				t.Errorf("entry %+v", e)
			}
		}
		if resolver.held != 0 || len(resolver.path) != 0 {
			t.Errorf("%d bytes are still counted as held", resolver.held)
		}
	})
}

func FuzzDelta(f *testing.F) {
	f.Add([]byte("hello\n"), deltaOf(6, 8, 0x90, 6, 2, 'x', 'y'))
	f.Add([]byte("hello\n"), deltaOf(6, 0x10000, 0x80))
	f.Add([]byte{}, []byte{0xff, 0xff})
	f.Fuzz(func(t *testing.T, base, delta []byte) {
		_, size, err := deltaSizes(bytes.NewReader(delta))
		if err != nil || size > 1<<20 {
			return
		}
		var result bytes.Buffer
		err = applyDelta(base, bufio.NewReader(bytes.NewReader(delta)), size, &result)
		if err == nil && int64(result.Len()) != size {
			t.Errorf("%d bytes instead of %d", result.Len(), size)
		}
	})
}

func FuzzTree(f *testing.F) {
	blob := idOf(plumbing.BlobObject, []byte("hello\n"))
	for _, name := range []string{"a", ".git", "git~1", ".g\u200cit", "..", `x\.git`, ".git:x"} {
		f.Add(append(treeLine("100644", name, blob), treeLine("40000", "b", blob)...))
	}
	f.Fuzz(func(t *testing.T, tree []byte) {
		if checkTree(tree, wantAnything) != nil {
			return
		}
		seen := map[string]bool{}
		for rest := tree; len(rest) > 0; {
			e, after, err := nextTreeEntry(rest)
			if err != nil {
				t.Fatalf("a tree that was taken cannot be read: %v", err)
			}
			rest = after
			lower := strings.ToLower(strings.TrimRight(e.name, " ."))
			if seen[e.name] || e.name == "" || lower == ".git" || lower == "git~1" || strings.ContainsAny(e.name, "/\x00") {
				t.Errorf("%q was taken", e.name)
			}
			seen[e.name] = true
		}
	})
}

func FuzzPrintable(f *testing.F) {
	f.Add("plain\ttext \x1b[31mred\u202e\u009b")
	f.Add(strings.Repeat("é", 5000))
	f.Add(strings.Repeat("\x80", 5000))
	f.Fuzz(func(t *testing.T, line string) {
		shown := printable(line)
		if strings.ContainsAny(shown, "\x1b\r\n\b\u009b\u202e") || len(shown) > 3*longLine+10 {
			t.Errorf("%q", shown)
		}
	})
}
