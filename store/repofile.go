package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
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
	Memory Bytes   `json:"memory,omitempty"`
	CPUs   float64 `json:"cpus,omitempty"`
	PIDs   int64   `json:"pids,omitempty"`
}

// RepoStop says how the process is asked to end.
type RepoStop struct {
	Signal string    `json:"signal,omitempty"`
	Grace  *Duration `json:"grace,omitempty"`
}

// DecodeRepoFile reads a shipgate.yaml. Unknown and repeated keys, anchors and more than 64 KiB are refused. Every error is
// a failed Problem that says the line.
func DecodeRepoFile(text []byte) (*RepoFile, error) {
	if len(text) > maxRepoFile {
		return nil, refusedRepoFile(fmt.Errorf("it has %d bytes, and may have %d", len(text), maxRepoFile))
	}
	var documents []yaml.Node
	if err := yaml.Load(text, &documents, yaml.WithAllDocuments()); err != nil {
		return nil, refusedRepoFile(err)
	}
	file := &RepoFile{}
	switch {
	case len(documents) > 1:
		return nil, refusedRepoFile(errors.New("there is more than one YAML document"))
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
		return nil, refusedRepoFile(err)
	}
	return file, nil
}

func refusedRepoFile(err error) *Problem {
	return Problemf(CodeFailed, "%s: %w", RepoFileName, err).WithHint("correct it, and then: git commit %s", RepoFileName)
}

// plainYAML refuses what makes a small file mean a large one, and keys that are said twice.
func plainYAML(node *yaml.Node) error {
	if node.Anchor != "" { // without one there are no aliases
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
	if err == nil && isEmpty(into) {
		err = errors.New("it is empty, which says nothing: leave it out")
	}
	if err != nil {
		return fmt.Errorf("line %d: %s: %w", node.Line, strings.TrimSuffix(where, "."), err)
	}
	return nil
}

// isEmpty says of a value that it could not be told from one that is not there. No is an answer, though.
func isEmpty(value reflect.Value) bool {
	if value.Type() == reflect.TypeFor[Duration]() {
		return false // no time at all is a duration
	}
	switch value.Kind() {
	case reflect.Map, reflect.Slice:
		return value.Len() == 0
	case reflect.Bool:
		return false
	}
	return value.IsZero()
}

func fieldOf(object reflect.Value, key string) (field reflect.Value, names []string) {
	for i := range object.NumField() {
		name := keyOf(object.Type().Field(i))
		if name == key {
			return object.Field(i), nil
		}
		names = append(names, name)
	}
	return reflect.Value{}, names
}

func keyOf(field reflect.StructField) string {
	name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
	return name
}

// Over gives an app's config with what the file says in place of what the blob says, decoded and as a blob. What the
// source has no use for, and what makes no sense together, is a failed Problem that names the key.
func (f *RepoFile) Over(source Source, blob []byte) (config Config, merged []byte, err error) {
	if _, err = f.config(source); err != nil {
		return nil, nil, refusedRepoFile(err)
	}
	f, _ = f.Limited(blob)
	if config, merged, err = f.over(source, blob); err == nil {
		return config, merged, nil
	}
	if _, _, own := new(RepoFile).over(source, blob); own != nil { // it is not the file's doing
		return nil, nil, Problemf(CodeUsage, "%w", own)
	}
	return nil, nil, refusedRepoFile(f.named(source, blob, err))
}

func (f *RepoFile) over(source Source, blob []byte) (config Config, merged []byte, err error) {
	all := map[string]any{}
	if len(bytes.TrimSpace(blob)) > 0 {
		err = json.Unmarshal(blob, &all)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s config: %w", source, err)
	}
	said, err := f.config(source)
	if err != nil {
		return nil, nil, err
	}
	if all == nil { // the blob is null
		all = said
	}
	overlay(all, said)
	if merged, err = json.Marshal(all); err != nil {
		return nil, nil, fmt.Errorf("write as config: %w", err)
	}
	config, err = DecodeConfig(source, merged)
	return config, merged, err
}

// named finds the key that is refused although it stands alone.
func (f *RepoFile) named(source Source, blob []byte, refusal error) error {
	whole := reflect.ValueOf(f).Elem()
	for i := range whole.NumField() {
		alone := &RepoFile{}
		reflect.ValueOf(alone).Elem().Field(i).Set(whole.Field(i))
		if _, _, err := alone.over(source, blob); err != nil {
			return fmt.Errorf("%s: %w", keyOf(whole.Type().Field(i)), err)
		}
	}
	return refusal
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

// keysOfSources are the keys that not every source has a use for.
var keysOfSources = map[string][]Source{
	"build": {SourceDockerfile, SourceStatic}, "publish_dir": {SourceStatic}, "spa": {SourceStatic}, "clean_urls": {SourceStatic},
	"build.context": {SourceDockerfile}, "build.dockerfile": {SourceDockerfile}, "build.target": {SourceDockerfile}, "build.args": {SourceDockerfile},
	"build.image": {SourceStatic}, "build.command": {SourceStatic}, "build.output": {SourceStatic}, "build.cache": {SourceStatic},
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
	if err := checkUse(said, source, ""); err != nil {
		return nil, err
	}
	rename(said, said, "health", "healthcheck")
	rename(said, said, "strategy", "deploy_strategy")
	if stop, ok := said["stop"].(map[string]any); ok {
		delete(said, "stop")
		rename(said, stop, "signal", "stop_signal")
		rename(said, stop, "grace", "stop_grace")
	}
	if build, ok := said["build"].(map[string]any); ok && source == SourceDockerfile {
		delete(said, "build")
		rename(build, build, "args", "build_args")
		maps.Copy(said, build)
	}
	return said, nil
}

// checkUse refuses keys that the source has no use for.
func checkUse(said map[string]any, source Source, where string) error {
	for _, key := range slices.Sorted(maps.Keys(said)) {
		if of, limited := keysOfSources[where+key]; limited && !slices.Contains(of, source) {
			return fmt.Errorf("%s%s is of no use to source %s", where, key, source)
		}
		if inner, ok := said[key].(map[string]any); ok && where == "" {
			if err := checkUse(inner, source, key+"."); err != nil {
				return err
			}
		}
	}
	return nil
}

func rename(into, from map[string]any, old, name string) {
	if value, ok := from[old]; ok {
		delete(from, old)
		into[name] = value
	}
}
