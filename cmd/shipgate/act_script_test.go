package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// actEnv begins the variables of a script that its workflows get.
const actEnv = "WORKFLOW_"

// act runs one job of the workflows of a repository, as the runner of GitHub would: act DIR JOB [FLAG…]. What the script
// has in WORKFLOW_NAME is NAME in each step. The action is the one of this checkout.
func act(ts *testscript.TestScript, neg bool, args []string) {
	s := serverOf(ts)
	binary, err := exec.Command("../../scripts/act.sh").Output()
	ts.Check(err)
	action, err := s.actionFolder(ts)
	ts.Check(err)
	flags := append([]string{
		"push", "-j", args[1], "-P", "ubuntu-latest=-self-hosted", "--no-cache-server", "--pull=false", "--action-offline-mode",
		"--local-repository", "shipgate/shipgate@v1=" + action, "-s", "SHIPGATE_TOKEN=" + ts.Getenv("TOKEN"),
	}, args[2:]...)
	for _, name := range []string{"SERVER", "REGISTRY", "ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "SHIPGATE_RELEASES"} {
		if value := ts.Getenv(actEnv + name); value != "" {
			flags = append(flags, "--env", name+"="+value)
		}
	}
	command := exec.Command(strings.TrimSpace(string(binary)), append(flags, "--env", "SHIPGATE="+filepath.Join(action, "scrubbed"))...)
	command.Dir = ts.MkAbs(args[0])
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + ts.Getenv("HOME"), "GORACE=halt_on_error=1"}
	output, err := command.CombinedOutput()
	_, _ = ts.Stdout().Write(output)
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		ts.Check(err)
	}
	if (err != nil) != neg {
		ts.Fatalf("act ended with %v", err)
	}
}

// actionFolder has the action as a runner gets it, and a program that runs the client without INPUT_*: act gives these to
// composite actions, and a real runner does not.
func (s *scriptServer) actionFolder(ts *testscript.TestScript) (string, error) {
	folder := ts.MkAbs(".action")
	files := map[string]string{"action.yml": "action.yml", "action/client.sh": "action/client.sh"}
	if ts.Getenv(actEnv+"SHIPGATE_RELEASES") == "" {
		files["action/client.pins"] = "action/client.pins"
	}
	for to, from := range files {
		content, err := os.ReadFile(filepath.Join("..", "..", from))
		if err == nil {
			err = writeProgram(filepath.Join(folder, to), string(content))
		}
		if err != nil {
			return "", err
		}
	}
	// act closes the terminal of a step that fails without reading it to its end; there is no event to wait for.
	scrubbed := fmt.Sprintf(`#!/bin/sh
env $(env | sed -n 's/^\(INPUT_[^=]*\)=.*/-u \1/p') %s "$@" || { status=$?; sleep 2; exit $status; }
`, filepath.Join(s.bin, "shipgate"))
	return folder, writeProgram(filepath.Join(folder, "scrubbed"), scrubbed)
}

func writeProgram(path, content string) error {
	return errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o755))
}

// release builds and pins a client, as a release of shipgate does, and serves it: release VERSION.
func release(ts *testscript.TestScript, _ bool, args []string) {
	pins, dist := ts.MkAbs(".action/action/client.pins"), ts.MkAbs(".dist")
	ts.Check(writeProgram(pins, "# pins\n"))
	command := exec.Command("../../scripts/release.sh", args[0])
	command.Env = append(os.Environ(), "SERVERS=", "CLIENTS=linux/amd64 linux/arm64", "DIST="+dist, "PINS="+pins)
	if output, err := command.CombinedOutput(); err != nil {
		ts.Fatalf("release: %v\n%s", err, output)
	}
	server := httptest.NewServer(http.StripPrefix("/"+args[0]+"/", http.FileServer(http.Dir(dist))))
	ts.Defer(server.Close)
	ts.Setenv(actEnv+"SHIPGATE_RELEASES", server.URL)
}

// issuer is a forge that knows who its jobs are:
//
//	issuer start               an issuer of identity tokens at $ISSUER, and a runner that jobs get theirs from
//	issuer claim NAME VALUE    what the next tokens say
func issuer(ts *testscript.TestScript, _ bool, args []string) {
	s := serverOf(ts)
	switch args[0] {
	case "start":
		s.issuer = must(newTestIssuer())
		ts.Defer(s.issuer.Close)
		ts.Setenv("ISSUER", s.issuer.URL)
		ts.Setenv(actEnv+"ACTIONS_ID_TOKEN_REQUEST_URL", s.issuer.URL+"/token?api=2")
		ts.Setenv(actEnv+"ACTIONS_ID_TOKEN_REQUEST_TOKEN", s.issuer.bearer)
	case "claim":
		s.issuer.mu.Lock()
		defer s.issuer.mu.Unlock()
		s.issuer.claims[args[1]] = args[2]
	default:
		ts.Fatalf("usage: issuer start|claim")
	}
}
