package gitserver

import (
	"bytes"
	"errors"
	"io"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/pktline"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
)

// command asks for one ref to move. A zero old value creates it, a zero new value deletes it.
type command struct {
	name     string
	old, new plumbing.Hash
}

func (c command) deletes() bool { return c.new.IsZero() }

// pushRequest is what a client says in front of the pack. The format is that of git's gitprotocol-pack(5).
type pushRequest struct {
	commands     []command
	shallow      []plumbing.Hash
	options      []string
	capabilities *capability.List
}

// errProbe is an empty request, which git sends to learn whether a large one would be authorised.
var errProbe = errors.New("the request is a probe")

const (
	maxCommandBytes = 4 << 20
	maxRefName      = 500
)

// decodeRequest reads up to the pack and not a byte further.
func decodeRequest(r io.Reader, limits Limits) (*pushRequest, error) {
	bounded := &io.LimitedReader{R: r, N: maxCommandBytes}
	request := &pushRequest{capabilities: capability.NewList()}
	err := request.decode(pktline.NewScanner(bounded), limits)
	if err != nil && bounded.N <= 0 {
		return nil, refusal("the list of refs is longer than %d bytes", maxCommandBytes)
	}
	if err != nil {
		return nil, err
	}
	return request, nil
}

func (p *pushRequest) decode(lines *pktline.Scanner, limits Limits) error {
	for first := true; ; first = false {
		line, flush, err := nextLine(lines)
		if err != nil {
			return err
		}
		if flush && first {
			return errProbe
		}
		if flush {
			break
		}
		if err := p.line(line); err != nil {
			return err
		}
		if len(p.commands) > limits.Commands || len(p.shallow) > limits.Commands {
			return refusal("the push has more than %d refs", limits.Commands).WithHint("push them in several steps")
		}
	}
	if p.capabilities.Supports(capability.PushOptions) {
		return p.readOptions(lines)
	}
	return nil
}

func nextLine(lines *pktline.Scanner) (line []byte, flush bool, err error) {
	if !lines.Scan() {
		if err := lines.Err(); err != nil {
			return nil, false, refusal("the request is not understood: %w", err)
		}
		return nil, false, refusal("the request ends too early")
	}
	return lines.Bytes(), len(lines.Bytes()) == 0, nil
}

func (p *pushRequest) line(line []byte) error {
	line, capabilities, found := bytes.Cut(line, []byte{0})
	if found {
		if err := p.capabilities.Decode(bytes.TrimSpace(capabilities)); err != nil {
			return refusal("the request is not understood: %w", err)
		}
	}
	text := strings.TrimSuffix(string(line), "\n")
	if id, ok := strings.CutPrefix(text, "shallow "); ok && plumbing.IsHash(id) {
		p.shallow = append(p.shallow, plumbing.NewHash(id))
		return nil
	}
	fields := strings.SplitN(text, " ", 3)
	if len(fields) != 3 || !plumbing.IsHash(fields[0]) || !plumbing.IsHash(fields[1]) || fields[2] == "" {
		return refusal("the request is not understood: %.100q", text)
	}
	p.commands = append(p.commands, command{
		name: fields[2], old: plumbing.NewHash(fields[0]), new: plumbing.NewHash(fields[1]),
	})
	return nil
}

func (p *pushRequest) readOptions(lines *pktline.Scanner) error {
	for {
		line, flush, err := nextLine(lines)
		if err != nil || flush {
			return err
		}
		if len(p.options) == 100 {
			return refusal("the push has more than 100 options")
		}
		p.options = append(p.options, strings.TrimSuffix(string(line), "\n"))
	}
}

// hasPack says whether a pack follows: it does unless every ref is deleted.
func (p *pushRequest) hasPack() bool {
	for _, c := range p.commands {
		if !c.deletes() {
			return true
		}
	}
	return false
}

// checkName says why a ref may not be pushed to.
func checkName(name string) error {
	if strings.HasPrefix(name, hiddenRefs) {
		return refusal("%s is kept by the server", strings.TrimSuffix(hiddenRefs, "/"))
	}
	if len(name) > maxRefName {
		return refusal("the name of the ref is longer than %d bytes", maxRefName)
	}
	if err := plumbing.ReferenceName(name).Validate(); err != nil {
		return refusal("%.100q is not a ref name", name)
	}
	for part := range strings.SplitSeq(name, "/") {
		if len(part) > 200 {
			return refusal("a part of the name of the ref is longer than 200 bytes")
		}
	}
	for _, kept := range []string{"refs/heads/", "refs/tags/", "refs/notes/"} {
		if strings.HasPrefix(name, kept) {
			return nil
		}
	}
	return refusal("only refs/heads, refs/tags and refs/notes are kept here")
}

// shortName is a ref as people read it.
func shortName(name string) string { return plumbing.ReferenceName(name).Short() }
