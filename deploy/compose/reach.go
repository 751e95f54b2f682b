package compose

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/shipgate/shipgate/store"
)

const mostFiles = 50 // compose files that one stack may be made of

// reach follows what the compose file includes and extends before compose-go reads any of it: that reads whatever it is
// told to. It gives the lines of the compose file.
func (m *Model) reach(file string) (*lines, error) {
	if err := m.sealed(); err != nil {
		return nil, err
	}
	if m.trusted {
		return &lines{}, nil
	}
	seen := map[visit]bool{}
	return m.follow(visit{file, filepath.Dir(file)}, seen)
}

// visit is a compose file, and the folder that its paths begin at.
type visit struct{ file, base string }

func (m *Model) follow(v visit, seen map[visit]bool) (*lines, error) {
	if seen[v] {
		return nil, nil
	}
	if seen[v] = true; len(seen) > mostFiles {
		return nil, m.problem("the compose file is made of more than %d files", mostFiles)
	}
	content, err := m.readFile(v.file)
	if err != nil {
		return nil, err
	}
	found := &lines{}
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	for {
		var document yaml.Node
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, m.problem("%s is not YAML: %s", m.short(v.file), err)
		}
		if node := disguised(&document); node != nil {
			return nil, m.refused("%s:%d: a key that is no text, or a tag that Compose does not know: %s", m.short(v.file), node.Line,
				strings.TrimSpace(node.Tag+" "+node.Value))
		}
		var decoded any
		if err := document.Decode(&decoded); err != nil {
			return nil, m.problem("%s is not YAML: %s", m.short(v.file), err)
		}
		found.documents = append(found.documents, &document)
		next, err := m.references(v, decoded)
		if err != nil {
			return nil, err
		}
		for _, to := range next {
			if _, err := m.follow(to, seen); err != nil {
				return nil, err
			}
		}
	}
}

// plainTags are those of YAML's own values, and those that Compose knows:
// https://github.com/compose-spec/compose-spec/blob/main/13-merge.md
var plainTags = strings.Fields("!!str !!int !!float !!bool !!null !!map !!seq !!timestamp !!merge !reset !override")

// disguised finds what compose-go could read in another way than we do: a key that is no text, or a tag of somebody's own.
func disguised(node *yaml.Node) *yaml.Node {
	for i, inner := range node.Content {
		if key := node.Kind == yaml.MappingNode && i%2 == 0; key && (inner.Kind != yaml.ScalarNode || (inner.ShortTag() != "!!str" && inner.ShortTag() != "!!merge")) {
			return inner
		}
		if inner.Kind != yaml.AliasNode && !slices.Contains(plainTags, inner.ShortTag()) {
			return inner
		}
		if found := disguised(inner); found != nil {
			return found
		}
	}
	return nil
}

func (m *Model) readFile(file string) ([]byte, error) {
	if !m.inside(file) {
		return nil, m.refused("a file that is included or extended, %s, leaves the repository", file)
	}
	info, err := os.Stat(file)
	if err != nil || !info.Mode().IsRegular() {
		return nil, m.problem("%s, which is included or extended, is not in the commit", m.short(file))
	}
	if info.Size() > largestFile {
		return nil, m.problem("%s is larger than %d bytes", m.short(file), largestFile)
	}
	return os.ReadFile(file)
}

// references gives the files that a document includes at its top, and those that anything in it extends.
func (m *Model) references(v visit, document any) (found []visit, err error) {
	top, _ := document.(map[string]any)
	for _, include := range list(top["include"]) {
		paths := list(include)
		if said, ok := include.(map[string]any); ok {
			for _, field := range []string{"env_file", "project_directory"} {
				if said[field] != nil {
					return nil, m.refused("%s: include has %s: set variables with shipgate env %s set, and name files from their own folder",
						m.short(v.file), field, m.app)
				}
			}
			paths = list(said["path"])
		}
		base := ""
		for _, path := range paths {
			name, err := m.reference(v, path)
			if err != nil {
				return nil, err
			}
			if base == "" { // the first file's folder is where the paths of all begin
				base = filepath.Dir(name)
			}
			found = append(found, visit{name, base})
		}
	}
	var extended []any
	extendedIn(document, &extended)
	for _, path := range extended {
		name, err := m.reference(v, path)
		if err != nil {
			return nil, err
		}
		found = append(found, visit{name, filepath.Dir(name)})
	}
	return found, nil
}

func (m *Model) reference(v visit, path any) (string, error) {
	name, ok := path.(string)
	if !ok {
		return "", m.problem("%s: an include or extends is not the name of a file", m.short(v.file))
	}
	switch {
	case strings.ContainsRune(name, '$'):
		return "", m.refused("%s: %s has a variable in the name of a file to include or extend", m.short(v.file), name)
	case filepath.IsAbs(name) || strings.Contains(name, "://") || strings.HasPrefix(name, "~"):
		return "", m.refused("%s: the file to include or extend, %s, is outside of the repository", m.short(v.file), name)
	}
	return filepath.Join(v.base, name), nil
}

// extendedIn collects the file of every extends, wherever it stands: a wider net than compose-go's.
func extendedIn(value any, found *[]any) {
	switch value := value.(type) {
	case map[string]any:
		if extends, ok := value["extends"].(map[string]any); ok && extends["file"] != nil {
			*found = append(*found, extends["file"])
		}
		for _, inner := range value {
			extendedIn(inner, found)
		}
	case []any:
		for _, inner := range value {
			extendedIn(inner, found)
		}
	}
}

func list(value any) []any {
	switch value := value.(type) {
	case nil:
		return nil
	case []any:
		return value
	}
	return []any{value}
}

// lines knows where things stand in the compose file.
type lines struct{ documents []*yaml.Node }

// of gives the line of a service's field, of the service where the field was merged in from elsewhere, or 0.
func (l *lines) of(path ...string) (line int) {
	if l == nil {
		return 0
	}
	for _, document := range l.documents {
		at := document
		if at.Kind == yaml.DocumentNode && len(at.Content) > 0 {
			at = at.Content[0]
		}
		for _, key := range path {
			next := child(at, key)
			if next == nil {
				break
			}
			line, at = next.Line, next.value
		}
	}
	return line
}

type entry struct {
	*yaml.Node
	value *yaml.Node
}

func child(mapping *yaml.Node, key string) *entry {
	if mapping.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return &entry{mapping.Content[i], mapping.Content[i+1]}
		}
	}
	return nil
}

// refused is a Problem that goes away when the operator trusts the repository.
func (m *Model) refused(format string, args ...any) *store.Problem {
	return store.Problemf(store.CodeFailed, format, args...).
		WithHint("leave it out, or, if you trust the repository with this host: shipgate app update %s --trusted", m.app)
}

// sealed refuses a checkout that has a symlink to the outside.
func (m *Model) sealed() error {
	return filepath.WalkDir(m.root, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.Type()&os.ModeSymlink != 0 && !m.inside(path) {
			return m.problem("the symlink %s leaves the repository", m.short(path)).WithHint("git rm %s", m.short(path))
		}
		return nil
	})
}
