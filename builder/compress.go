package builder

import (
	"bytes"
	"fmt"
	"io"
	"path"
	"strings"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

const (
	minCompressed = 1 << 10  // a smaller file fits one packet anyway
	maxCompressed = 32 << 20 // compressed in memory
)

// resettable is a compressor that is used again, because its tables cost more than a small file.
type resettable interface {
	io.WriteCloser
	Reset(io.Writer)
}

// coding is one content coding of https://www.iana.org/assignments/http-parameters/.
type coding struct {
	name   string
	suffix string
	idle   *sync.Pool
}

// The levels are those after which each coding gets much slower and little smaller.
var codings = [...]coding{
	{"gzip", ".gz", &sync.Pool{New: func() any { return must(gzip.NewWriterLevel(nil, 6)) }}},
	{"br", ".br", &sync.Pool{New: func() any { return brotli.NewWriterLevel(nil, 5) }}},
	{"zstd", ".zst", &sync.Pool{New: func() any {
		return must(zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true)))
	}}},
}

// must is for levels written above, which are right.
func must[T any](made T, err error) T {
	if err != nil {
		panic(err)
	}
	return made
}

// encode gives the encoded form of the data, nil where it does not save at least a tenth.
func (c coding) encode(data []byte) ([]byte, error) {
	compressor := c.idle.Get().(resettable)
	defer c.idle.Put(compressor)
	var encoded bytes.Buffer
	compressor.Reset(&encoded)
	if _, err := compressor.Write(data); err != nil {
		return nil, fmt.Errorf("compress with %s: %w", c.name, err)
	}
	if err := compressor.Close(); err != nil {
		return nil, fmt.Errorf("compress with %s: %w", c.name, err)
	}
	if encoded.Len() > len(data)-len(data)/10 {
		return nil, nil
	}
	return encoded.Bytes(), nil
}

// encodeAll gives the encoded forms of the data in the order of codings, nil for those that are not worth their space.
// Who takes zstd takes br too, so of these two only the smaller one is kept.
func encodeAll(data []byte) (forms [len(codings)][]byte, err error) {
	for i, coding := range codings {
		if forms[i], err = coding.encode(data); err != nil {
			return forms, err
		}
	}
	br, zst := &forms[1], &forms[2]
	if *br != nil && *zst != nil {
		if len(*zst) < len(*br) {
			*br = nil
		} else {
			*zst = nil
		}
	}
	return forms, nil
}

var compressible = map[string]bool{
	".atom": true, ".bmp": true, ".css": true, ".csv": true, ".htm": true, ".html": true, ".ico": true, ".ics": true,
	".js": true, ".json": true, ".jsonld": true, ".map": true, ".md": true, ".mjs": true, ".otf": true, ".rss": true,
	".svg": true, ".tar": true, ".ttf": true, ".txt": true, ".wasm": true, ".wav": true, ".webmanifest": true,
	".xhtml": true, ".xml": true,
}

func worthCompressing(name string, size int64) bool {
	return size >= minCompressed && size <= maxCompressed && compressible[strings.ToLower(path.Ext(name))]
}
