package action

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// inputPrefix begins the variables that action.yml gives the inputs in. A real runner gives composite actions no INPUT_*.
const inputPrefix = "SHIPGATE_INPUT_"

// inputs are what the workflow asks for.
type inputs struct {
	server, app, ref, sha, image, path, environment, token, audience, strategy string

	content string // the tree of what was uploaded; empty until then, and without path

	wait, dryRun, summary bool
	statusOnly            bool // the server makes no deployment at GitHub
	timeout               time.Duration
	detach                bool     // what a cancelled workflow does with its deployment: let it go on
	failOn                []string // verdicts that fail the step
}

// verdicts that may fail a step.
var verdicts = []string{"failed", "errored", "superseded", "cancelled"}

var commitID = regexp.MustCompile(`^[0-9a-f]{40}$`)

// readInputs refuses what is unknown before anything is begun.
func readInputs(getenv func(string) string) (in inputs, err error) {
	get := func(name string) string {
		return strings.TrimSpace(getenv(inputPrefix + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))))
	}
	in = inputs{
		server: strings.TrimSuffix(get("server"), "/"), app: get("app"), ref: get("ref"), sha: get("sha"), image: get("image"), path: get("path"),
		environment: get("environment"), token: get("token"), audience: get("audience"), strategy: get("strategy"),
	}
	if in.wait, err = yes(get("wait"), "wait", true); err != nil {
		return in, err
	}
	if in.dryRun, err = yes(get("dry-run"), "dry-run", false); err != nil {
		return in, err
	}
	if in.summary, err = yes(get("summary"), "summary", true); err != nil {
		return in, err
	}
	if err := in.readTimes(get("timeout"), get("on-cancel"), get("fail-on")); err != nil {
		return in, err
	}
	if in.statusOnly, err = statusOnly(get("github-deployment"), in.environment); err != nil {
		return in, err
	}
	return in, in.check(getenv)
}

// statusOnly leaves the deployment at GitHub to the runner, which makes one for each job with an environment.
func statusOnly(text, environment string) (bool, error) {
	switch text {
	case "", "auto":
		return environment != "", nil
	case "off":
		return true, nil
	}
	return false, usage("github-deployment: auto", "input github-deployment is %q, and can be auto or off", text)
}

func yes(text, name string, fallback bool) (bool, error) {
	switch text {
	case "":
		return fallback, nil
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, usage(name+": true", "input %s is %q, and can be true or false", name, text)
}

func (in *inputs) readTimes(timeout, onCancel, failOn string) (err error) {
	in.timeout = 30 * time.Minute
	if timeout != "" {
		if in.timeout, err = time.ParseDuration(timeout); err != nil || in.timeout < time.Second {
			return usage("timeout: 30m", "input timeout is %q, and is no time such as 90s or 30m", timeout)
		}
	}
	if onCancel != "" && onCancel != "cancel" && onCancel != "detach" {
		return usage("on-cancel: cancel", "input on-cancel is %q, and can be cancel or detach", onCancel)
	}
	in.detach = onCancel == "detach"
	in.failOn = verdicts
	if failOn != "" {
		in.failOn = strings.FieldsFunc(failOn, func(r rune) bool { return r == ',' || r == ' ' })
	}
	for _, verdict := range in.failOn {
		if !slices.Contains(verdicts, verdict) && verdict != "none" {
			return usage("fail-on: "+strings.Join(verdicts, ","), "input fail-on has %q, and knows %s and none", verdict, strings.Join(verdicts, ", "))
		}
	}
	return nil
}

// inTheClear says whether the token can be read on its way.
func (in *inputs) inTheClear() bool {
	address, err := url.Parse(in.server)
	if err != nil || address.Scheme != "http" || address.Hostname() == "localhost" {
		return false
	}
	ip, err := netip.ParseAddr(address.Hostname())
	return err != nil || !ip.IsLoopback()
}

func (in *inputs) check(getenv func(string) string) error {
	address, err := url.Parse(in.server)
	switch {
	case in.server == "":
		return usage("server: https://deploy.example.com", "input server is missing")
	case err != nil || address.Host == "" || (address.Scheme != "http" && address.Scheme != "https"):
		return usage("server: https://deploy.example.com", "input server is no address: %s", in.server)
	case in.app == "":
		return usage("app: web", "input app is missing")
	case in.image != "" && in.path != "":
		return usage("leave one of them out", "inputs image and path exclude each other")
	case in.ref != "" && in.sha != "":
		return usage("leave one of them out", "inputs ref and sha exclude each other")
	case in.path != "" && in.ref+in.sha != "":
		return usage("leave path out, or ref and sha", "input path deploys the files of a directory, not a commit")
	case in.strategy != "" && in.strategy != "recreate" && in.strategy != "blue-green":
		return usage("strategy: blue-green", "input strategy is %q, and can be recreate or blue-green", in.strategy)
	}
	if in.sha == "" && in.ref == "" {
		in.sha = getenv("GITHUB_SHA")
	}
	if in.sha != "" && !commitID.MatchString(in.sha) {
		return usage("sha: ${{ github.sha }}", "input sha is not the whole id of a commit: %s", in.sha)
	}
	return nil
}

// place is where the step runs.
type place struct {
	repository, sha, run, attempt, job, page string
}

func readPlace(getenv func(string) string) place {
	return place{
		repository: getenv("GITHUB_REPOSITORY"), sha: getenv("GITHUB_SHA"), run: getenv("GITHUB_RUN_ID"), attempt: getenv("GITHUB_RUN_ATTEMPT"), job: getenv("GITHUB_JOB"),
		page: getenv("GITHUB_SERVER_URL") + "/" + getenv("GITHUB_REPOSITORY") + "/actions/runs/" + getenv("GITHUB_RUN_ID"),
	}
}

// key is the same for the same attempt of the same job, so that a step that is repeated joins its deployment. Other files
// in the same directory are another deployment.
func (p place) key(in inputs) string {
	if p.run == "" {
		return "" // not in a workflow
	}
	sum := sha256.Sum256([]byte(strings.Join([]string{p.repository, p.run, p.attempt, p.job, in.app, in.environment, in.ref, in.sha, in.image, in.path, in.content, in.strategy}, "\x00")))
	return "workflow-" + p.run + "-" + hex.EncodeToString(sum[:16])
}
