package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"
)

// workflow is a job with the Action in it: the command that action.yml has, with only the environment that a runner gives.
type workflow struct {
	t         *testing.T
	server    *scriptServer
	workspace string
	token     string
	run       int
}

func newWorkflow(t *testing.T) *workflow {
	t.Helper()
	requireEngine(t)
	dir := shortDir(t)
	w := &workflow{t: t, server: newServer(filepath.Join(dir, "data"), programs(t)), workspace: filepath.Join(dir, "workspace")}
	t.Cleanup(w.server.cleanUp)
	if err := w.server.start(); err != nil {
		t.Fatal(err)
	}
	w.must("app", "create", "web", "--source", "dockerfile", "--host", "web.localhost", "--health", "/healthz", "--health-timeout", "5s", "--no-token")
	if w.token = strings.TrimSpace(w.must("token", "create", "--app", "web", "--rights", "read,deploy", "--expires", "1d")); w.token == "" {
		t.Fatal("no token was made")
	}
	app, err := os.ReadFile(filepath.Join(w.server.bin, "testapp"))
	if err != nil {
		t.Fatal(err)
	}
	w.write("testapp", string(app))
	return w
}

func (w *workflow) must(args ...string) string {
	w.t.Helper()
	output, err := w.server.shipgate(args...)
	if err != nil {
		w.t.Fatalf("shipgate %v: %v\n%s", args, err, w.server.log.text())
	}
	return output
}

func (w *workflow) write(name, content string) {
	w.t.Helper()
	path := filepath.Join(w.workspace, "context", name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
		w.t.Fatal(err)
	}
}

// version writes what is deployed next: the app with a setting.
func (w *workflow) version(lines ...string) {
	w.t.Helper()
	w.write("Dockerfile", "FROM scratch\nCOPY testapp /testapp\nEXPOSE 8080\n"+strings.Join(lines, "\n")+"\nENTRYPOINT [\"/testapp\"]\n")
}

// step is the process of one step.
type actionStep struct {
	command *exec.Cmd
	out     bytes.Buffer
	output  string
}

// step makes the step's process of a new run, as action.yml begins it. It has no INPUT_*, as on a real runner.
func (w *workflow) step(inputs ...string) *actionStep {
	w.t.Helper()
	w.run++
	s := &actionStep{command: exec.Command("bash", "-e", "-c", actionFile(w.t).Runs.Steps[0].Run), output: filepath.Join(w.workspace, "output")}
	_ = os.Remove(s.output)
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		w.t.Fatal(err)
	}
	s.command.Env = append([]string{
		"GITHUB_ACTION_PATH=" + root, "PATH=" + os.Getenv("PATH"), "SHIPGATE_BINARY=" + filepath.Join(w.server.bin, "shipgate"), "GITHUB_OUTPUT=" + s.output, "GITHUB_WORKSPACE=" + w.workspace,
		"GITHUB_RUN_ID=" + string(rune('0'+w.run)), "GITHUB_RUN_ATTEMPT=1", "GITHUB_JOB=deploy", "GITHUB_REPOSITORY=acme/web", "GORACE=halt_on_error=1",
		"SHIPGATE_INPUT_SERVER=http://" + w.server.api, "SHIPGATE_INPUT_APP=web", "SHIPGATE_INPUT_TOKEN=" + w.token, "SHIPGATE_INPUT_PATH=context",
	}, inputs...)
	s.command.Stdout, s.command.Stderr = &s.out, &s.out
	return s
}

func (s *actionStep) wait() int {
	_ = s.command.Wait()
	return s.command.ProcessState.ExitCode()
}

func (w *workflow) ran(s *actionStep) int {
	w.t.Helper()
	if err := s.command.Start(); err != nil {
		w.t.Fatal(err)
	}
	return s.wait()
}

// The Action against the real server: what it says and how it ends is what the deployment did.
func TestActionDeploys(t *testing.T) {
	w := newWorkflow(t)
	w.version("ENV APP_VERSION=one")
	good := w.step()
	if code := w.ran(good); code != exitDone || !strings.Contains(good.out.String(), "::notice title=Deployed::web ") {
		t.Fatalf("exit %d\n%s\n%s", code, &good.out, w.server.log.text())
	}
	output, err := os.ReadFile(good.output)
	if err != nil || !regexp.MustCompile(`status<<end_\w+\nsucceeded\n`).Match(output) || !regexp.MustCompile(`deployment-id<<end_\w+\n1\n`).Match(output) {
		t.Errorf("outputs %s, %v", output, err)
	}
	w.version("ENV APP_VERSION=two", "CPOY a b")
	if bad := w.step(); w.ran(bad) != exitFailed || !regexp.MustCompile(`(?m)^::error title=shipgate%3A failed,file=context/Dockerfile,line=5::`).MatchString(bad.out.String()) {
		t.Errorf("a build that fails:\n%s", &bad.out)
	}
	w.version("ENV HEALTH_STATUS=503")
	if sick := w.step(); w.ran(sick) != exitFailed || !strings.Contains(sick.out.String(), "503") {
		t.Errorf("what is never healthy:\n%s", &sick.out)
	}
	if wrong := w.step("SHIPGATE_INPUT_TOKEN=sg_wrong"); w.ran(wrong) != exitUnauthorised || strings.Contains(strings.ReplaceAll(wrong.out.String(), "::add-mask::sg_wrong", ""), "sg_wrong") {
		t.Errorf("a wrong token:\n%s", &wrong.out)
	}
	if live := w.must("app", "show", "web", "--json"); !strings.Contains(live, `"deployment": 1`) {
		t.Errorf("live is %s", live)
	}
}

// The runner cancels: SIGINT to the process it started, SIGTERM after 7.5 s, and 2.5 s later it kills.
func TestActionIsCancelledByTheRunner(t *testing.T) {
	w := newWorkflow(t)
	w.must("app", "update", "web", "--health-timeout", "5m")
	w.version("ENV HEALTH_STATUS=503")
	s := w.step()
	if err := s.command.Start(); err != nil {
		t.Fatal(err)
	}
	if err := w.server.await("1", "started"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	_ = s.command.Process.Signal(syscall.SIGINT)
	term := time.AfterFunc(7500*time.Millisecond, func() { _ = s.command.Process.Signal(syscall.SIGTERM) })
	kill := time.AfterFunc(10*time.Second, func() { _ = s.command.Process.Kill() })
	code := s.wait()
	term.Stop()
	kill.Stop()
	if code != exitCancelled || time.Since(began) > 10*time.Second || !strings.Contains(s.out.String(), "the server was asked to cancel deployment 1") {
		t.Errorf("exit %d after %s\n%s", code, time.Since(began), &s.out)
	}
	if err := w.server.await("1", "undone"); err != nil {
		t.Fatal(err)
	}
	if shown := w.must("show", "1", "--json"); !strings.Contains(shown, `"verdict": "cancelled"`) {
		t.Errorf("the deployment is %s", shown)
	}
	if left, err := w.server.containers("web"); err != nil || left != "" {
		t.Errorf("left behind: %s, %v", left, err)
	}
}

// The server is killed in mid-deployment and comes back: the step goes on following, and ends with the right verdict.
func TestActionOutlivesTheServer(t *testing.T) {
	w := newWorkflow(t)
	w.version("ENV LISTEN_AFTER=3s")
	s := w.step()
	if err := s.command.Start(); err != nil {
		t.Fatal(err)
	}
	if err := w.server.await("1", "started"); err != nil {
		t.Fatal(err)
	}
	if err := w.server.end(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := w.server.start(); err != nil {
		t.Fatal(err)
	}
	if code := s.wait(); code != exitDone || strings.Count(s.out.String(), ".web.1 on ") != 1 {
		t.Errorf("exit %d\n%s\n%s", code, &s.out, w.server.log.text())
	}
}

// A workflow that follows the docs has nothing wrong with it.
func TestDocumentedWorkflows(t *testing.T) {
	if !hasTool(t, "actionlint.sh") {
		t.Skip("actionlint is not here")
	}
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "action.md"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, content string) {
		if err := writeProgram(filepath.Join(dir, name), content); err != nil {
			t.Fatal(err)
		}
	}
	metadata, err := os.ReadFile(filepath.Join("..", "..", "action.yml"))
	if err != nil {
		t.Fatal(err)
	}
	write("action.yml", string(metadata))
	pinned := regexp.MustCompile(`shipgate/shipgate@[0-9a-f]{40} # v[0-9.]+`)
	workflows := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	for n, workflow := range workflows {
		if !pinned.MatchString(workflow[1]) || !strings.Contains(workflow[1], "permissions:") || !strings.Contains(workflow[1], "concurrency:") {
			t.Errorf("workflow %d pins no commit, or has no permissions or concurrency:\n%s", n, workflow[1])
		}
		write(filepath.Join(".github", "workflows", strconv.Itoa(n)+".yml"), pinned.ReplaceAllString(workflow[1], "./"))
	}
	lint := func() (string, error) {
		binary, err := exec.Command("../../scripts/actionlint.sh").Output()
		if err != nil {
			t.Fatal(err)
		}
		command := exec.Command(strings.TrimSpace(string(binary)), "-no-color", "-shellcheck=", "-pyflakes=")
		command.Dir = dir
		output, err := command.CombinedOutput()
		return string(output), err
	}
	if output, err := exec.Command("git", "init", "-q", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	if output, err := lint(); err != nil || len(workflows) < 4 {
		t.Errorf("%d workflows: %v\n%s", len(workflows), err, output)
	}
	write(".github/workflows/0.yml", strings.Replace(pinned.ReplaceAllString(workflows[0][1], "./"), "app: web", "ap: web", 1))
	if output, err := lint(); err == nil || !strings.Contains(output, `input "ap" is not defined in action`) {
		t.Errorf("an input that is not there: %v\n%s", err, output)
	}
}

// The file has what a runner and the Marketplace want of one, and nothing that they do not know.
func TestActionFileFitsItsSchema(t *testing.T) {
	content, err := os.ReadFile(filepath.Join("..", "..", "action.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Name, Description, Author string
		Branding                  struct{ Icon, Color string }
		Inputs                    map[string]struct {
			Description, Default string
			Required             bool
		}
		Outputs map[string]struct{ Description, Value string }
		Runs    struct {
			Using string
			Steps []struct {
				ID, Shell, Run string
				Env            map[string]string
			}
		}
	}
	if err := yaml.Load(content, &file, yaml.WithKnownFields()); err != nil {
		t.Fatal(err)
	}
	colours := []string{"white", "black", "yellow", "blue", "green", "orange", "red", "purple", "gray-dark"} // of the Marketplace
	if file.Name == "" || len(file.Description) > 125 || file.Description == "" || file.Author == "" || file.Branding.Icon != "anchor" || !slices.Contains(colours, file.Branding.Color) {
		t.Errorf("file %+v", file)
	}
	for name, input := range file.Inputs {
		if must := name == "server" || name == "app"; input.Required != must || (must && input.Default != "") {
			t.Errorf("input %s: %+v", name, input)
		}
	}
	for _, step := range file.Runs.Steps {
		if step.Shell != "bash" {
			t.Errorf("step %+v", step)
		}
	}
}

// actionMetadata is what of action.yml is read here.
type actionMetadata struct {
	Inputs  map[string]struct{ Description string }
	Outputs map[string]struct{ Description, Value string }
	Runs    struct {
		Using string
		Steps []struct {
			ID, Shell, Run string
			Env            map[string]string
		}
	}
}

func actionFile(t *testing.T) (file actionMetadata) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "..", "action.yml"))
	if err == nil {
		err = yaml.Unmarshal(content, &file)
	}
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// Each input is described, handed on by a variable of its own, and read by the program; each output is described and set.
func TestActionFile(t *testing.T) {
	file := actionFile(t)
	step := file.Runs.Steps[len(file.Runs.Steps)-1]
	if file.Runs.Using != "composite" || !strings.HasPrefix(step.Run, "exec ") || strings.Contains(step.Run, "${{") {
		t.Errorf("the last step runs %q", step.Run)
	}
	read, err := exec.Command("grep", "-ohE", `get\("[a-z-]+"\)`, filepath.Join("..", "..", "action", "inputs.go")).Output()
	if err != nil {
		t.Fatal(err)
	}
	var wanted []string
	for call := range strings.FieldsSeq(string(read)) {
		wanted = append(wanted, strings.TrimSuffix(strings.TrimPrefix(call, `get("`), `")`))
	}
	var given []string
	for name, input := range file.Inputs {
		variable := "SHIPGATE_INPUT_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		switch name { // for client.sh
		case "binary-path":
			variable = "SHIPGATE_BINARY"
		case "version":
			variable = "SHIPGATE_VERSION"
		default:
			given = append(given, name)
		}
		if input.Description == "" || step.Env[variable] != "${{ inputs."+name+" }}" {
			t.Errorf("input %s: %q, %s is %q", name, input.Description, variable, step.Env[variable])
		}
	}
	slices.Sort(wanted)
	slices.Sort(given)
	if !slices.Equal(slices.Compact(wanted), given) || len(step.Env) != len(file.Inputs) {
		t.Errorf("the program reads %v, action.yml gives %v", wanted, given)
	}
	for name, output := range file.Outputs {
		if output.Description == "" || output.Value != "${{ steps."+step.ID+".outputs."+name+" }}" {
			t.Errorf("output %s: %+v", name, output)
		}
	}
	if len(file.Outputs) != 9 { // as the program's own test has them
		t.Errorf("%d outputs", len(file.Outputs))
	}
}
