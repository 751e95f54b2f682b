package builder

import (
	"bytes"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/util/gitutil"

	"github.com/shipgate/shipgate/store"
)

// checkAdded refuses ADD over SSH before the frontend sees it. The frontend asks such a host for its key from this process and without a
// deadline, before any step is solved; and a build has no key to fetch anything with.
func (i *imageBuild) checkAdded(definition []byte) error {
	parsed, err := parser.Parse(bytes.NewReader(definition))
	if err != nil {
		return nil // the frontend says what is wrong
	}
	stages, _, err := instructions.Parse(parsed.AST, nil)
	if err != nil {
		return nil
	}
	for _, stage := range stages {
		for _, command := range stage.Commands {
			add, isAdd := command.(*instructions.AddCommand)
			if !isAdd {
				continue
			}
			for _, source := range add.SourcePaths {
				if isSSH(source) {
					return store.Problemf(store.CodeFailed, "%sADD %s: a build has no SSH key", i.lineOf(source), source).WithHint("name the repository by https://")
				}
			}
		}
	}
	return nil
}

// isSSH reports whether an ADD source is a git repository over SSH, as far as it is written out.
func isSSH(source string) bool {
	lower := strings.ToLower(source)
	if strings.HasPrefix(lower, "http://") || strings.HasPrefix(lower, "https://") {
		return false
	}
	remote, err := gitutil.ParseURL(source)
	return strings.HasPrefix(lower, "ssh:") || err == nil && remote.Scheme == gitutil.SSHProtocol || strings.Contains(source, "@") && strings.Contains(source, ":")
}
