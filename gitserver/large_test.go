package gitserver

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// A file of 200 MB goes through without being held in memory, in and out.
func TestLargeFile(t *testing.T) {
	r := newRig(t, Limits{})
	r.deploy(nil)
	c := r.newClone()
	c.git("config", "core.compression", "0")
	c.git("config", "core.bigFileThreshold", "1m") // spares the client the memory and the time
	file, err := os.Create(filepath.Join(c.dir, "large"))
	check(t, err)
	sent := sha256.New()
	const size = 200 << 20
	_, err = io.CopyN(io.MultiWriter(file, sent), noiseFrom(2), size)
	check(t, err)
	check(t, file.Close())
	sha := c.commit("Large", "small", "1")
	before := heap()
	c.mustPush("main")
	snapshot, err := r.server.Snapshot(t.Context(), testApp, sha)
	check(t, err)
	content, err := snapshot.Open("large")
	check(t, err)
	received := sha256.New()
	n, err := io.Copy(received, content)
	check(t, err)
	check(t, content.Close())
	equal(t, "size", n, size)
	equal(t, "content", hex.EncodeToString(received.Sum(nil)), hex.EncodeToString(sent.Sum(nil)))
	if grown := heap() - before; grown > 32<<20 {
		t.Errorf("memory grew by %d MiB", grown>>20)
	}
}
