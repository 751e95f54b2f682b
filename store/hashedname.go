package store

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

var (
	// hexHash is how webpack, Next, esbuild and many others write a hash: at the end of the name, or alone.
	hexHash = regexp.MustCompile(`(?:^|[.-])([0-9a-f]{8,64})$`)
	// mixedHash is how Vite, Rollup, Astro and SvelteKit write one, in base64url, and esbuild and Angular, in base 32.
	mixedHash = regexp.MustCompile(`[.-]([A-Za-z0-9_-]{8})$`)
	base32    = regexp.MustCompile(`^[A-Z2-7]+$`)
	// namePiece is what names that people give are made of: a few words and numbers. A hash falls into many.
	namePiece = regexp.MustCompile(`[A-Z]?[a-z]+|[A-Z]+|[0-9]+`)
	// hashlikeDate has one of the months that are hexadecimal.
	hashlikeDate = regexp.MustCompile(`^[0-9]+(?:dec|feb)[0-9]+$`)
	// chunkEndings stand between the hash and the type of a file.
	chunkEndings = []string{".min", ".chunk", ".bundle", ".module"}
)

// HasHashedName reports whether the name of a site's file clearly carries a hash of its content. What only looks a little like
// it, such as a date, a version or a word, does not: a wrong yes would keep old content in caches for a year.
func HasHashedName(name string) bool {
	base := strings.TrimSuffix(path.Base(name), ".map")
	extension := path.Ext(base)
	if slices.Contains([]string{"", ".html", ".htm", ".xhtml"}, extension) {
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
	return found != nil && isMixed(found[1])
}

// isHex tells a hash from a number, a word with a number ("cafe2024"), and a date ("12dec2024").
func isHex(text string) bool {
	return len(namePiece.FindAllString(text, 3)) == 3 && !hashlikeDate.MatchString(text)
}

// isMixed tells a hash from words and numbers together ("IMG_0001", "Version2", "HowToRun", "16x9"). The hashes that look
// like these are asked for again, which costs a 304.
func isMixed(text string) bool {
	pieces := 4
	if base32.MatchString(text) {
		pieces = 3 // of capitals alone there are fewer
	}
	return strings.ToLower(text) != text && len(namePiece.FindAllString(text, pieces)) == pieces
}
