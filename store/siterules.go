package store

import (
	"slices"
	"strings"
)

// The rules of a site cost every request to it. For any path rules of at most MaxRuleWeight are looked at, of which MaxSamePath are for
// those of one path without placeholders, with and without a slash at its end. See RulePattern.Weight. The builder refuses a site
// with rules that are left out here; sites of earlier versions are served without these.
const (
	MaxRules       = 10_000
	MaxRuleWeight  = 500
	MaxSamePath    = 50
	ruleStarWeight = 200 // of each part behind the first star, where that may be tried at each place of the path
	rulePieces     = 4   // parts
	ruleText       = 128 // bytes
)

// RuleIndex finds the rules that may match a path: by the whole path, or by the text that their pattern begins with.
type RuleIndex struct {
	exact map[string][]int
	begin rulePrefix
}

// rulePrefix is a node of a radix tree: the rules whose beginning ends here, and where it goes on.
type rulePrefix struct {
	text  string
	rules []int
	next  map[byte]*rulePrefix
}

// NewRuleIndex indexes the patterns and returns those that are left out because there are too many, in their order.
func NewRuleIndex(patterns []RulePattern, weights []int) (x RuleIndex, left []int) {
	x.exact = map[string][]int{}
	for i, p := range patterns {
		if i >= MaxRules {
			left = append(left, i)
			continue
		}
		if begin, whole := p.beginning(); whole {
			x.exact[begin] = append(x.exact[begin], i)
		} else {
			x.begin.insert(begin, i)
		}
	}
	left = append(left, x.begin.bound(weights, 0)...)
	for path, rules := range x.exact {
		kept, more := lightest(rules, weights, MaxSamePath)
		x.exact[path] = kept
		left = append(left, more...)
	}
	slices.Sort(left)
	return x, left
}

// lightest parts rules, in their order, into those whose weights fit into a budget and those that do not.
func lightest(rules, weights []int, budget int) (kept, left []int) {
	for _, rule := range rules {
		if weights[rule] > budget {
			left = append(left, rule)
			continue
		}
		budget -= weights[rule]
		kept = append(kept, rule)
	}
	return kept, left
}

// Candidates returns the rules that may match the path, in their order.
func (x *RuleIndex) Candidates(path string, into []int) []int {
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

func (n *rulePrefix) insert(text string, rule int) {
	if text == "" {
		n.rules = append(n.rules, rule)
		return
	}
	child := n.next[text[0]]
	if child == nil {
		if n.next == nil {
			n.next = map[byte]*rulePrefix{}
		}
		n.next[text[0]] = &rulePrefix{text: text, rules: []int{rule}}
		return
	}
	shared := 0
	for shared < len(text) && shared < len(child.text) && text[shared] == child.text[shared] {
		shared++
	}
	if shared < len(child.text) { // part it
		upper := &rulePrefix{text: child.text[:shared], next: map[byte]*rulePrefix{child.text[shared]: child}}
		child.text = child.text[shared:]
		n.next[text[0]] = upper
		child = upper
	}
	child.insert(text[shared:], rule)
}

// bound leaves out the last rules of each node with which a path could have too many, and returns them.
func (n *rulePrefix) bound(weights []int, above int) (left []int) {
	n.rules, left = lightest(n.rules, weights, MaxRuleWeight-2*MaxSamePath-above)
	for _, rule := range n.rules {
		above += weights[rule]
	}
	for _, child := range n.next {
		left = append(left, child.bound(weights, above)...)
	}
	return left
}
