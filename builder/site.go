package builder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/docker/go-units"

	"github.com/shipgate/shipgate/store"
)

const maxSiteFiles = 1_000_000 // and directories; symlinks to directories can unfold to any number

// siteFile is one file of a site: a path in the site and the file of the commit that stands there.
type siteFile struct {
	path string
	node *node
}

// siteBuild collects what a site publishes.
type siteBuild struct {
	tree    *tree
	log     *lineLog
	files   []siteFile
	rules   rules
	left    int     // files and directories that may still be met
	hidden  int     // dotfiles left out
	above   []*node // the directories that the walk is in
	refused error   // what makes the site impossible
}

func (b *Builder) buildSite(ctx context.Context, request store.BuildRequest, files material, log func(string)) (store.Artefact, error) {
	build := &siteBuild{log: newLineLog(log, nil), left: maxSiteFiles}
	if err := build.collect(files); err != nil {
		return store.Artefact{}, err
	}
	made, err := b.sites.publish(ctx, request, build)
	if err != nil {
		return store.Artefact{}, diskProblem(b.sites.dir, err)
	}
	build.log.say("%d files, %s; %d new, %s", len(build.files), size(made.total), made.fresh, size(made.written))
	return store.Artefact{Site: path.Join("releases", request.App, strconv.FormatInt(request.Deployment, 10))}, nil
}

func size(bytes int64) string {
	return units.CustomSize("%.4g %s", float64(bytes), 1024, []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"})
}

// collect finds the files to publish.
func (s *siteBuild) collect(files material) error {
	var err error
	if s.tree, err = newTree(files); err != nil {
		return err
	}
	root, err := s.tree.resolve(files.directory)
	if err != nil || !root.isDirectory() {
		return store.Problemf(store.CodeFailed, "%s is not a directory of the commit", files.name).WithHint("%s", files.hint)
	}
	if s.walk(root, ""); s.refused != nil {
		return s.refused
	}
	if err := s.takeRules(); err != nil {
		return err
	}
	if len(s.files) == 0 && len(s.rules.Redirects) == 0 {
		return store.Problemf(store.CodeFailed, "%s has no files to publish", files.name).WithHint("%s", files.hint)
	}
	if s.hidden > 0 {
		s.log.say("%d dotfiles are left out", s.hidden)
	}
	if index := root.child("index.html"); index == nil {
		s.log.say("there is no index.html in %s: / will answer 404", files.name)
	}
	return nil
}

// takeRules reads the files of rules at the site's root. They are not published themselves.
func (s *siteBuild) takeRules() error {
	var published []siteFile
	for _, f := range s.files {
		if f.path != headersFile && f.path != redirectsFile {
			published = append(published, f)
			continue
		}
		if f.node.Size > maxRuleFile {
			return store.Problemf(store.CodeFailed, "%s has %s, and %s are possible", f.path, size(f.node.Size), size(maxRuleFile)).
				WithHint("remove or join rules; docs/limits.md lists the limits")
		}
		text, err := s.tree.read(f.node, maxRuleFile)
		if err != nil {
			return err
		}
		if f.path == headersFile {
			if line := passwordLine(text); line > 0 {
				return store.Problemf(store.CodeFailed, "%s:%d: Basic-Auth is not possible here, and without it all could read what it protects", headersFile, line).
					WithHint("leave the line out, or let an app of the source dockerfile ask for the password")
			}
			s.rules.Headers, err = parseHeaders(text, s.log.say)
		} else {
			s.rules.Redirects, err = parseRedirects(text, s.log.say)
		}
		if err != nil {
			return err
		}
	}
	s.files = published
	if n, m := len(s.rules.Headers), len(s.rules.Redirects); n+m > 0 {
		s.log.say("%d header rules, %d redirects", n, m)
	}
	return nil
}

func (s *siteBuild) walk(directory *node, prefix string) {
	s.above = append(s.above, directory)
	defer func() { s.above = s.above[:len(s.above)-1] }()
	for _, child := range directory.children {
		// Only the root's .well-known is public by its purpose (RFC 8615).
		if strings.HasPrefix(child.name(), ".") && prefix+child.name() != ".well-known" {
			s.hidden++
			continue
		}
		if s.add(child, prefix+child.name()); s.refused != nil {
			return
		}
	}
}

func (s *siteBuild) add(n *node, at string) {
	target := n
	if n.Mode == store.ModeSymlink {
		var err error
		if target, err = s.tree.resolve(n.Path); err != nil {
			s.log.say("symlink %s is left out: %v", n.Path, err)
			return
		}
	}
	s.left--
	switch {
	case s.left < 0:
		s.refused = store.Problemf(store.CodeFailed, "the site has more than %d files and directories", maxSiteFiles).
			WithHint("look for symlinks to directories that multiply each other: git ls-files --stage | grep ^120000")
	case target.Mode == store.ModeSubmodule:
		s.refused = submoduleProblem(target.Path)
	case target.isDirectory():
		for _, above := range s.above {
			if above == target {
				s.log.say("symlink %s is left out: %v", n.Path, errLoop)
				return
			}
		}
		s.walk(target, at+"/")
	default:
		s.files = append(s.files, siteFile{at, target})
	}
}

// diskProblem makes a full disk a Problem.
func diskProblem(dir string, err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return store.Problemf(store.CodeErrored, "no space is left on the disk of %s", dir).WithHint("df -h %s", dir)
	}
	return err
}

// sweep removes what builds that died left behind. It is done once, before the first build of the process.
func (s *siteStore) sweep() error {
	s.sweeping.Do(func() {
		if err := os.RemoveAll(s.temporary()); err != nil {
			s.sweepError = fmt.Errorf("sweep dead builds: %w", err)
		}
	})
	return s.sweepError
}

func (s *siteStore) temporary() string { return filepath.Join(s.dir, "tmp") }
