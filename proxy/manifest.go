package proxy

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"mime"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/shipgate/shipgate/store"
)

// newestManifest is the newest version of a release tree's manifest.json that we read. The first one has no rules.
const newestManifest = 2

// siteFile is one published file. It is all that is kept in memory of it.
type siteFile struct {
	blob           string // the git blob id, hexadecimal
	kind           string // the Content-Type
	size           int64
	gzip, br, zstd int64 // sizes of the compressed variants, 0 when there is none
	immutable      bool  // its name changes with its content
}

// isPage says that the file is what people come to, and not what a page loads.
func (f siteFile) isPage() bool {
	return strings.HasPrefix(f.kind, "text/html") || strings.HasPrefix(f.kind, "application/xhtml+xml")
}

// manifest is the form of manifest.json, which the builder writes.
type manifest struct {
	Version int                     `json:"version"`
	Files   map[string]manifestFile `json:"files"`

	Headers []struct {
		Path  string      `json:"path"`
		Set   [][2]string `json:"set"`
		Unset []string    `json:"unset"`
	} `json:"headers,omitempty"`
	Redirects []struct {
		From   string            `json:"from"`
		Query  map[string]string `json:"query"`
		To     string            `json:"to"`
		Status int               `json:"status"`
		Force  bool              `json:"force"`
	} `json:"redirects,omitempty"`
}

type manifestFile struct {
	Blob      string `json:"blob"`
	Size      int64  `json:"size"`
	Type      string `json:"type"`
	Encodings struct {
		Gzip int64 `json:"gzip"`
		Br   int64 `json:"br"`
		Zstd int64 `json:"zstd"`
	} `json:"encodings"`
}

// loadManifest reads what a release tree publishes. Files whose names begin with a dot are left out, but for .well-known.
func loadManifest(tree string) (*published, error) {
	data, err := os.ReadFile(filepath.Join(tree, "manifest.json"))
	if err != nil {
		return nil, store.Problemf(store.CodeErrored, "read site manifest: %w", err)
	}
	var read manifest
	if err := json.Unmarshal(data, &read); err != nil {
		return nil, store.Problemf(store.CodeErrored, "decode site manifest in %s: %w", tree, err)
	}
	if read.Version < 1 || read.Version > newestManifest {
		return nil, store.Problemf(store.CodeErrored, "site manifest in %s has version %d, and this proxy knows %d", tree, read.Version, newestManifest)
	}
	opened, err := openContents(tree)
	if err != nil {
		return nil, store.Problemf(store.CodeErrored, "open site: %w", err)
	}
	p := &published{contents: opened, files: make(map[string]siteFile, len(read.Files))}
	p.addRules(read)
	for name, file := range read.Files {
		if err := checkFile(name, file); err != nil {
			return nil, store.Problemf(store.CodeErrored, "site manifest in %s: %w", tree, err)
		}
		if hidden(name) {
			continue
		}
		p.files[name] = siteFile{
			blob: file.Blob, kind: typeOf(name, file.Type), size: file.Size, immutable: store.HasHashedName(name),
			gzip: file.Encodings.Gzip, br: file.Encodings.Br, zstd: file.Encodings.Zstd,
		}
	}
	return p, nil
}

func (p *published) addRules(read manifest) {
	for _, rule := range read.Headers {
		p.headers = append(p.headers, headerRule{compile(rule.Path), rule.Set, rule.Unset}.prepare())
	}
	for _, rule := range read.Redirects {
		p.redirects = append(p.redirects, redirectRule{compile(rule.From), rule.Query, rule.To, rule.Status, rule.Force})
	}
	p.ignored = p.indexRules()
}

func checkFile(name string, file manifestFile) error {
	switch {
	case !fs.ValidPath(name):
		return fmt.Errorf("%q is not a path inside the site", name)
	case file.Blob == "" || strings.Trim(file.Blob, "0123456789abcdef") != "":
		return fmt.Errorf("%s has blob %q, which is not an id", name, file.Blob)
	case file.Size < 0:
		return fmt.Errorf("%s has size %d", name, file.Size)
	}
	return nil
}

// hidden says that a part of the path begins with a dot. The directory .well-known is public by its purpose (RFC 8615).
func hidden(name string) bool {
	rest := strings.TrimPrefix(name, ".well-known/")
	return strings.HasPrefix(rest, ".") || strings.Contains(rest, "/.")
}

// webTypes are the types that must not depend on the machine's own tables.
var webTypes = map[string]string{
	".avif":        "image/avif",
	".css":         "text/css; charset=utf-8",
	".csv":         "text/csv; charset=utf-8",
	".gif":         "image/gif",
	".htm":         "text/html; charset=utf-8",
	".html":        "text/html; charset=utf-8",
	".ico":         "image/x-icon",
	".jpeg":        "image/jpeg",
	".jpg":         "image/jpeg",
	".js":          "text/javascript; charset=utf-8",
	".json":        "application/json",
	".map":         "application/json",
	".md":          "text/markdown; charset=utf-8",
	".mjs":         "text/javascript; charset=utf-8",
	".mp3":         "audio/mpeg",
	".mp4":         "video/mp4",
	".ogg":         "audio/ogg",
	".otf":         "font/otf",
	".pdf":         "application/pdf",
	".png":         "image/png",
	".svg":         "image/svg+xml",
	".ttf":         "font/ttf",
	".txt":         "text/plain; charset=utf-8",
	".wasm":        "application/wasm",
	".wav":         "audio/wav",
	".webm":        "video/webm",
	".webmanifest": "application/manifest+json",
	".webp":        "image/webp",
	".woff":        "font/woff",
	".woff2":       "font/woff2",
	".xhtml":       "application/xhtml+xml",
	".xml":         "application/xml",
	".zip":         "application/zip",
}

// typeOf gives the Content-Type: what the builder says, the web's common types, the machine's, or plain bytes.
func typeOf(name, stated string) string {
	if stated != "" {
		return stated
	}
	extension := strings.ToLower(path.Ext(name))
	if known := webTypes[extension]; known != "" {
		return known
	}
	if known := mime.TypeByExtension(extension); known != "" {
		return known
	}
	return "application/octet-stream"
}
