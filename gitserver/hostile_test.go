package gitserver

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
)

type hostilePack struct {
	name string
	want string
	make func(p *packBuilder) (tip plumbing.Hash, pack []byte)
}

// plain is a pack as it should be, with a little of everything.
func plain(p *packBuilder) plumbing.Hash {
	blob := p.add(plumbing.BlobObject, []byte("hello\n"))
	return p.commitOf(treeLine("100644", "a", blob))
}

func hostilePacks() []hostilePack {
	somewhere := plumbing.NewHash("1234567890123456789012345678901234567890")
	return []hostilePack{
		{"4294967280 objects declared", "the pack declares 4294967280 objects, and 1000 are allowed", func(p *packBuilder) (plumbing.Hash, []byte) {
			tip := plain(p)
			p.count = 4294967280
			return tip, p.bytes()
		}},
		{"one object more declared", "the pack", func(p *packBuilder) (plumbing.Hash, []byte) {
			tip := plain(p)
			p.count = 4
			return tip, p.bytes()
		}},
		{"one object less declared", "the checksum of the pack is wrong", func(p *packBuilder) (plumbing.Hash, []byte) {
			tip := plain(p)
			p.count = 2
			return tip, p.bytes()
		}},
		{"6 bytes declared as 1 GiB", "an object has 1073741824 bytes, and 8388608 are allowed", func(p *packBuilder) (plumbing.Hash, []byte) {
			tip := plain(p)
			p.declare(plumbing.BlobObject, 1<<30, []byte("hello\n"))
			return tip, p.bytes()
		}},
		{"6 bytes declared as 7", "an object inflates to 6 bytes and declares 7", func(p *packBuilder) (plumbing.Hash, []byte) {
			tip := plain(p)
			p.declare(plumbing.BlobObject, 7, []byte("hello\n"))
			return tip, p.bytes()
		}},
		{"a bomb that declares little", "an object inflates to more than the 6 bytes it declares", func(p *packBuilder) (plumbing.Hash, []byte) {
			tip := plain(p)
			p.declare(plumbing.BlobObject, 6, make([]byte, 64<<20))
			return tip, p.bytes()
		}},
		{"a bomb that declares all", "an object has 67108864 bytes, and 8388608 are allowed", func(p *packBuilder) (plumbing.Hash, []byte) {
			tip := plain(p)
			p.add(plumbing.BlobObject, make([]byte, 64<<20))
			return tip, p.bytes()
		}},
		{"many small bombs", "the objects of the pack have more than 33554432 bytes together", func(p *packBuilder) (plumbing.Hash, []byte) {
			tip := plain(p)
			for i := range 5 {
				p.add(plumbing.BlobObject, append(make([]byte, 8<<20-1), byte(i)))
			}
			return tip, p.bytes()
		}},
		{"a giant delta result", "an object has 1099511627776 bytes, and 8388608 are allowed", func(p *packBuilder) (plumbing.Hash, []byte) {
			tip := plain(p)
			p.refDelta(idOf(plumbing.BlobObject, []byte("hello\n")), deltaOf(6, 1<<40, 0x90, 6))
			return tip, p.bytes()
		}},
		{"a delta that makes more than it says", "delta makes more than it says", func(p *packBuilder) (plumbing.Hash, []byte) {
			tip := plain(p)
			p.refDelta(idOf(plumbing.BlobObject, []byte("hello\n")), deltaOf(6, 7, 0x90, 6, 0x90, 6))
			return tip, p.bytes()
		}},
		{"a delta that makes less than it says", "delta makes less than it says", func(p *packBuilder) (plumbing.Hash, []byte) {
			tip := plain(p)
			p.refDelta(idOf(plumbing.BlobObject, []byte("hello\n")), deltaOf(6, 7, 0x90, 6))
			return tip, p.bytes()
		}},
		{"a delta that copies from beyond its base", "delta copies from beyond its base", func(p *packBuilder) (plumbing.Hash, []byte) {
			tip := plain(p)
			p.refDelta(idOf(plumbing.BlobObject, []byte("hello\n")), deltaOf(6, 7, 0x90, 7))
			return tip, p.bytes()
		}},
		{"a delta with the reserved instruction", "delta has a reserved instruction", func(p *packBuilder) (plumbing.Hash, []byte) {
			tip := plain(p)
			p.refDelta(idOf(plumbing.BlobObject, []byte("hello\n")), deltaOf(6, 7, 0))
			return tip, p.bytes()
		}},
		{"a delta for a base of another size", "delta is for a base of 5 bytes, not 6", func(p *packBuilder) (plumbing.Hash, []byte) {
			tip := plain(p)
			p.refDelta(idOf(plumbing.BlobObject, []byte("hello\n")), deltaOf(5, 5, 0x90, 5))
			return tip, p.bytes()
		}},
		{"an offset delta for a base of another size", "a delta is for a base of 5 bytes, and its base has", func(p *packBuilder) (plumbing.Hash, []byte) {
			tip := plain(p)
			p.ofsDelta(byte(len(p.entries[2])), deltaOf(5, 5, 0x90, 5))
			return tip, p.bytes()
		}},
		{"a delta with its base between objects", "the base of a delta is not where an object starts", func(p *packBuilder) (plumbing.Hash, []byte) {
			tip := plain(p)
			p.ofsDelta(3, deltaOf(6, 6, 0x90, 6))
			return tip, p.bytes()
		}},
		{"a delta that is its own base", "the base of a delta is not where an object starts", func(p *packBuilder) (plumbing.Hash, []byte) {
			tip := plain(p)
			p.ofsDelta(0, deltaOf(6, 6, 0x90, 6))
			return tip, p.bytes()
		}},
		{"deltas without sizes", "delta has no sizes", func(p *packBuilder) (plumbing.Hash, []byte) {
			tip := plain(p)
			p.refDelta(idOf(plumbing.BlobObject, []byte("hello\n")), bytes.Repeat([]byte{0xff}, 30))
			return tip, p.bytes()
		}},
		{"a delta on nothing", "the base of a delta is missing", func(p *packBuilder) (plumbing.Hash, []byte) {
			tip := plain(p)
			p.refDelta(somewhere, deltaOf(6, 6, 0x90, 6))
			return tip, p.bytes()
		}},
		{"an object twice", "is in the pack twice", func(p *packBuilder) (plumbing.Hash, []byte) {
			tip := plain(p)
			p.add(plumbing.BlobObject, []byte("hello\n"))
			return tip, p.bytes()
		}},
		{"an object twice, once as a delta", "is in the pack twice", func(p *packBuilder) (plumbing.Hash, []byte) {
			tip := plain(p)
			p.refDelta(idOf(plumbing.BlobObject, []byte("hello\n")), deltaOf(6, 6, 0x90, 6))
			return tip, p.bytes()
		}},
		{"an object of type 5", "object type 5 does not exist", func(p *packBuilder) (plumbing.Hash, []byte) {
			tip := plain(p)
			p.declare(5, 6, []byte("hello\n"))
			return tip, p.bytes()
		}},
		{"an object of type 0", "object type 0 does not exist", func(p *packBuilder) (plumbing.Hash, []byte) {
			tip := plain(p)
			p.declare(0, 6, []byte("hello\n"))
			return tip, p.bytes()
		}},
		{"a size of more than 60 bits", "object size does not fit", func(p *packBuilder) (plumbing.Hash, []byte) {
			tip := plain(p)
			p.entries = append(p.entries, append(bytes.Repeat([]byte{0xbf}, 12), 1))
			return tip, p.bytes()
		}},
		{"a pack of version 9", "this is no pack of version 2", func(p *packBuilder) (plumbing.Hash, []byte) {
			tip := plain(p)
			pack := p.bytes()
			pack[7] = 9
			return tip, pack
		}},
		{"no pack at all", "the pack ends too early", func(p *packBuilder) (plumbing.Hash, []byte) { return plain(p), nil }},
		{"garbage behind the end", "there is something behind the end of the pack", func(p *packBuilder) (plumbing.Hash, []byte) {
			tip := plain(p)
			return tip, append(p.bytes(), 'x')
		}},
		{"a flipped bit", "", func(p *packBuilder) (plumbing.Hash, []byte) {
			tip := plain(p)
			pack := p.bytes()
			pack[len(pack)/2] ^= 4
			return tip, pack
		}},
		{"a flipped bit in the checksum", "the checksum of the pack is wrong", func(p *packBuilder) (plumbing.Hash, []byte) {
			tip := plain(p)
			pack := p.bytes()
			pack[len(pack)-1] ^= 4
			return tip, pack
		}},
		{"a truncated pack", "the pack ends too early", func(p *packBuilder) (plumbing.Hash, []byte) {
			tip := plain(p)
			pack := p.bytes()
			return tip, pack[:len(pack)-25]
		}},
		{"a missing blob", "refers to blob", func(p *packBuilder) (plumbing.Hash, []byte) {
			tip := p.commitOf(treeLine("100644", "a", somewhere))
			return tip, p.bytes()
		}},
		{"a missing tree", "refers to tree", func(p *packBuilder) (plumbing.Hash, []byte) {
			tip := p.add(plumbing.CommitObject, commitText(somewhere))
			return tip, p.bytes()
		}},
		{"a missing parent", "refers to commit", func(p *packBuilder) (plumbing.Hash, []byte) {
			tree := p.add(plumbing.TreeObject, nil)
			tip := p.add(plumbing.CommitObject, commitText(tree, somewhere))
			return tip, p.bytes()
		}},
		{"a missing tip", "is missing", func(p *packBuilder) (plumbing.Hash, []byte) {
			plain(p)
			return somewhere, p.bytes()
		}},
		{"an empty pack and a missing tip", "is missing", func(*packBuilder) (plumbing.Hash, []byte) {
			return somewhere, (&packBuilder{}).bytes()
		}},
		{"a tree where a blob should be", "refers to blob", func(p *packBuilder) (plumbing.Hash, []byte) {
			empty := p.add(plumbing.TreeObject, nil)
			tip := p.commitOf(treeLine("100644", "a", empty))
			return tip, p.bytes()
		}},
		{"a blob where a parent should be", "refers to commit", func(p *packBuilder) (plumbing.Hash, []byte) {
			blob := p.add(plumbing.BlobObject, []byte("x"))
			tree := p.add(plumbing.TreeObject, nil)
			tip := p.add(plumbing.CommitObject, commitText(tree, blob))
			return tip, p.bytes()
		}},
		{"one object as two types", "as a", func(p *packBuilder) (plumbing.Hash, []byte) {
			blob := p.add(plumbing.BlobObject, []byte("x"))
			tip := p.commitOf(treeLine("100644", "a", blob), treeLine("40000", "b", blob))
			return tip, p.bytes()
		}},
		{"a branch that is a blob", "a branch holds commits", func(p *packBuilder) (plumbing.Hash, []byte) {
			return p.add(plumbing.BlobObject, []byte("x")), p.bytes()
		}},
		{"a branch that is a tag", "a branch holds commits", func(p *packBuilder) (plumbing.Hash, []byte) {
			tip := p.add(plumbing.TagObject, tagText(plain(p), "commit"))
			return tip, p.bytes()
		}},
		{"a tag of a missing commit", "refers to commit", func(p *packBuilder) (plumbing.Hash, []byte) {
			tip := p.add(plumbing.TagObject, tagText(somewhere, "commit"))
			return tip, p.bytes()
		}},
		{"a tag that lies about its target", "refers to tree", func(p *packBuilder) (plumbing.Hash, []byte) {
			tip := p.add(plumbing.TagObject, tagText(plain(p), "tree"))
			return tip, p.bytes()
		}},
		{"a commit of nothing", "does not start with its tree", func(p *packBuilder) (plumbing.Hash, []byte) {
			return p.add(plumbing.CommitObject, nil), p.bytes()
		}},
		{"a commit without an author", "has no author", func(p *packBuilder) (plumbing.Hash, []byte) {
			tree := p.add(plumbing.TreeObject, nil)
			return p.add(plumbing.CommitObject, fmt.Appendf(nil, "tree %s\n\nx\n", tree)), p.bytes()
		}},
		{"a tree that is cut off", "is cut off inside an entry", func(p *packBuilder) (plumbing.Hash, []byte) {
			return p.commitOf([]byte("100644 a\x00short")), p.bytes()
		}},
	}
}

var hostileLimits = Limits{PackBytes: 1 << 20, ObjectBytes: 8 << 20, InflatedBytes: 32 << 20, Objects: 1000}

func TestHostilePacks(t *testing.T) {
	r := newRig(t, hostileLimits)
	for _, test := range hostilePacks() {
		t.Run(test.name, func(t *testing.T) {
			tip, pack := test.make(&packBuilder{})
			before := heap()
			answer := r.post(request("refs/heads/x", zeroID, tip.String()) + string(pack))
			contains(t, answer, "ng refs/heads/x ", test.want)
			if strings.Contains(answer, "internal error") {
				t.Errorf("it was taken for a fault of ours: %q", answer)
			}
			if grown := heap() - before; grown > 48<<20 {
				t.Errorf("memory grew by %d MiB", grown>>20)
			}
			equal(t, "ref", r.tip("refs/heads/x"), "")
			equal(t, "packs", r.packs(), 0)
		})
	}
	r.clean()
	var p packBuilder
	tip := plain(&p)
	contains(t, r.post(request("refs/heads/x", zeroID, tip.String())+string(p.bytes())), "ok refs/heads/x")
	r.clean()
}

// heap is what was taken from the system and not given back: it shows what was used at the peak.
func heap() int64 {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapSys)
}

func TestPackLargerThanAllowed(t *testing.T) {
	r := newRig(t, hostileLimits)
	var p packBuilder
	tip := plain(&p)
	noise := make([]byte, 2<<20)
	for i := range noise {
		noise[i] = byte(i * i >> 3)
	}
	p.entries = append(p.entries, append(appendEntryHeader(nil, plumbing.BlobObject, int64(len(noise))), stored(noise)...))
	contains(t, r.post(request("refs/heads/x", zeroID, tip.String())+string(p.bytes())), "the pack is larger than 1048576 bytes")
	r.clean()

	// The real client reads the refusal after it has sent everything.
	c := r.newClone()
	file, err := os.Create(filepath.Join(c.dir, "big"))
	check(t, err)
	_, err = io.CopyN(file, noiseFrom(1), 3<<20)
	check(t, err)
	check(t, file.Close())
	c.commit("Big")
	c.mustFail("! [remote rejected] main -> main (the pack is larger than 1048576 bytes)", "main")
	r.clean()
}

func TestDeltaChains(t *testing.T) {
	r := newRig(t, Limits{})
	chain := func(length int) (plumbing.Hash, []byte) {
		var p packBuilder
		content := bytes.Repeat([]byte("0123456789"), 1000)
		last := p.add(plumbing.BlobObject, content)
		for i := range length {
			// the same content with one number more in front
			added := fmt.Appendf(nil, "%d\n", i)
			delta := deltaOf(int64(len(content)), int64(len(content)+len(added)))
			delta = append(append(delta, byte(len(added))), added...)
			delta = append(append(delta, 0xb0), byte(len(content)), byte(len(content)>>8))
			p.refDelta(last, delta)
			content = append(added, content...)
			last = idOf(plumbing.BlobObject, content)
		}
		tip := p.commitOf(treeLine("100644", "a", last))
		return tip, p.bytes()
	}
	tip, pack := chain(200)
	contains(t, r.post(request("refs/heads/x", zeroID, tip.String())+string(pack)), "ok refs/heads/x")
	r.clean()
	tip, pack = chain(300)
	contains(t, r.post(request("refs/heads/y", zeroID, tip.String())+string(pack)), "ng refs/heads/y a chain of deltas is longer than 250")
	r.clean()
}

// heldSpy looks at how much a resolver holds each time it reads from the pack.
type heldSpy struct {
	io.ReaderAt
	resolver *resolver
	most     int
}

func (s *heldSpy) ReadAt(p []byte, at int64) (int, error) {
	s.most = max(s.most, s.resolver.held)
	return s.ReaderAt.ReadAt(p, at)
}

// Bases that do not fit into memory are built again when they are needed.
func TestHeldDeltasAreBounded(t *testing.T) {
	var p packBuilder
	const size, levels = 256 << 10, 200
	content := make([]byte, size)
	last := p.add(plumbing.BlobObject, content)
	// Each level has a leaf that comes after the next level, so that every level is needed again on the way back.
	change := func(base plumbing.Hash, mark int) plumbing.Hash {
		code := []byte{2, byte(mark), byte(mark >> 8)}
		for left := size - 2; left > 0; left -= min(left, 0xffffff) {
			n := min(left, 0xffffff)
			code = append(code, 0xff, 2, 0, 0, 0, byte(n), byte(n>>8), byte(n>>16))
		}
		p.refDelta(base, deltaOf(size, size, code...))
		content[0], content[1] = byte(mark), byte(mark>>8)
		return idOf(plumbing.BlobObject, content)
	}
	var want []plumbing.Hash
	for level := range levels {
		next := change(last, level+1)
		want = append(want, next, change(last, level+1001))
		last = next
	}
	pack := bytes.NewReader(p.bytes())
	budget := &budget{limits: Limits{}.withDefaults(), received: 1 << 30}
	entries, _, err := scanPack(pack, budget, newLinks(nil), scratch{t.TempDir()})
	check(t, err)
	spy := &heldSpy{ReaderAt: pack}
	budget.received = 1 << 30
	spy.resolver = newResolver(t.Context(), spy, entries, newLinks(nil), budget, scratch{t.TempDir()})
	check(t, spy.resolver.inside())
	for _, id := range want {
		equal(t, id.String(), spy.resolver.kinds[id], plumbing.BlobObject)
	}
	if spy.most > heldDeltas || spy.most < heldDeltas/2 {
		t.Errorf("%d MiB were held", spy.most>>20)
	}
}

func waitFor(t *testing.T, what string, reached func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !reached(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s was not reached", what)
		}
	}
}
