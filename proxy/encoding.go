package proxy

import (
	"net/http"
	"strconv"
	"strings"
)

// form is one way to send a file: as it is, or compressed.
type form struct {
	path     string // in the release tree
	size     int64
	kind     string
	encoding string // empty: as it is
	etag     string
	caching  string
	varies   bool // other clients may get another form
}

// bestForm picks what the client likes best, and of what it likes equally the smallest.
func (f siteFile) bestForm(name string, header http.Header) form {
	best := form{path: "files/" + name, size: f.size, kind: f.kind, etag: `"` + f.blob + `"`, caching: siteCaching}
	if f.immutable {
		best.caching = immutableCaching
	}
	variants := []struct {
		encoding, suffix string
		size             int64
	}{{"br", "br", f.br}, {"zstd", "zst", f.zstd}, {"gzip", "gz", f.gzip}}
	accepted := parseAcceptEncoding(strings.Join(header.Values("Accept-Encoding"), ","))
	quality := accepted["identity"] // taken as it is only when that is asked for, or nothing else is possible
	for _, variant := range variants {
		if variant.size <= 0 {
			continue
		}
		best.varies = true
		q := accepted.quality(variant.encoding)
		if q > quality || (q == quality && q > 0 && variant.size < best.size) {
			quality = q
			best.path = "encoded/" + name + "." + variant.suffix
			best.size, best.encoding = variant.size, variant.encoding
			best.etag = `"` + f.blob + "-" + variant.encoding + `"`
		}
	}
	return best
}

// acceptEncoding is what a client takes, with how much it likes it (RFC 9110, section 12.5.3).
type acceptEncoding map[string]float64

func parseAcceptEncoding(value string) acceptEncoding {
	accepted := acceptEncoding{}
	for part := range strings.SplitSeq(value, ",") {
		coding, parameters, _ := strings.Cut(part, ";")
		coding = strings.ToLower(strings.TrimSpace(coding))
		if coding != "" {
			accepted[coding] = qualityOf(parameters)
		}
	}
	return accepted
}

func qualityOf(parameters string) float64 {
	name, value, found := strings.Cut(strings.TrimSpace(parameters), "=")
	if !found || !strings.EqualFold(strings.TrimSpace(name), "q") {
		return 1
	}
	q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
	if err != nil || !(q >= 0 && q <= 1) {
		return 0
	}
	return q
}

func (a acceptEncoding) quality(coding string) float64 {
	if q, stated := a[coding]; stated {
		return q
	}
	return a["*"]
}
