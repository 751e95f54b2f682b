package action

import (
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// commands writes what the runner reads of a step's output, and keeps all else from being taken for a command.
// https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands
type commands struct {
	mu      sync.Mutex
	out     io.Writer
	getenv  func(string) string
	group   string
	stopped string // the token that ends the present stop-commands
	errors  int
}

// mostErrors is how many annotations of a kind the runner takes of a step.
const mostErrors = 10

func newCommands(out io.Writer, getenv func(string) string) *commands {
	return &commands{out: out, getenv: getenv}
}

var (
	escapeData     = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	escapeProperty = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
)

// command writes a command of ours, outside of what others wrote.
func (c *commands) command(name, properties, data string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trust()
	fmt.Fprintf(c.out, "::%s%s::%s\n", name, properties, escapeData.Replace(data))
}

func (c *commands) notice(title, text string) {
	c.command("notice", " title="+escapeProperty.Replace(title), text)
}

// fail writes the error that ends the step, at its place where it has one.
func (c *commands) fail(p *problem) {
	c.endGroup()
	properties := " title=" + escapeProperty.Replace("shipgate: "+p.Code)
	if p.file != "" {
		properties += ",file=" + escapeProperty.Replace(p.file)
		if p.line > 0 {
			properties += fmt.Sprintf(",line=%d", p.line)
		}
	}
	text := p.Message
	if p.Hint != "" {
		text += "\nNext: " + p.Hint
	}
	c.errors++
	if c.errors <= mostErrors {
		c.command("error", properties, text)
	}
}

// mask has the runner hide a secret. It comes before anything that could hold it.
func (c *commands) mask(secret string) {
	for line := range strings.SplitSeq(secret, "\n") {
		if line = strings.TrimSpace(line); line != "" {
			c.command("add-mask", "", line)
		}
	}
}

// debug tells of a request where the run is debugged, without headers: they hold secrets.
func (c *commands) debug(method, path string, response *http.Response, err error, took time.Duration) {
	if c.getenv("RUNNER_DEBUG") != "1" {
		return
	}
	answer := "no answer"
	if err == nil {
		answer = response.Status
	}
	c.command("debug", "", fmt.Sprintf("%s %s: %s after %s", method, path, answer, took.Round(time.Millisecond)))
}

// begin opens a group, in place of the one that is open.
func (c *commands) begin(title string) {
	if c.group == title {
		return
	}
	c.endGroup()
	c.group = title
	c.command("group", "", title)
}

func (c *commands) endGroup() {
	if c.group == "" {
		return
	}
	c.group = ""
	c.command("endgroup", "", "")
}

// say writes a line that somebody else may have made up: a build, a container, the server. Nothing in it is a command.
func (c *commands) say(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped == "" {
		c.stopped = rand.Text()
		fmt.Fprintf(c.out, "::stop-commands::%s\n", c.stopped)
	}
	fmt.Fprintln(c.out, plain(line))
}

// trust ends what began with say.
func (c *commands) trust() {
	if c.stopped != "" {
		fmt.Fprintf(c.out, "::%s::\n", c.stopped)
		c.stopped = ""
	}
}

// plain keeps a line one line.
func plain(line string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\r' || r == '\x00' {
			return ' '
		}
		return r
	}, line)
}

// output sets outputs of the step. The end of each value is a random word, which no value can hold.
func (c *commands) output(pairs ...[2]string) error {
	var text strings.Builder
	for _, pair := range pairs {
		end := "end_" + rand.Text()
		fmt.Fprintf(&text, "%s<<%s\n%s\n%s\n", pair[0], end, pair[1], end)
	}
	return appendTo(c.getenv("GITHUB_OUTPUT"), text.String())
}

// appendTo adds to one of the runner's files. Outside of a workflow there is none.
func appendTo(path, text string) (err error) {
	if path == "" {
		return nil
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open file of the runner: %w", err)
	}
	_, err = file.WriteString(text)
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("write file of the runner: %w", err)
	}
	return nil
}
