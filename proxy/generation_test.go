package proxy

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestGenerationIsDecided fails when the proxy, or what it reads, changed and nobody said whether running ones must go.
func TestGenerationIsDecided(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	files = slices.DeleteFunc(files, func(name string) bool { return strings.HasSuffix(name, "_test.go") })
	files = append(files, "../store/route.go", "../store/siterules.go", "../store/siterulepattern.go", "../builder/manifest.go")
	slices.Sort(files)
	sum := sha256.New()
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(sum, "%s %d\n%s", name, len(text), text)
	}
	now := fmt.Sprintf("%d %x\n", Generation, sum.Sum(nil))
	if os.Getenv("SHIPGATE_GENERATION_SUM") == "write" {
		if err := os.WriteFile("generation.sum", []byte(now), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	recorded, err := os.ReadFile("generation.sum")
	if err != nil || string(recorded) != now {
		t.Errorf("the proxy or what it reads changed (%v): decide with scripts/generation.sh same, or raise where running proxies have to be replaced", err)
	}
}
