package main

import (
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// state waits until the app is in the state that the second argument names.
func state(ts *testscript.TestScript, _ bool, args []string) {
	s := serverOf(ts)
	deadline := time.Now().Add(time.Minute)
	for last := ""; ; time.Sleep(50 * time.Millisecond) {
		app, err := s.shownApp(args[0])
		if err == nil && app.Status.State == args[1] {
			return
		}
		if last = fmt.Sprint(app.Status.State, " ", err); time.Now().After(deadline) {
			ts.Fatalf("%s is %s, want %s", args[0], last, args[1])
		}
	}
}

// byHand has docker do something to the app's live container, and waits until the server has seen it.
func byHand(ts *testscript.TestScript, _ bool, args []string) {
	s := serverOf(ts)
	before, err := s.shownApp(args[0])
	ts.Check(err)
	output, err := exec.Command(args[1], append(args[2:], before.Live.Container)...).CombinedOutput()
	if err != nil {
		ts.Fatalf("%s: %v\n%s", strings.Join(args[1:], " "), err, output)
	}
	deadline, app := time.Now().Add(time.Minute), before
	for app.Status.Since.Equal(before.Status.Since) {
		app, err = s.shownApp(args[0])
		ts.Check(err)
		if time.Now().After(deadline) {
			ts.Fatalf("the server has not seen it: %+v", app.Status)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// healthy tells a version that waits to be told, HEALTH_TOLD in testapp, that it is healthy from now on. It may still be on its way.
func healthy(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(tellHealthy("shipgate-" + serverID(serverOf(ts).dir)[:8] + "." + args[0]))
}

func tellHealthy(container string) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		output, err := exec.Command("docker", "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", container).Output()
		if err == nil {
			var response *http.Response
			if response, err = http.Get("http://" + strings.TrimSpace(string(output)) + ":8080/ready"); err == nil {
				return response.Body.Close()
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("tell %s that it is healthy: %w", container, err)
		}
	}
}

// listen takes an address, as another program does, and puts it into the variable that is named.
func listen(ts *testscript.TestScript, _ bool, args []string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { listener.Close() })
	ts.Setenv(args[0], listener.Addr().String())
}

func (s *scriptServer) shownApp(name string) (app shownApp, err error) {
	err = s.ask("/api/v1/apps/"+name, &app)
	return app, err
}
