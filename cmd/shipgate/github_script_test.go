package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/shipgate/shipgate/gitserver/github/githubtest"
)

// restDescription is GitHub's own, where it is at hand: the stand-in then holds requests to it, too.
const restDescription = "../../../shared/data/github-openapi-subset.json"

// atGitHub is what a script does at GitHub:
//
//	github start                              a GitHub with an App; its key is in app.pem, the webhook's secret in secret
//	github token PERMISSION…                  a token instead, in token and $GITHUB_TOKEN
//	github repo OWNER/NAME                    makes a repository
//	github push OWNER/NAME BRANCH TEXT DIR    commits the files of DIR and delivers the webhook; $SHA and $GUID say which
//	github lose OWNER/NAME BRANCH TEXT DIR    the same, and the webhook gets lost
//	github accept OWNER/NAME BRANCH CLONE     the same with what a clone has checked out
//	github redeliver GUID                     delivers once more
//	github statuses OWNER/NAME                prints the statuses in the order in which they arrived
//	github deployments OWNER/NAME             prints the GitHub Deployments with their statuses
//	github pending OWNER/NAME COUNT           waits until so many pending statuses have arrived
//	github told OWNER/NAME COUNT              waits until so many verdicts have arrived
//	github down | up                          connections are refused, and are taken again
//	github fail PATTERN STATUS | hang         what the next request that matches is answered
//	github asked PATTERN COUNT                waits until so many requests that match have come
func atGitHub(ts *testscript.TestScript, _ bool, args []string) {
	s := serverOf(ts)
	if args[0] == "start" {
		ts.Check(s.startGitHub(ts))
		return
	}
	command, known := map[string]func(ts *testscript.TestScript, g *githubtest.Fake, args []string) error{
		"token": giveToken, "repo": makeRepository, "push": pushToGitHub, "lose": loseWebhook, "accept": acceptClone, "redeliver": redeliver,
		"statuses": showStatuses, "deployments": showDeployments, "told": awaitVerdicts, "pending": awaitPending, "fail": failNext, "asked": awaitRequests,
		"down": func(_ *testscript.TestScript, g *githubtest.Fake, _ []string) error { g.Down(); return nil },
		"up":   func(_ *testscript.TestScript, g *githubtest.Fake, _ []string) error { return g.Up() },
	}[args[0]]
	if !known {
		ts.Fatalf("github has no command %q", args[0])
	}
	ts.Check(command(ts, s.github, args[1:]))
	if wrong := s.github.Violations(); len(wrong) > 0 {
		ts.Fatalf("GitHub was sent what it does not take:\n%s", strings.Join(wrong, "\n"))
	}
}

func (s *scriptServer) startGitHub(ts *testscript.TestScript) (err error) {
	if s.github, err = githubtest.New(); err != nil {
		return err
	}
	if _, err := os.Stat(restDescription); err == nil {
		if err := s.github.HoldTo(restDescription); err != nil {
			return err
		}
	}
	access, err := s.github.AppAccess()
	if err != nil {
		return err
	}
	s.github.SetHook(githubtest.Hook{URL: "http://" + s.api + "/webhooks/github"})
	ts.Setenv("GITHUB_API", s.github.APIURL())
	ts.Setenv("GITHUB_HOST", strings.TrimPrefix(s.github.URL(), "http://"))
	ts.Setenv("APP_ID", strconv.FormatInt(access.AppID, 10))
	ts.Check(os.WriteFile(ts.MkAbs("app.pem"), []byte(access.PrivateKey), 0o600))
	return os.WriteFile(ts.MkAbs("secret"), []byte(access.WebhookSecret), 0o600)
}

func giveToken(ts *testscript.TestScript, g *githubtest.Fake, args []string) error {
	token := g.TokenAccess(args...).Token
	ts.Setenv("GITHUB_TOKEN", token)
	return os.WriteFile(ts.MkAbs("token"), []byte(token), 0o600)
}

func makeRepository(ts *testscript.TestScript, g *githubtest.Fake, args []string) error {
	owner, name, _ := strings.Cut(args[0], "/")
	repository, err := g.Repository(owner, name)
	if err == nil {
		g.SetPrivate(repository)
		serverOf(ts).repositories[args[0]] = repository
	}
	return err
}

func pushToGitHub(ts *testscript.TestScript, g *githubtest.Fake, args []string) error {
	files, err := filesBelow(ts.MkAbs(args[3]))
	if err != nil {
		return err
	}
	sha, delivery, err := g.Push(serverOf(ts).repositories[args[0]], args[1], args[2], files)
	ts.Setenv("SHA", sha)
	ts.Setenv("GUID", delivery.GUID)
	fmt.Fprintf(ts.Stdout(), "%d %s\n", delivery.Status, delivery.Answer)
	return err
}

func acceptClone(ts *testscript.TestScript, g *githubtest.Fake, args []string) error {
	sha, delivery, err := g.Take(serverOf(ts).repositories[args[0]], args[1], ts.MkAbs(args[2]))
	ts.Setenv("SHA", sha)
	ts.Setenv("GUID", delivery.GUID)
	fmt.Fprintf(ts.Stdout(), "%d %s\n", delivery.Status, delivery.Answer)
	return err
}

func loseWebhook(ts *testscript.TestScript, g *githubtest.Fake, args []string) error {
	g.Lose(true)
	defer g.Lose(false)
	return pushToGitHub(ts, g, args)
}

func filesBelow(dir string) (map[string]string, error) {
	files := map[string]string{}
	return files, filepath.WalkDir(dir, func(name string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(name)
		relative, _ := filepath.Rel(dir, name)
		files[filepath.ToSlash(relative)] = string(content)
		return err
	})
}

func redeliver(ts *testscript.TestScript, g *githubtest.Fake, args []string) error {
	delivery, err := g.Redeliver(args[0])
	fmt.Fprintf(ts.Stdout(), "%d %s\n", delivery.Status, delivery.Answer)
	return err
}

func showStatuses(ts *testscript.TestScript, g *githubtest.Fake, args []string) error {
	for _, status := range g.Statuses(serverOf(ts).repositories[args[0]]) {
		fmt.Fprintf(ts.Stdout(), "%.7s %s %s: %s <%s>\n", status.SHA, status.Context, status.State, status.Description, status.TargetURL)
	}
	return nil
}

func showDeployments(ts *testscript.TestScript, g *githubtest.Fake, args []string) error {
	for _, deployment := range g.Deployments(serverOf(ts).repositories[args[0]]) {
		fmt.Fprintf(ts.Stdout(), "%.7s in %s\n", deployment.SHA, deployment.Environment)
		for _, status := range deployment.Statuses {
			fmt.Fprintf(ts.Stdout(), "  %s: %s <%s>\n", status.State, status.Description, status.EnvironmentURL)
		}
	}
	return nil
}

func awaitVerdicts(ts *testscript.TestScript, g *githubtest.Fake, args []string) error {
	return awaitStatuses(ts, g, args, func(state string) bool { return state != "pending" })
}

func awaitPending(ts *testscript.TestScript, g *githubtest.Fake, args []string) error {
	return awaitStatuses(ts, g, args, func(state string) bool { return state == "pending" })
}

func awaitStatuses(ts *testscript.TestScript, g *githubtest.Fake, args []string, counts func(state string) bool) error {
	count, err := strconv.Atoi(args[1])
	ts.Check(err)
	return await(ts, g, func() bool {
		arrived := 0
		for _, status := range g.Statuses(serverOf(ts).repositories[args[0]]) {
			if counts(status.State) {
				arrived++
			}
		}
		return arrived >= count
	})
}

func awaitRequests(ts *testscript.TestScript, g *githubtest.Fake, args []string) error {
	count, err := strconv.Atoi(args[1])
	ts.Check(err)
	return await(ts, g, func() bool {
		came := 0
		for _, request := range g.Requests() {
			if match, _ := path.Match(args[0], request.Method+" "+strings.TrimPrefix(request.Path, "/api/v3")); match {
				came++
			}
		}
		return came >= count
	})
}

func await(ts *testscript.TestScript, g *githubtest.Fake, holds func() bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := g.WaitFor(ctx, holds); err != nil {
		return fmt.Errorf("%w; the server says:\n%s", err, serverOf(ts).log.text())
	}
	return nil
}

func failNext(ts *testscript.TestScript, g *githubtest.Fake, args []string) error {
	if args[1] == "hang" {
		g.FailNext(args[0], githubtest.Hanging())
		return nil
	}
	status, err := strconv.Atoi(args[1])
	ts.Check(err)
	g.FailNext(args[0], githubtest.Refusal(status, http.StatusText(status)))
	return nil
}
