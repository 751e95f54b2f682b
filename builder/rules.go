package builder

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/shipgate/shipgate/store"
)

const (
	headersFile   = "_headers"
	redirectsFile = "_redirects"

	maxRules      = 2000    // of one file
	maxRuleLine   = 8 << 10 // bytes
	maxRuleFile   = 1 << 20 // bytes
	maxComplaints = 20      // said of one file
)

// rules are what a site says of itself. Of the header rules all that match count, of the redirects the first one.
type rules struct {
	Headers   []headerRule   `json:"headers,omitempty"`
	Redirects []redirectRule `json:"redirects,omitempty"`
}

// headerRule sets headers on the answers for the paths that its pattern matches.
type headerRule struct {
	line  int         // in its file
	Path  string      `json:"path"`            // with :placeholders and *
	Set   [][2]string `json:"set,omitempty"`   // name and value, in the order of the file
	Unset []string    `json:"unset,omitempty"` // names that earlier rules set
}

// redirectRule answers a path with another one.
type redirectRule struct {
	line   int               // in its file
	From   string            `json:"from"` // with :placeholders, and * at its end
	Query  map[string]string `json:"query,omitempty"`
	To     string            `json:"to"`
	Status int               `json:"status"`
	Force  bool              `json:"force"` // also where the site has a file at that path
}

// complaints gathers what is wrong in a file of rules.
type complaints struct {
	file string
	say  func(format string, arguments ...any)
	made int

	refused error // what makes the site impossible
}

// refuse makes the site impossible: a limit was passed, and nobody would notice that the rules beyond it do nothing.
func (c *complaints) refuse(line int, limit error) {
	if c.refused == nil {
		c.refused = store.Problemf(store.CodeFailed, "%s:%d: %w", c.file, line, limit).WithHint("remove or join rules; docs/limits.md lists the limits")
	}
}

// refuseHeavy refuses rules of which too many may match one path: each request for it would have to be compared with all of them.
func (c *complaints) refuseHeavy(patterns []store.RulePattern, weights, lines []int) {
	if _, left := store.NewRuleIndex(patterns, weights); len(left) > 0 {
		c.refuse(lines[left[0]], fmt.Errorf("too many rules may match one path, this one among them: their weights may be %d together, %d for one path without placeholders",
			store.MaxRuleWeight-2*store.MaxSamePath, store.MaxSamePath))
	}
}

func (c *complaints) add(line int, err error) {
	c.made++
	if c.made <= maxComplaints {
		c.say("%s:%d: left out: %v", c.file, line, err)
	}
}

// end says how many complaints were not made.
func (c *complaints) end() {
	if more := c.made - maxComplaints; more > 0 {
		c.say("%s: %d more lines are left out", c.file, more)
	}
}

// eachLine hands on the lines of a file that say something, trimmed and with their numbers. What do finds wrong is
// complained of; errEnough and a line that is too long refuse the site.
func (c *complaints) eachLine(text []byte, do func(number int, line string) error) {
	defer c.end()
	lines := bufio.NewReaderSize(bytes.NewReader(bytes.TrimPrefix(text, []byte("\ufeff"))), maxRuleLine)
	for number := 1; ; number++ {
		line, long, err := readLine(lines)
		if err == nil && long {
			c.refuse(number, fmt.Errorf("the line is longer than %d bytes", maxRuleLine))
			return
		}
		if err != nil {
			return
		}
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err = sayable(line); err == nil {
			err = do(number, line)
		}
		if errors.Is(err, errEnough) {
			c.refuse(number, err)
			return
		}
		if err != nil {
			c.add(number, err)
		}
	}
}

var errEnough = fmt.Errorf("there are more than %d rules, or headers set by them", maxRules)

func readLine(from *bufio.Reader) (line string, long bool, err error) {
	data, more, err := from.ReadLine()
	if err != nil {
		return "", false, err
	}
	line = strings.TrimSpace(string(data))
	for more && err == nil {
		long = true
		_, more, err = from.ReadLine()
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return line, long, err
}

// sayable refuses what can be neither part of a header nor of an URL.
func sayable(line string) error {
	if !utf8.ValidString(line) {
		return errors.New("it is not UTF-8")
	}
	if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
		return errors.New("it has control characters")
	}
	return nil
}

// checkPattern accepts a path with :placeholders, one to a segment, and stars.
func checkPattern(pattern string) error {
	if !strings.HasPrefix(pattern, "/") {
		return fmt.Errorf("%s does not start with /", shorten(pattern))
	}
	if strings.ContainsAny(pattern, "?# \t") {
		return fmt.Errorf("%s is not a path alone", shorten(pattern))
	}
	names := map[string]bool{}
	for segment := range strings.SplitSeq(pattern, "/") {
		if segment == "." || segment == ".." {
			return fmt.Errorf("%s has %s as a segment", shorten(pattern), segment)
		}
		name, is := strings.CutPrefix(segment, ":")
		if !is {
			continue
		}
		if !isPlaceholder(name) {
			return fmt.Errorf(":%s is not a placeholder: use letters, digits and _", shorten(name))
		}
		if names[name] {
			return fmt.Errorf("the placeholder :%s is there twice", shorten(name))
		}
		names[name] = true
	}
	return nil
}

func isPlaceholder(name string) bool {
	letters := "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"
	return name != "" && strings.ContainsRune(letters, rune(name[0])) && strings.Trim(name, letters+"0123456789") == ""
}
