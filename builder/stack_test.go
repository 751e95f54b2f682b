package builder

import (
	"cmp"
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/shipgate/shipgate/store"
)

// stackLab is a lab whose compose files are not read: each build is given a plan.
func stackLab(t *testing.T, l *lab, plan store.StackPlan) *lab {
	t.Helper()
	l.stacksDir = t.TempDir()
	l.planStack = func(_ context.Context, _, checkout string, _ *store.ComposeConfig, _ map[string]string) (store.StackPlan, error) {
		if _, err := os.Stat(filepath.Join(checkout, "compose.yaml")); err != nil {
			return store.StackPlan{}, err
		}
		return plan, nil
	}
	return l
}

func (l *lab) stackOf(t *testing.T, artefact store.Artefact) (dir string, built store.BuiltStack) {
	t.Helper()
	dir = filepath.Join(l.stacksDir, filepath.FromSlash(artefact.Stack))
	content, err := os.ReadFile(filepath.Join(dir, store.StackImages))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(content, &built); err != nil {
		t.Fatal(err)
	}
	return dir, built
}

func TestStackIsBuilt(t *testing.T) {
	l := newEngineLab(t)
	base := l.base(t)
	stackLab(t, l, store.StackPlan{Routed: "web", Notes: []string{"said"}, Services: []store.StackService{
		{Name: "db", Image: base},
		{Name: "web", Image: "mine", Build: &store.StackBuild{Context: "app", Target: "final", Args: map[string]string{"WHO": "me"}}},
		{Name: "worker", Image: "mine"},
		{Name: "inline", Build: &store.StackBuild{Context: ".", Text: "FROM " + base + "\nCOPY run.sh /\n"}},
	}})
	snapshot := commit{
		"compose.yaml": "services: {}",
		"run.sh":       file{store.ModeExecutable, "#!/bin/sh\n"},
		"link":         file{store.ModeSymlink, "app/Dockerfile"},
		"dangling":     file{store.ModeSymlink, "nothing/here"},
		"app/Dockerfile": "FROM " + base + " AS final\nARG WHO\nRUN echo $WHO >/who\nEXPOSE 8080\n" +
			"FROM " + base + " AS other\nRUN false\n",
	}
	umask := syscall.Umask(0o077) // what a container mounts is open to whoever it runs as all the same
	artefact, log, err := l.build(t, snapshot, &store.ComposeConfig{})
	syscall.Umask(umask)
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	if artefact.Stack != l.app+"/1" || artefact.Port != 8080 || artefact.Image != "" {
		t.Errorf("artefact %+v", artefact)
	}
	if !strings.Contains(log, "said") {
		t.Errorf("the notes are not in the log:\n%s", log)
	}
	dir, built := l.stackOf(t, artefact)
	if built.Routed != "web" || built.Port != 8080 || len(built.Images) != 4 {
		t.Errorf("built %+v", built)
	}
	if built.Images["worker"] != built.Images["web"] || built.Images["inline"] == built.Images["web"] || !strings.HasPrefix(built.Images["db"], "sha256:") {
		t.Errorf("images %v", built.Images)
	}
	if who := l.read(t, built.Images["web"], "who"); who != "me\n" {
		t.Errorf("the build was told %q", who)
	}
	inspected, err := l.docker.ImageInspect(t.Context(), built.Images["web"])
	if err != nil {
		t.Fatal(err)
	}
	if inspected.Config.Labels[store.LabelApp] != l.app || inspected.Config.Labels[store.LabelData] != l.serverID {
		t.Errorf("labels %v", inspected.Config.Labels)
	}
	checkout := filepath.Join(dir, store.StackCheckout)
	for name, mode := range map[string]fs.FileMode{"run.sh": 0o755, "compose.yaml": 0o644, "app": fs.ModeDir | 0o755} {
		if info, err := os.Stat(filepath.Join(checkout, name)); err != nil || info.Mode() != mode {
			t.Errorf("%s has mode %v, want %v (%v)", name, info.Mode(), mode, err)
		}
	}
	if target, err := os.Readlink(filepath.Join(checkout, "link")); target != "app/Dockerfile" {
		t.Errorf("the symlink points to %q (%v)", target, err)
	}
	present(t, l, artefact.Stack, true)
	l.removeImages(t)
	present(t, l, artefact.Stack, false)
	present(t, l, l.app+"/99", false)
}

func present(t *testing.T, l *lab, stack string, wanted bool) {
	t.Helper()
	if there, err := l.stackPresent(t.Context(), stack); err != nil || there != wanted {
		t.Errorf("stack %s is there: %v (%v), want %v", stack, there, err, wanted)
	}
}

// A build that is repeated after a crash takes the place of the first, and what the crash left goes.
func TestStackIsBuiltAgain(t *testing.T) {
	l := newEngineLab(t)
	stackLab(t, l, store.StackPlan{Routed: "web", Port: 9090, Services: []store.StackService{
		{Name: "web", Build: &store.StackBuild{Context: ".", Text: "FROM " + l.base(t) + "\nEXPOSE 8080\n"}},
	}})
	build := func(content string) store.Artefact {
		artefact, log, err := l.buildUnder(t.Context(), 7, commit{"compose.yaml": "services: {}", "new": content}, &store.ComposeConfig{}, nil)
		if err != nil {
			t.Fatalf("%v\n%s", err, log)
		}
		return artefact
	}
	build("first")
	parent := filepath.Join(l.stacksDir, l.app)
	for _, left := range []string{unfinished + "123/files", unfinished + "replaced/files", "data/kept"} {
		if err := os.MkdirAll(filepath.Join(parent, left), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	artefact := build("second")
	if artefact.Port != 9090 {
		t.Errorf("port %d, want the plan's", artefact.Port)
	}
	dir, _ := l.stackOf(t, artefact)
	if content, _ := os.ReadFile(filepath.Join(dir, store.StackCheckout, "new")); string(content) != "second" {
		t.Errorf("the file has %q", content)
	}
	entries, err := os.ReadDir(parent)
	if err != nil || len(entries) != 2 {
		t.Errorf("the app's folder has %v (%v), want 7 and data", entries, err)
	}
}

func TestStackRefusals(t *testing.T) {
	for name, test := range map[string]struct {
		changes commit
		plan    store.StackPlan
		says    string
		code    store.Code // default failed
	}{
		"symlink out":            {changes: commit{"out": file{store.ModeSymlink, "../../etc"}}, says: "out"},
		"absolute symlink":       {changes: commit{"out": file{store.ModeSymlink, "/etc/passwd"}}, says: "out"},
		"symlink to itself":      {changes: commit{"out": file{store.ModeSymlink, "out"}}, says: "out"},
		"symlink through a link": {changes: commit{"a": file{store.ModeSymlink, "."}, "b": file{store.ModeSymlink, "a/../.."}}, says: "symlink b"},
		"submodule":              {changes: commit{"module": file{store.ModeSubmodule, "x"}}, says: "module"},
		"large file": {changes: commit{".gitattributes": "*.bin filter=lfs\n",
			"big.bin": "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"}, says: "big.bin"},
		"a path out":      {changes: commit{"../escaped": "x"}, says: "escaped"},
		"no image":        {plan: store.StackPlan{Routed: "web", Services: []store.StackService{{Name: "web"}}}, says: "neither an image nor a build"},
		"not a reference": {plan: store.StackPlan{Routed: "web", Services: []store.StackService{{Name: "web", Image: "No Such"}}}, says: "No Such"},
		"registry is away": {plan: store.StackPlan{Routed: "web", Services: []store.StackService{{Name: "web", Image: "127.0.0.1:1/none:1"}}},
			says: "127.0.0.1:1/none:1", code: store.CodeErrored},
		"no such context": {plan: store.StackPlan{Routed: "web", Services: []store.StackService{
			{Name: "web", Build: &store.StackBuild{Context: "nowhere"}}}}, says: "nowhere"},
	} {
		t.Run(name, func(t *testing.T) {
			l := stackLab(t, newEngineLab(t), test.plan)
			_, _, err := l.build(t, commit{"compose.yaml": "services: {}"}.with(test.changes), &store.ComposeConfig{})
			if p := problem(t, err, cmp.Or(test.code, store.CodeFailed)); !strings.Contains(p.Message, test.says) {
				t.Errorf("%q does not say %q", p.Message, test.says)
			}
			if left, err := filepath.Glob(filepath.Join(l.stacksDir, l.app, "*")); err != nil || len(left) > 0 {
				t.Errorf("%v is left (%v)", left, err)
			}
			if left, err := filepath.Glob(filepath.Join(l.stacksDir, l.app, ".*")); err != nil || len(left) > 0 {
				t.Errorf("%v is left (%v)", left, err)
			}
		})
	}
}

// The image says no port, and neither does anything else.
func TestStackWithoutPort(t *testing.T) {
	l := newEngineLab(t)
	stackLab(t, l, store.StackPlan{Routed: "web", Services: []store.StackService{{Name: "web", Image: l.base(t)}}})
	_, _, err := l.build(t, commit{"compose.yaml": "services: {}"}, &store.ComposeConfig{})
	problem(t, err, store.CodeFailed)
}
