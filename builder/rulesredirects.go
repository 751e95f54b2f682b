package builder

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/shipgate/shipgate/store"
)

// redirectStatuses are what a rule may answer with: redirects, 200 for another page of the site, and refusals with a page.
var redirectStatuses = []int{200, 301, 302, 303, 307, 308, 401, 403, 404, 410, 451}

const splat = "splat"

var (
	statusWord = regexp.MustCompile(`^\d+!?$`)
	queryWord  = regexp.MustCompile(`^[^=/:]+=`)
	wholeName  = regexp.MustCompile(`/:([A-Za-z_][A-Za-z0-9_]*)`)
)

// parseRedirects reads a _redirects file, one rule a line: FROM [NAME=VALUE …] TO [STATUS[!]]. The format is that of
// https://docs.netlify.com/routing/redirects/, without what is said there of other hosts and of conditions.
func parseRedirects(text []byte, say func(format string, arguments ...any)) ([]redirectRule, error) {
	problems := &complaints{file: redirectsFile, say: say}
	var rules []redirectRule
	problems.eachLine(text, func(number int, line string) error {
		rule, err := parseRedirect(line)
		if err != nil {
			return err
		}
		if len(rules) == maxRules {
			return errEnough
		}
		rule.line = number
		rules = append(rules, rule)
		return nil
	})
	patterns, weights, lines := make([]store.RulePattern, len(rules)), make([]int, len(rules)), make([]int, len(rules))
	for i, rule := range rules {
		patterns[i], lines[i] = store.CompileRule(rule.From), rule.line
		weights[i] = patterns[i].Weight(len(rule.Query))
	}
	problems.refuseHeavy(patterns, weights, lines)
	return rules, problems.refused
}

func parseRedirect(line string) (redirectRule, error) {
	words := strings.Fields(line)
	if comment := slices.IndexFunc(words, func(word string) bool { return strings.HasPrefix(word, "#") }); comment > 0 {
		words = words[:comment]
	}
	rule := redirectRule{From: words[0], Status: 301}
	words, err := rule.takeQuery(words[1:])
	if err != nil {
		return rule, err
	}
	if len(words) == 0 {
		return rule, errors.New("it does not say where to")
	}
	rule.To, words = words[0], words[1:]
	if len(words) > 0 && statusWord.MatchString(words[0]) {
		number, force := strings.CutSuffix(words[0], "!")
		rule.Force, words = force, words[1:]
		if rule.Status, err = strconv.Atoi(number); err != nil || !slices.Contains(redirectStatuses, rule.Status) {
			return rule, fmt.Errorf("status %s is not possible: use one of %s", shorten(number), strings.Trim(fmt.Sprint(redirectStatuses), "[]"))
		}
	}
	if len(words) > 0 {
		return rule, fmt.Errorf("%s is not understood: after where to there may be a status; conditions are not possible", shorten(words[0]))
	}
	return rule, rule.check()
}

// takeQuery takes the parameters between the two paths.
func (r *redirectRule) takeQuery(words []string) (rest []string, err error) {
	for len(words) > 0 && queryWord.MatchString(words[0]) {
		name, value, _ := strings.Cut(words[0], "=")
		if _, twice := r.Query[name]; twice {
			return nil, fmt.Errorf("the parameter %s is there twice", shorten(name))
		}
		if placeholder, is := strings.CutPrefix(value, ":"); is && !isPlaceholder(placeholder) {
			return nil, fmt.Errorf("%s is not a placeholder: use letters, digits and _", shorten(value))
		}
		if r.Query == nil {
			r.Query = map[string]string{}
		}
		r.Query[name], words = value, words[1:]
	}
	return words, nil
}

// check refuses what could not work.
func (r *redirectRule) check() error {
	if strings.Contains(r.From, "://") {
		return fmt.Errorf("%s names a host: an app's hosts are said in its config", shorten(r.From))
	}
	if err := checkPattern(r.From); err != nil {
		return err
	}
	if slices.Contains(strings.Split(r.From, "/"), ":"+splat) {
		return errors.New(":splat is what a * matched")
	}
	if before := strings.TrimSuffix(r.From, "/*"); strings.Contains(before, "*") {
		return fmt.Errorf("%s has a * that is not its last segment", shorten(r.From))
	}
	if err := r.checkTo(); err != nil {
		return err
	}
	if r.Status/100 == 3 && r.From == r.To && len(r.Query) == 0 {
		return errors.New("it leads to itself")
	}
	known := r.placeholders()
	for _, used := range wholeName.FindAllStringSubmatch(r.To, -1) {
		if name := used[1]; !known[name] {
			return fmt.Errorf("there is no :%s in %s to take it from", shorten(name), shorten(r.From))
		}
	}
	return nil
}

func (r *redirectRule) checkTo() error {
	target, err := url.Parse(r.To)
	switch {
	case err != nil:
		return fmt.Errorf("%s is not an URL", shorten(r.To))
	case strings.HasPrefix(r.To, "/") && !strings.HasPrefix(r.To, "//"): // two begin another host's name
		return nil
	case target.Scheme != "http" && target.Scheme != "https" || target.Host == "":
		return fmt.Errorf("%s is neither a path nor an http URL", shorten(r.To))
	case r.Status/100 != 3:
		return fmt.Errorf("%s is elsewhere, and status %d is for pages of this site", shorten(r.To), r.Status)
	}
	return nil
}

// placeholders gives the names that the rule's path and parameters give values to.
func (r *redirectRule) placeholders() map[string]bool {
	names := map[string]bool{}
	for segment := range strings.SplitSeq(r.From, "/") {
		if name, is := strings.CutPrefix(segment, ":"); is {
			names[name] = true
		}
	}
	for _, value := range r.Query {
		if name, is := strings.CutPrefix(value, ":"); is {
			names[name] = true
		}
	}
	if strings.HasSuffix(r.From, "/*") {
		names[splat] = true
	}
	return names
}
