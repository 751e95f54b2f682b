package proxy

import (
	"path"
	"regexp"
	"strings"
)

// immutableCaching is for files whose names change with their content.
const immutableCaching = "public, max-age=31536000, immutable"

var (
	// hexHash is how webpack, Next, esbuild and many others write a hash: at the end of the name, or alone.
	hexHash = regexp.MustCompile(`(?:^|[.-])([0-9a-f]{8,64})$`)
	// mixedHash is how Vite, Rollup, Astro and SvelteKit write one: eight or more of base64url or base 32.
	mixedHash = regexp.MustCompile(`[.-]([A-Za-z0-9_-]{8})$|[.-]([A-Z0-9]{8})$`)
	// chunkEndings stand between the hash and the type of a file.
	chunkEndings = []string{".min", ".chunk", ".bundle", ".module"}
)

// isImmutable says that a file's name clearly carries a hash of its content. What only looks a little like it, such as a
// date, a version or a word, does not: a wrong yes would keep old content in caches for a year.
func isImmutable(name string) bool {
	base := strings.TrimSuffix(path.Base(name), ".map")
	extension := path.Ext(base)
	if extension == "" || extension == ".html" || extension == ".htm" {
		return false
	}
	base = strings.TrimSuffix(base, extension)
	for _, ending := range chunkEndings {
		base = strings.TrimSuffix(base, ending)
	}
	if found := hexHash.FindStringSubmatch(base); found != nil && isHex(found[1]) {
		return true
	}
	found := mixedHash.FindStringSubmatch(base)
	return found != nil && isMixed(found[1]+found[2])
}

// isHex tells a hash from a number, such as a date, and from a word, such as "deadbeef" spelt without a digit.
func isHex(text string) bool {
	return strings.ContainsAny(text, "0123456789") && strings.ContainsAny(text, "abcdef")
}

// isMixed asks for what words and versions do not have at once: capitals and digits, or two capitals apart after the first
// letter. "Download" and "camelCase" are words; the few hashes that look like one are asked for again, which costs a 304.
func isMixed(text string) bool {
	capitals := strings.ContainsFunc(text, func(r rune) bool { return r >= 'A' && r <= 'Z' })
	if capitals && strings.ContainsAny(text, "0123456789") {
		return true
	}
	between := strings.Trim(text[1:], "abcdefghijklmnopqrstuvwxyz")
	return strings.ContainsFunc(between, func(r rune) bool { return r >= 'a' && r <= 'z' })
}
