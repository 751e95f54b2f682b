package gitserver

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
)

// packBomb is a pack below 1 MB that tries to cost far more than it should. Want is a part of the refusal; empty when it is taken.
type packBomb struct {
	name string
	want string
	make func(p *packBuilder)
}

const mega = 1 << 20

// copies is a delta that copies all of a base and puts a mark behind it.
func copies(size int64, mark string) []byte {
	return deltaOf(size, size+int64(len(mark)), append(append(copyAll(size), byte(len(mark))), mark...)...)
}

func copyAll(size int64) (code []byte) {
	for at := int64(0); at < size; {
		n := min(size-at, 0xffffff)
		code = append(code, 0xff, byte(at), byte(at>>8), byte(at>>16), byte(at>>24), byte(n), byte(n>>8), byte(n>>16))
		at += n
	}
	return code
}

// chain adds deltas that each build on the one before, and gives the content of the last.
func (p *packBuilder) chain(content []byte, kind plumbing.ObjectType, length int) []byte {
	base := idOf(kind, content)
	for i := range length {
		mark := fmt.Sprintf("%08d", i)
		p.refDelta(base, copies(int64(len(content)), mark))
		content = append(content, mark...)
		base = idOf(kind, content)
	}
	return content
}

// wideTree is a valid tree of about this size that compresses well.
func wideTree(size int, blob plumbing.Hash) []byte {
	var tree bytes.Buffer
	long := strings.Repeat("n", 200)
	for i := 0; tree.Len() < size; i++ {
		tree.Write(treeLine("100644", fmt.Sprintf("%08d%s", i, long), blob))
	}
	return tree.Bytes()
}

func packBombs() []packBomb {
	return []packBomb{
		{"one blob of 350 MiB", "", func(p *packBuilder) { p.add(plumbing.BlobObject, make([]byte, 350*mega)) }},
		{"a hundred blobs of 8 MiB", "may be unpacked to", func(p *packBuilder) {
			for i := range 100 {
				p.add(plumbing.BlobObject, append(make([]byte, 8*mega), byte(i)))
			}
		}},
		{"deltas on a base of 200 MiB", "may be unpacked to", func(p *packBuilder) {
			base := p.add(plumbing.BlobObject, make([]byte, 200*mega))
			for i := range 50 {
				p.refDelta(base, copies(200*mega, fmt.Sprintf("%08d", i)))
			}
		}},
		{"one delta on a base of 100 MiB", "", func(p *packBuilder) {
			base := p.add(plumbing.BlobObject, make([]byte, 100*mega))
			p.refDelta(base, copies(100*mega, "x"))
		}},
		{"a chain of deltas of 1.5 MiB each", "", func(p *packBuilder) {
			content := make([]byte, 3*mega/2)
			p.add(plumbing.BlobObject, content)
			p.chain(content, plumbing.BlobObject, 160)
		}},
		{"bases dropped and built again", "may be unpacked to", func(p *packBuilder) {
			content := make([]byte, 200<<10)
			base := p.add(plumbing.BlobObject, content)
			for i := range 240 {
				mark, other := fmt.Sprintf("%08d", i), fmt.Sprintf("x%07d", i)
				p.refDelta(base, copies(int64(len(content)), mark))
				p.refDelta(base, copies(int64(len(content)), other))
				p.refDelta(idOf(plumbing.BlobObject, append(content[:len(content):len(content)], other...)), copies(int64(len(content)+8), "leaf"))
				content = append(content, mark...)
				base = idOf(plumbing.BlobObject, content)
			}
		}},
		{"large bases dropped and built again", "may be unpacked to", func(p *packBuilder) {
			content := make([]byte, 30*mega)
			base := p.add(plumbing.BlobObject, content)
			for i := range 60 {
				mark := fmt.Sprintf("%08d", i)
				p.refDelta(base, copies(int64(len(content)), mark))
				p.refDelta(base, copies(int64(len(content)), "x"+mark))
				content = append(content, mark...)
				base = idOf(plumbing.BlobObject, content)
			}
		}},
		{"many small deltas on one base", "may be unpacked to", func(p *packBuilder) {
			base := p.add(plumbing.BlobObject, make([]byte, 200<<10))
			for i := range 12000 {
				p.refDelta(base, copies(200<<10, fmt.Sprintf("%08d", i)))
			}
		}},
		{"a delta of copies of one byte", "", func(p *packBuilder) {
			base := p.add(plumbing.BlobObject, []byte("ab"))
			p.refDelta(base, deltaOf(2, 40*mega, bytes.Repeat([]byte{0x91, 1, 1}, 40*mega)...))
		}},
		{"a tree of 60 MiB", "a tree has", func(p *packBuilder) {
			blob := p.add(plumbing.BlobObject, []byte("x"))
			p.add(plumbing.TreeObject, wideTree(60*mega, blob))
		}},
		{"trees of 6 MiB by deltas", "", func(p *packBuilder) {
			blob := p.add(plumbing.BlobObject, []byte("x"))
			tree := wideTree(6*mega, blob)
			base := p.add(plumbing.TreeObject, tree)
			for i := range 30 {
				line := treeLine("100644", fmt.Sprintf("z%08d", i), blob)
				p.refDelta(base, copies(int64(len(tree)), string(line)))
			}
		}},
		{"a tree of short names", "", func(p *packBuilder) {
			blob := p.add(plumbing.BlobObject, []byte("x"))
			var tree []byte
			for i := range 90_000 {
				tree = append(tree, treeLine("100644", fmt.Sprintf("%06d", i), blob)...)
			}
			base := p.add(plumbing.TreeObject, tree)
			for i := range 100 {
				p.refDelta(base, copies(int64(len(tree)), string(treeLine("100644", fmt.Sprintf("z%d", i+100), blob))))
			}
		}},
		{"trees in trees", "", func(p *packBuilder) {
			id := p.add(plumbing.TreeObject, treeLine("100644", "a", p.add(plumbing.BlobObject, []byte("x"))))
			for range 12_000 {
				id = p.add(plumbing.TreeObject, treeLine("40000", "d", id))
			}
		}},
		{"links that lead nowhere, by deltas", "more objects than there are", func(p *packBuilder) {
			noise := rand.New(rand.NewPCG(1, 2))
			hashes := make([]byte, 100<<10)
			for i := range hashes {
				hashes[i] = byte(noise.Uint32())
			}
			var whole []byte // a tree whose ids are windows of its base
			first := hashes
			tree := treeLine("100644", "0", plumbing.Hash(first[:20]))
			for at := 20; at+20 <= len(first); at += 20 {
				tree = append(tree, treeLine("100644", fmt.Sprintf("1%07d", at), plumbing.Hash(first[at:at+20]))...)
			}
			start := p.add(plumbing.TreeObject, tree)
			code := []byte{}
			for i := range 200_000 {
				line := fmt.Sprintf("100644 %07d\x00", i)
				code = append(append(code, byte(len(line))), line...)
				at := i % (len(tree) - 20)
				code = append(code, 0x97, byte(at), byte(at>>8), byte(at>>16), 20)
				whole = append(whole, line...)
				whole = append(whole, make([]byte, 20)...)
			}
			p.refDelta(start, deltaOf(int64(len(tree)), int64(len(whole)), code...))
		}},
		{"a commit message of 60 MiB", "a commit has", func(p *packBuilder) {
			tree := p.add(plumbing.TreeObject, nil)
			p.add(plumbing.CommitObject, append(commitText(tree), make([]byte, 60*mega)...))
		}},
		{"commits of 512 KiB by deltas", "", func(p *packBuilder) {
			tree := p.add(plumbing.TreeObject, nil)
			commit := append(commitText(tree), make([]byte, mega/2)...)
			base := p.add(plumbing.CommitObject, commit)
			for i := range 600 {
				p.refDelta(base, copies(int64(len(commit)), fmt.Sprintf("%08d", i)))
			}
		}},
		{"a history in a chain of deltas", "", func(p *packBuilder) {
			tree := p.add(plumbing.TreeObject, nil)
			commit := commitText(tree, p.add(plumbing.CommitObject, commitText(tree)))
			tip := p.add(plumbing.CommitObject, commit)
			for i := range 8000 {
				next := commitText(tree, tip)
				if i%200 == 199 {
					tip = p.add(plumbing.CommitObject, next)
				} else { // the parent's id is new, the rest is the base's
					size := int64(len(commit))
					code := append([]byte{0x90, 53}, 40)
					code = append(append(code, tip.String()...), 0x91, 93, byte(size-93))
					p.refDelta(idOf(plumbing.CommitObject, commit), deltaOf(size, size, code...))
					tip = idOf(plumbing.CommitObject, next)
				}
				commit = next
			}
		}},
		{"deltas that name each other", "the base of a delta is missing", func(p *packBuilder) {
			p.refDelta(plumbing.Hash{1}, copies(10, "1"))
			p.refDelta(plumbing.Hash{2}, copies(10, "2"))
		}},
		{"a delta whose base comes later", "the base of a delta is not where an object starts", func(p *packBuilder) {
			p.ofsDelta(100, copies(10, "1"))
			p.add(plumbing.BlobObject, []byte("0123456789"))
		}},
	}
}

var underRace bool // set by race_test.go

// A pack below 1 MB costs at most 150 MiB of memory and 5 s of CPU, whatever is in it. Each is taken in by a process of its
// own, on a repository of its own. The bound of CPU time is doubled for machines that are slow or busy.
func TestPackBombs(t *testing.T) {
	if underRace {
		t.Skip("the race detector takes memory and time of its own; make unit runs this without it")
	}
	if file := os.Getenv("SHIPGATE_TEST_BOMB"); file != "" {
		takeBomb(t, file)
		return
	}
	for _, bomb := range packBombs() {
		t.Run(bomb.name, func(t *testing.T) {
			var p packBuilder
			bomb.make(&p)
			pack := p.bytes()
			if len(pack) >= 1_000_000 {
				t.Fatalf("the pack has %d bytes", len(pack))
			}
			file := filepath.Join(t.TempDir(), "bomb")
			check(t, os.WriteFile(file, pack, 0o600))
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPackBombs$", "-test.v")
			cmd.Env = append(os.Environ(), "SHIPGATE_TEST_BOMB="+file)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			_, result, _ := strings.Cut(string(out), "RESULT ")
			var peak int64
			result, _, _ = strings.Cut(result, "\n")
			_, err = fmt.Sscanf(result, "%d", &peak)
			check(t, err)
			cpu := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
			t.Logf("%d bytes: peak %d MiB, CPU %v, %s", len(pack), peak>>20, cpu.Round(10*time.Millisecond), result)
			if peak > 150*mega || cpu > 10*time.Second {
				t.Errorf("it cost %d MiB and %v", peak>>20, cpu)
			}
			if bomb.want == "" && !strings.HasSuffix(result, "taken") || !strings.Contains(result, bomb.want) {
				t.Errorf("got %s, want %q", result, bomb.want)
			}
		})
	}
}

// takeBomb is the process: it takes a pack in as a push does, and walks its newest commit. The peak is what the runtime took
// from the system; files that are mapped are not in it, for the kernel takes their pages back when it needs them.
func takeBomb(t *testing.T, file string) {
	r, err := openRepository("bomb", filepath.Join(t.TempDir(), "bomb.git"))
	check(t, err)
	pack, err := os.Open(file)
	check(t, err)
	defer pack.Close()
	result := "taken"
	q, err := r.ingest(context.Background(), pack, intake{limits: Limits{}.withDefaults()})
	if err != nil {
		result = err.Error()
	} else {
		objects := r.packs.Load().with(q.pack)
		var tip plumbing.Hash // the last commit of the index; any will do
		check(t, q.pack.structure(func(id plumbing.Hash, kind plumbing.ObjectType, _ []byte) error {
			if kind == plumbing.CommitObject {
				tip = id
			}
			return nil
		}))
		if !tip.IsZero() {
			_, _, err := objects.isAncestor(plumbing.Hash{1}, tip)
			check(t, err)
		}
		check(t, q.discard())
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fmt.Printf("RESULT %d %s\n", m.Sys, result)
}
