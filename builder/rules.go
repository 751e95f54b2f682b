package builder

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

const (
	headersFile   = "_headers"
	redirectsFile = "_redirects"

	maxRules      = 2000    // of one file
	maxRuleLine   = 8 << 10 // bytes
	maxRuleFile   = 1 << 20 // bytes
	maxComplaints = 20      // said of one file

	// Each request may have to be compared with these; one with a star inside costs as many as twenty others.
	maxWildcards = 400
	starWildcard = 20
)

// wildcards counts the rules of a file whose paths have placeholders or stars other than a last /*.
type wildcards int

func (w *wildcards) take(pattern string) error {
	weight := 0
	if strings.Contains(pattern, "/:") {
		weight = 1
	}
	if strings.Contains(strings.TrimSuffix(pattern, "/*"), "*") {
		weight = starWildcard
	}
	if int(*w)+weight > maxWildcards {
		return fmt.Errorf("there are too many rules with placeholders or a * inside: %d may have placeholders, and one with a * inside counts for %d of these", maxWildcards, starWildcard)
	}
	*w += wildcards(weight)
	return nil
}

// rules are what a site says of itself. Of the header rules all that match count, of the redirects the first one.
type rules struct {
	Headers   []headerRule   `json:"headers,omitempty"`
	Redirects []redirectRule `json:"redirects,omitempty"`
}

// headerRule sets headers on the answers for the paths that its pattern matches.
type headerRule struct {
	Path  string      `json:"path"`            // with :placeholders and *
	Set   [][2]string `json:"set,omitempty"`   // name and value, in the order of the file
	Unset []string    `json:"unset,omitempty"` // names that earlier rules set
}

// redirectRule answers a path with another one.
type redirectRule struct {
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
// complained of; errEnough ends the reading.
func (c *complaints) eachLine(text []byte, do func(number int, line string) error) {
	defer c.end()
	lines := bufio.NewReaderSize(bytes.NewReader(bytes.TrimPrefix(text, []byte("\ufeff"))), maxRuleLine)
	for number := 1; ; number++ {
		line, long, err := readLine(lines)
		if err == nil && long {
			c.add(number, fmt.Errorf("the line is longer than %d bytes", maxRuleLine))
			continue
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
		if err != nil {
			c.add(number, err)
		}
		if errors.Is(err, errEnough) {
			return
		}
	}
}

var errEnough = fmt.Errorf("there are more than %d rules; all after them are ignored", maxRules)

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
