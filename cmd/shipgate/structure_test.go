package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/shipgate/shipgate/store"
)

const module = "github.com/shipgate/shipgate/"

// mayImport says which of our packages each may import: the table of docs/ARCHITECTURE.md. "std" is the standard library alone.
var mayImport = map[string][]string{
	"store":                       {},
	"gitserver":                   {"store"},
	"gitserver/github":            {"store"},
	"gitserver/github/githubtest": {"store"},
	"builder":                     {"store"},
	"deploy":                      {"store"},
	"deploy/dockerengine":         {"store"},
	"deploy/memengine":            {"store"},
	"deploy/enginetest":           {"store"},
	"deploy/compose":              {"store"},
	"proxy":                       {"store"},
	"web":                         {"store"},
	"action":                      {},
	"cmd/shipgate":                {"store", "gitserver", "gitserver/github", "builder", "deploy", "deploy/compose", "deploy/dockerengine", "proxy", "web", "action"},
	"cmd/shipgate-action":         {"action"},
	"deploy/enginetest/testapp":   {"std"},
	"examples/hello":              {"std"},
	"examples/load":               {"std"},
	"scripts/bench":               {"std"},
}

// confined are the modules that only some packages may know.
var confined = map[string][]string{
	"github.com/compose-spec/":        {"deploy/compose"},
	"github.com/docker/":              {"builder", "deploy/dockerengine"},
	"github.com/docker/go-units":      {"builder", "cmd/shipgate"},                        // which write sizes
	"github.com/docker/docker/client": {"builder", "deploy/dockerengine", "cmd/shipgate"}, // which makes the client
	"github.com/moby/":                {"builder"},
	"github.com/tonistiigi/":          {"builder"},
	"github.com/go-git/":              {"gitserver"},
	"github.com/google/go-github/":    {"gitserver/github"},
	"github.com/labstack/":            {"web"},
	"modernc.org/":                    {"store"},
	"github.com/spf13/":               {"cmd/shipgate"},
}

// listed is what go list says of one package.
type listed struct {
	ImportPath, Dir                                             string
	GoFiles, IgnoredGoFiles, TestGoFiles, XTestGoFiles, Imports []string
}

func (l listed) name() string { return strings.TrimPrefix(l.ImportPath, module) }

// production are the files that are not tests, for any system.
func (l listed) production() []string {
	files := slices.Concat(l.GoFiles, l.IgnoredGoFiles)
	return slices.DeleteFunc(files, func(file string) bool { return strings.HasSuffix(file, "_test.go") })
}

func ourPackages(t *testing.T) []listed {
	t.Helper()
	command := exec.Command("go", "list", "-json", "./...")
	command.Dir = filepath.Join("..", "..")
	command.Stderr = os.Stderr
	output, err := command.Output()
	if err != nil {
		t.Fatalf("list packages: %v", err)
	}
	var all []listed
	decoder := json.NewDecoder(strings.NewReader(string(output)))
	for {
		var one listed
		err := decoder.Decode(&one)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, one)
	}
}

// wrongImports names the imports that a package must not have.
func wrongImports(l listed) (wrong []string) {
	allowed, known := mayImport[l.name()]
	if !known {
		return []string{"the package is not in the table"}
	}
	onlyStandard := slices.Contains(allowed, "std")
	for _, path := range l.Imports {
		first, _, _ := strings.Cut(path, "/")
		ours, isOurs := strings.CutPrefix(path, module)
		switch {
		case !strings.Contains(first, "."):
		case onlyStandard, isOurs && !slices.Contains(allowed, ours), !isOurs && !mayKnow(l.name(), path):
			wrong = append(wrong, path)
		}
	}
	return wrong
}

// mayKnow goes by the longest prefix that confines the path.
func mayKnow(name, path string) bool {
	longest := ""
	for prefix := range confined {
		if strings.HasPrefix(path, prefix) && len(prefix) > len(longest) {
			longest = prefix
		}
	}
	return longest == "" || slices.Contains(confined[longest], name)
}

func TestImportDirection(t *testing.T) {
	packages := ourPackages(t)
	if len(packages) < 10 {
		t.Fatalf("only %d packages are listed", len(packages))
	}
	for _, l := range packages {
		for _, wrong := range wrongImports(l) {
			t.Errorf("%s: %s", l.name(), wrong)
		}
	}
}

func TestImportRulesCatch(t *testing.T) {
	for _, test := range []struct {
		name, path string
		allowed    bool
	}{
		{"web", module + "store", true},
		{"web", module + "deploy", false},
		{"store", module + "web", false},
		{"action", module + "store", false},
		{"deploy/dockerengine", module + "deploy", false},
		{"cmd/shipgate", module + "deploy/dockerengine", true},
		{"cmd/shipgate", module + "deploy/memengine", false},
		{"cmd/shipgate", "github.com/docker/docker/client", true},
		{"cmd/shipgate", "github.com/docker/docker/api/types/container", false},
		{"deploy", "github.com/docker/docker/client", false},
		{"deploy/dockerengine", "github.com/moby/buildkit/client", false},
		{"web", "github.com/go-git/go-git/v5/plumbing", false},
		{"cmd/shipgate", "github.com/labstack/echo/v4", false},
		{"proxy", "modernc.org/sqlite", false},
		{"web", "github.com/spf13/cobra", false},
		{"gitserver", "github.com/google/go-github/v60/github", false},
		{"proxy", "golang.org/x/sys/unix", true},
		{"examples/hello", "golang.org/x/sys/unix", false},
		{"examples/hello", module + "store", false},
		{"examples/hello", "net/http", true},
		{"utils", "fmt", false},
	} {
		wrong := wrongImports(listed{ImportPath: module + test.name, Imports: []string{test.path}})
		if allowed := len(wrong) == 0; allowed != test.allowed {
			t.Errorf("%s imports %s: allowed %v, want %v", test.name, test.path, allowed, test.allowed)
		}
	}
}

const (
	longestFile     = 400 // lines
	longestFunction = 60
)

func TestPackageComments(t *testing.T) {
	for _, l := range ourPackages(t) {
		var comments []string
		for _, file := range slices.Concat(l.production(), l.TestGoFiles, l.XTestGoFiles) {
			parsed, _, err := parseFile(filepath.Join(l.Dir, file), nil)
			if err != nil {
				t.Fatal(err)
			}
			if parsed.Doc != nil {
				comments = append(comments, strings.TrimSpace(parsed.Doc.Text()))
			}
		}
		if len(comments) != 1 {
			t.Errorf("%s has %d package comments: %q", l.name(), len(comments), comments)
			continue
		}
		comment := comments[0]
		if slices.Contains(mayImport[l.name()], "std") {
			comment, _, _ = strings.Cut(comment, "\n\n") // a program for development may go on with its usage
		}
		if !oneSentence(comment, filepath.Base(l.ImportPath)) {
			t.Errorf("%s: %q is not one sentence about the package", l.name(), comment)
		}
	}
}

func oneSentence(comment, name string) bool {
	text := strings.Join(strings.Fields(comment), " ")
	begins := strings.HasPrefix(text, "Package "+name+" ") || strings.HasPrefix(text, "Command "+name+" ")
	return begins && strings.HasSuffix(text, ".") && !strings.Contains(text, ". ") && !strings.Contains(comment, "\n\n")
}

func TestSourcesStaySimple(t *testing.T) {
	for _, l := range ourPackages(t) {
		for _, file := range l.production() {
			parsed, files, err := parseFile(filepath.Join(l.Dir, file), nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, complaint := range complaints(parsed, files) {
				t.Errorf("%s/%s: %s", l.name(), file, complaint)
			}
		}
	}
}

func parseFile(path string, source any) (*ast.File, *token.FileSet, error) {
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, path, source, parser.ParseComments)
	return parsed, files, err
}

// complaints are what is too long, sleeps or was put off.
func complaints(file *ast.File, files *token.FileSet) (found []string) {
	complain := func(at token.Pos, format string, args ...any) {
		found = append(found, fmt.Sprintf("line %d: ", files.Position(at).Line)+fmt.Sprintf(format, args...))
	}
	if lines := files.File(file.FileStart).LineCount(); lines > longestFile {
		complain(file.FileStart, "%d lines", lines)
	}
	for _, group := range file.Comments {
		for _, mark := range []string{"TO" + "DO", "FIX" + "ME"} {
			if strings.Contains(group.Text(), mark) {
				complain(group.Pos(), "%s", mark)
			}
		}
	}
	ast.Inspect(file, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.FuncDecl:
			if lines := files.Position(node.End()).Line - files.Position(node.Pos()).Line + 1; lines > longestFunction {
				complain(node.Pos(), "%s has %d lines", node.Name, lines)
			}
		case *ast.SelectorExpr:
			if of, ok := node.X.(*ast.Ident); ok && of.Name == "time" && node.Sel.Name == "Sleep" {
				complain(node.Pos(), "time.Sleep")
			}
		}
		return true
	})
	return found
}

func TestComplaints(t *testing.T) {
	body := func(lines int) string {
		return "package a\n\nfunc f() {\n" + strings.Repeat("\tg()\n", lines-2) + "}\n"
	}
	for name, test := range map[string]struct {
		source string
		wrong  int
	}{
		"good":             {"package a\n\nimport \"time\"\n\nvar limit = time.Second\n", 0},
		"longest function": {body(longestFunction), 0},
		"longer function":  {body(longestFunction + 1), 1},
		"longest file":     {"package a\n" + strings.Repeat("\n", longestFile-1), 0},
		"longer file":      {"package a\n" + strings.Repeat("\n", longestFile), 1},
		"sleeps":           {"package a\n\nimport \"time\"\n\nfunc f() { time.Sleep(1) }\n", 1},
		"put off":          {"package a\n\n// TO" + "DO: write it\nvar a int\n", 1},
		"broken":           {"package a\n\nvar a int // FIX" + "ME\n", 1},
	} {
		parsed, files, err := parseFile("a.go", test.source)
		if err != nil {
			t.Fatal(err)
		}
		if got := complaints(parsed, files); len(got) != test.wrong {
			t.Errorf("%s: %q, want %d complaints", name, got, test.wrong)
		}
	}
	for comment, good := range map[string]bool{
		"Package a says one thing.":               true,
		"Package a says one thing\nin two lines.": true,
		"Package a says one. And another.":        false,
		"Package b says one thing.":               false,
		"Package a has no end":                    false,
	} {
		if oneSentence(comment, "a") != good {
			t.Errorf("one sentence: %q", comment)
		}
	}
}

// The page for those who change the code shows the steps as they are.
func TestArchitectureShowsTheSteps(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, strategy := range []store.Strategy{store.BlueGreen, store.Recreate} {
		steps := []string{}
		for _, step := range store.StepsOf(strategy) {
			steps = append(steps, string(step))
		}
		line := string(strategy) + ": " + strings.Join(steps, " → ")
		if !slices.Contains(strings.Split(string(page), "\n"), line) {
			t.Errorf("docs/ARCHITECTURE.md has no line %q", line)
		}
	}
}
