package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// What docs/action.md says to type on the server works, and sets up each app of the workflow below it.
func TestDocumentedServerCommands(t *testing.T) {
	page := string(must(os.ReadFile(filepath.Join("..", "..", "docs", "action.md"))))
	blocks := regexp.MustCompile("(?s)```(yaml)?\n(.*?)```")
	apps := regexp.MustCompile(`(?m)^ +app: (\S+)$`)
	recipes := 0
	for _, section := range strings.Split(page, "\n## ") {
		title, _, _ := strings.Cut(section, "\n")
		var typed [][]string
		var workflow string
		for _, block := range blocks.FindAllStringSubmatch(section, -1) {
			if block[1] == "yaml" {
				workflow += block[2]
				continue
			}
			for line := range strings.Lines(block[2]) {
				typed = append(typed, strings.Fields(line))
			}
		}
		if workflow == "" {
			continue
		}
		recipes++
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			for _, app := range apps.FindAllStringSubmatch(workflow, -1) {
				for _, verb := range []string{"shipgate app create " + app[1] + " ", "shipgate trust " + app[1] + " "} {
					if !slices.ContainsFunc(typed, func(words []string) bool { return strings.HasPrefix(strings.Join(words, " "), verb) }) {
						t.Errorf("the recipe has no %q", verb)
					}
				}
			}
			typeAll(t, typed)
		})
	}
	if recipes < 4 {
		t.Errorf("%d recipes", recipes)
	}
}

// typeAll runs commands on a server of their own, which is not connected to GitHub: what it would ask there is given.
func typeAll(t *testing.T, typed [][]string) {
	t.Helper()
	dir := shortDir(t)
	s := startServer(t, dir, nil)
	s.ready(t)
	for _, words := range typed {
		switch {
		case words[1] == "trust":
			words = append(words, "--repo-id", "11", "--owner-id", "22")
		case !slices.Contains(words, "--source"):
			words = append(words, "--source", "dockerfile")
		}
		if got := shipgate(t.Context(), map[string]string{"SHIPGATE_DATA": dir}, "", words[1:]...); got.code != 0 {
			t.Errorf("%s: exit %d\n%s%s", strings.Join(words, " "), got.code, got.stdout, got.stderr)
		}
	}
	if code, said := s.end(syscall.SIGTERM); code != exitDone {
		t.Errorf("exit %d:\n%s", code, said)
	}
}
