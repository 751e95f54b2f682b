package gitserver

import (
	"bytes"
	"compress/zlib"
	"io"
	"math/rand/v2"
)

// noiseFrom is endless and does not deflate.
func noiseFrom(seed byte) io.Reader { return rand.NewChaCha8([32]byte{seed}) }

// stored deflates without making it smaller.
func stored(content []byte) []byte {
	var b bytes.Buffer
	w, _ := zlib.NewWriterLevel(&b, zlib.NoCompression)
	_, _ = w.Write(content)
	_ = w.Close()
	return b.Bytes()
}
