package proxy

import (
	"slices"
	"strings"
)

// The rules of a site cost every request to it. For any path at most maxCandidates are looked at, where one with a star
// inside counts for many, as it may be tried at each place of the path.
const (
	maxRules      = 10_000
	maxCandidates = 500
	maxSamePath   = 50 // of these, for one path without placeholders, with and without a slash at its end
	starWeight    = 20
)

// ruleIndex finds the rules that may match a path: by the whole path, or by the text that their pattern begins with.
type ruleIndex struct {
	exact map[string][]int
	begin prefixNode
}

// prefixNode is a node of a radix tree: the rules whose beginning ends here, and where it goes on.
type prefixNode struct {
	text  string
	rules []int
	next  map[byte]*prefixNode
}

// newRuleIndex indexes the patterns and returns how many were left out because there are too many.
func newRuleIndex(patterns []pattern) (x ruleIndex, left int) {
	x.exact = map[string][]int{}
	left = max(0, len(patterns)-maxRules)
	for i, p := range patterns[:len(patterns)-left] {
		if begin, whole := p.beginning(); whole {
			x.exact[begin] = append(x.exact[begin], i)
		} else {
			x.begin.insert(begin, i)
		}
	}
	left += x.begin.bound(patterns, 0)
	for path, rules := range x.exact {
		if more := len(rules) - maxSamePath; more > 0 {
			x.exact[path] = rules[:maxSamePath]
			left += more
		}
	}
	return x, left
}

// candidates returns the rules that may match the path, in their order.
func (x *ruleIndex) candidates(path string, into []int) []int {
	into = append(into, x.exact[path]...)
	if trimmed, slash := strings.CutSuffix(path, "/"); slash {
		into = append(into, x.exact[trimmed]...)
	}
	for node, rest := &x.begin, path; node != nil; {
		into = append(into, node.rules...)
		if rest == "" {
			break
		}
		if node = node.next[rest[0]]; node == nil || !strings.HasPrefix(rest, node.text) {
			break
		}
		rest = rest[len(node.text):]
	}
	slices.Sort(into)
	return into
}

func (n *prefixNode) insert(text string, rule int) {
	if text == "" {
		n.rules = append(n.rules, rule)
		return
	}
	child := n.next[text[0]]
	if child == nil {
		if n.next == nil {
			n.next = map[byte]*prefixNode{}
		}
		n.next[text[0]] = &prefixNode{text: text, rules: []int{rule}}
		return
	}
	shared := 0
	for shared < len(text) && shared < len(child.text) && text[shared] == child.text[shared] {
		shared++
	}
	if shared < len(child.text) { // part it
		upper := &prefixNode{text: child.text[:shared], next: map[byte]*prefixNode{child.text[shared]: child}}
		child.text = child.text[shared:]
		n.next[text[0]] = upper
		child = upper
	}
	child.insert(text[shared:], rule)
}

// bound leaves out the last rules of each node with which a path could have too many, and returns their number.
func (n *prefixNode) bound(patterns []pattern, above int) (left int) {
	kept := n.rules[:0]
	for _, rule := range n.rules {
		if weight := patterns[rule].weight(); above+weight <= maxCandidates-2*maxSamePath {
			above += weight
			kept = append(kept, rule)
		} else {
			left++
		}
	}
	n.rules = kept
	for _, child := range n.next {
		left += child.bound(patterns, above)
	}
	return left
}

// beginning returns the text that every path of the pattern begins with, and whether there is nothing else to it.
func (p pattern) beginning() (text string, whole bool) {
	if len(p.parts) == 0 {
		return "", !p.open
	}
	return p.parts[0].text, len(p.parts) == 1 && p.parts[0].text != "" && !p.open
}

func (p pattern) weight() int {
	if slices.ContainsFunc(p.parts, func(one part) bool { return one.star }) {
		return starWeight
	}
	return 1
}
