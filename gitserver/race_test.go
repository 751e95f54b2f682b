//go:build race

package gitserver

func init() { underRace = true }
