package github

import (
	"path"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// matchPaths makes the test of an app's paths. As in GitHub's own filters the last pattern that matches a path decides, and
// one with "!" keeps it out. The name of a directory stands for all that is in it, and with nothing but "!" all else is meant.
func matchPaths(patterns []string) func(file string) bool {
	excludes := func(pattern string) bool { return strings.HasPrefix(pattern, "!") }
	onlyExcludes := !slices.ContainsFunc(patterns, func(pattern string) bool { return !excludes(pattern) })
	return func(file string) bool {
		for _, pattern := range slices.Backward(patterns) {
			if excludes(pattern) {
				if matches(pattern[1:], file, false) {
					return false
				}
			} else if matches(pattern, file, true) {
				return true
			}
		}
		return onlyExcludes
	}
}

// matches says what is to be done about a pattern that makes no sense as well.
func matches(glob, file string, otherwise bool) bool {
	glob = path.Clean(glob)
	switch {
	case glob == ".":
		return true
	case !doublestar.ValidatePattern(glob):
		return otherwise // rather one deployment too many than none ever
	case !strings.ContainsAny(glob, `*?[{\`) && strings.HasPrefix(file, glob+"/"):
		return true
	}
	return doublestar.MatchUnvalidated(glob, file)
}
