package gitserver

import "github.com/go-git/go-git/v5/plumbing"

const (
	rememberedBytes = 16 << 20
	rememberedKinds = 200_000
	applyCost       = 1 << 10 // what an object costs besides its bytes
)

// built remembers what one walk has built, so that objects that build on each other cost no more than they have to. It is
// for one goroutine. Nil remembers nothing.
type built struct {
	contents map[builtKey]builtObject
	kinds    map[builtKey]plumbing.ObjectType
	bytes    int
	cost     int64
}

type builtKey struct {
	pack   *pack
	offset int64
}

type builtObject struct {
	kind    plumbing.ObjectType
	content []byte
}

// remembering gives the same objects with a memory of their own.
func (o *objects) remembering() *objects {
	same := *o
	same.built = &built{contents: map[builtKey]builtObject{}, kinds: map[builtKey]plumbing.ObjectType{}}
	return &same
}

func (b *built) content(f found) (kind plumbing.ObjectType, content body, found bool) {
	if b == nil {
		return kind, content, false
	}
	known, found := b.contents[builtKey{f.pack, f.offset}]
	return known.kind, body{content: known.content, held: true}, found
}

// keep remembers an object that is on the heap.
func (b *built) keep(f found, kind plumbing.ObjectType, content body) {
	if b == nil {
		return
	}
	b.cost += int64(len(content.content)) + f.header.size + applyCost
	if content.mapped {
		return
	}
	if b.bytes += len(content.content) + 100; b.bytes > rememberedBytes {
		clear(b.contents)
		b.bytes = len(content.content) + 100
	}
	b.contents[builtKey{f.pack, f.offset}] = builtObject{kind, content.content}
}

func (b *built) kind(f found) (kind plumbing.ObjectType, found bool) {
	if b == nil {
		return kind, false
	}
	kind, found = b.kinds[builtKey{f.pack, f.offset}]
	return kind, found
}

func (b *built) keepKind(f found, kind plumbing.ObjectType) {
	if b == nil {
		return
	}
	if len(b.kinds) >= rememberedKinds {
		clear(b.kinds)
	}
	b.kinds[builtKey{f.pack, f.offset}] = kind
}
