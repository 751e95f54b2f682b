package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v4"
)

// RepoFileName is the file in a commit that may say how to build and run it.
const RepoFileName = "shipgate.yaml"

const maxRepoFile = 64 << 10 // bytes

// RepoFile is what a commit says of its own build and run. It never has hosts, secrets, trust or volumes: who may push is
// not who may give these away.
type RepoFile struct {
	Build     *RepoBuild     `json:"build,omitempty"`
	Health    *Healthcheck   `json:"health,omitempty"`
	Strategy  string         `json:"strategy,omitempty"`
	Port      int            `json:"port,omitempty"`
	Resources *RepoResources `json:"resources,omitempty"`
	Release   string         `json:"release,omitempty"`
	Stop      *RepoStop      `json:"stop,omitempty"`

	PublishDir string `json:"publish_dir,omitempty"` // source static, as the next two
	SPA        *bool  `json:"spa,omitempty"`
	CleanURLs  *bool  `json:"clean_urls,omitempty"`
}

// RepoBuild says how the commit is built: the first four for source dockerfile, the others for source static.
type RepoBuild struct {
	Context    string            `json:"context,omitempty"`
	Dockerfile string            `json:"dockerfile,omitempty"`
	Target     string            `json:"target,omitempty"`
	Args       map[string]string `json:"args,omitempty"`

	Image   string   `json:"image,omitempty"`
	Command string   `json:"command,omitempty"`
	Output  string   `json:"output,omitempty"`
	Cache   []string `json:"cache,omitempty"`
}

// RepoResources limits the container. What is left out is as the app's config says.
type RepoResources struct {
	Memory json.RawMessage `json:"memory,omitempty"` // as Bytes are written
	CPUs   float64         `json:"cpus,omitempty"`
	PIDs   int64           `json:"pids,omitempty"`
}

// RepoStop says how the process is asked to end.
type RepoStop struct {
	Signal string   `json:"signal,omitempty"`
	Grace  Duration `json:"grace,omitempty"`
}

// DecodeRepoFile reads a shipgate.yaml. Unknown and repeated keys, anchors and more than 64 KiB are refused. Every error is
// a failed Problem that says the line.
func DecodeRepoFile(text []byte) (*RepoFile, error) {
	if len(text) > maxRepoFile {
		return nil, Problemf(CodeFailed, "%s has %d bytes: it may have %d", RepoFileName, len(text), maxRepoFile)
	}
	var documents []yaml.Node
	if err := yaml.Load(text, &documents, yaml.WithAllDocuments()); err != nil {
		return nil, Problemf(CodeFailed, "%s: %w", RepoFileName, err)
	}
	file := &RepoFile{}
	switch {
	case len(documents) > 1:
		return nil, Problemf(CodeFailed, "%s has more than one YAML document", RepoFileName)
	case len(documents) == 0 || len(documents[0].Content) == 0:
		return file, nil
	}
	top := documents[0].Content[0]
	if top.Kind == yaml.ScalarNode && top.Tag == "!!null" {
		return file, nil
	}
	err := plainYAML(top)
	if err == nil {
		err = readNode(top, reflect.ValueOf(file).Elem(), "")
	}
	if err != nil {
		return nil, Problemf(CodeFailed, "%s: %w", RepoFileName, err)
	}
	return file, nil
}

// plainYAML refuses what makes a small file mean a large one, and keys that are said twice.
func plainYAML(node *yaml.Node) error {
	if node.Kind == yaml.AliasNode || node.Anchor != "" {
		return fmt.Errorf("line %d: anchors and aliases are not read here", node.Line)
	}
	said := map[string]bool{}
	for i, child := range node.Content {
		if node.Kind == yaml.MappingNode && i%2 == 0 {
			if said[child.Value] {
				return fmt.Errorf("line %d: %q is there twice", child.Line, child.Value)
			}
			said[child.Value] = true
		}
		if err := plainYAML(child); err != nil {
			return err
		}
	}
	return nil
}

// readNode fills a struct key by key, so that what is wrong is told with its line; any other value is read as JSON has it.
func readNode(node *yaml.Node, into reflect.Value, where string) error {
	if into.Kind() == reflect.Pointer {
		into.Set(reflect.New(into.Type().Elem()))
		into = into.Elem()
	}
	if into.Kind() != reflect.Struct {
		return readValue(node, into, where)
	}
	if node.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: %s is to be keys and values", node.Line, strings.TrimSuffix("the file"+where, "."))
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		field, names := fieldOf(into, key.Value)
		if !field.IsValid() {
			return fmt.Errorf("line %d: %s%s is not a key of %s: use %s", key.Line, where, key.Value, RepoFileName, strings.Join(names, ", "))
		}
		if err := readNode(value, field, where+key.Value+"."); err != nil {
			return err
		}
	}
	return nil
}

func readValue(node *yaml.Node, into reflect.Value, where string) error {
	var value any
	err := node.Decode(&value)
	var text []byte
	if err == nil && value == nil {
		err = errors.New("it has no value")
	}
	if err == nil {
		text, err = json.Marshal(value)
	}
	if err == nil {
		err = json.Unmarshal(text, into.Addr().Interface())
	}
	if err != nil {
		return fmt.Errorf("line %d: %s: %w", node.Line, strings.TrimSuffix(where, "."), err)
	}
	return nil
}

func fieldOf(object reflect.Value, key string) (field reflect.Value, names []string) {
	for i := range object.NumField() {
		name, _, _ := strings.Cut(object.Type().Field(i).Tag.Get("json"), ",")
		if name == key {
			return object.Field(i), nil
		}
		names = append(names, name)
	}
	return reflect.Value{}, names
}

// Over gives an app's config with what the file says in place of what the blob says, decoded and as a blob. What the
// source has no use for, and what makes no sense together, is a failed Problem.
func (f *RepoFile) Over(source Source, blob []byte) (config Config, merged []byte, err error) {
	all := map[string]any{}
	if len(bytes.TrimSpace(blob)) > 0 {
		if err := json.Unmarshal(blob, &all); err != nil {
			return nil, nil, Problemf(CodeUsage, "%s config: %w", source, err)
		}
		if all == nil {
			all = map[string]any{}
		}
	}
	said, err := f.config(source)
	if err == nil {
		overlay(all, said)
		merged, err = json.Marshal(all)
	}
	if err == nil {
		config, err = DecodeConfig(source, merged)
	}
	if err != nil {
		return nil, nil, Problemf(CodeFailed, "%s: %w", RepoFileName, err).WithHint("git show HEAD:%s", RepoFileName)
	}
	return config, merged, nil
}

// overlay sets keys, and those inside build and resources one by one; a healthcheck is said as a whole.
func overlay(all, said map[string]any) {
	for key, value := range said {
		inner, isObject := value.(map[string]any)
		before, wasObject := all[key].(map[string]any)
		if isObject && wasObject && key != "healthcheck" {
			overlay(before, inner)
			continue
		}
		all[key] = value
	}
}

// config writes the file in the names of the source's config.
func (f *RepoFile) config(source Source) (map[string]any, error) {
	text, err := json.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("write as config: %w", err)
	}
	said := map[string]any{}
	if err := json.Unmarshal(text, &said); err != nil {
		return nil, fmt.Errorf("read as config: %w", err)
	}
	rename(said, said, "health", "healthcheck")
	rename(said, said, "strategy", "deploy_strategy")
	if stop, ok := said["stop"].(map[string]any); ok {
		delete(said, "stop")
		rename(said, stop, "signal", "stop_signal")
		rename(said, stop, "grace", "stop_grace")
	}
	build, builds := said["build"].(map[string]any)
	if source == SourceDockerfile && builds {
		delete(said, "build")
		rename(build, build, "args", "build_args")
		for key, value := range build {
			if key == "image" || key == "command" || key == "output" || key == "cache" {
				return nil, fmt.Errorf("build.%s belongs to source static", key)
			}
			said[key] = value
		}
	}
	return said, nil
}

func rename(into, from map[string]any, old, name string) {
	if value, ok := from[old]; ok {
		delete(from, old)
		into[name] = value
	}
}
