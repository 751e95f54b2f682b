package store

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"
)

// schemaNode is the part of JSON Schema that the schema of shipgate.yaml is made of.
type schemaNode struct {
	Type       any                   `json:"type"`
	Ref        string                `json:"$ref"`
	Properties map[string]schemaNode `json:"properties"`
	Additional json.RawMessage       `json:"additionalProperties"`
	Items      *schemaNode           `json:"items"`
	Enum       []string              `json:"enum"`
	Defs       map[string]schemaNode `json:"$defs"`
}

func TestSchemaHasTheKeysAndTypesOfTheFile(t *testing.T) {
	var root schemaNode
	check(t, json.Unmarshal(RepoFileSchema(), &root))
	compareSchema(t, root, root, reflect.TypeFor[RepoFile](), RepoFileName)
}

func compareSchema(t *testing.T, root, node schemaNode, of reflect.Type, where string) {
	t.Helper()
	if of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	var want any
	switch {
	case of == reflect.TypeFor[Duration]():
		want, node = "string", node.referenced(root, "duration")
	case of == reflect.TypeFor[Bytes]():
		want, node = []any{"integer", "string"}, node.referenced(root, "bytes")
	case of.Kind() == reflect.Struct:
		want = "object"
		compareFields(t, root, node, of, where)
	default:
		want = map[reflect.Kind]string{reflect.String: "string", reflect.Int: "integer", reflect.Int64: "integer", reflect.Float64: "number",
			reflect.Bool: "boolean", reflect.Slice: "array", reflect.Map: "object"}[of.Kind()]
	}
	if !reflect.DeepEqual(node.Type, want) {
		t.Errorf("%s has type %v in the schema, want %v", where, node.Type, want)
	}
	switch of.Kind() {
	case reflect.Slice:
		compareSchema(t, root, *node.Items, of.Elem(), where+"[]")
	case reflect.Map:
		var value schemaNode
		check(t, json.Unmarshal(node.Additional, &value))
		compareSchema(t, root, value, of.Elem(), where+"{}")
	}
}

func (n schemaNode) referenced(root schemaNode, name string) schemaNode {
	if n.Ref == "#/$defs/"+name {
		return root.Defs[name]
	}
	return n
}

func compareFields(t *testing.T, root, node schemaNode, of reflect.Type, where string) {
	t.Helper()
	if string(node.Additional) != "false" {
		t.Errorf("%s takes other keys in the schema", where)
	}
	var keys []string
	for i := range of.NumField() {
		key := keyOf(of.Field(i))
		keys = append(keys, key)
		compareSchema(t, root, node.Properties[key], of.Field(i).Type, where+"."+key)
	}
	slices.Sort(keys)
	if inSchema := slices.Sorted(maps.Keys(node.Properties)); !slices.Equal(inSchema, keys) {
		t.Errorf("%s has the keys %q in the schema, want %q", where, inSchema, keys)
	}
}

func TestSchemaNamesTheLegalStrategies(t *testing.T) {
	var root schemaNode
	check(t, json.Unmarshal(RepoFileSchema(), &root))
	if want := []string{string(Recreate), string(BlueGreen)}; !slices.Equal(root.Properties["strategy"].Enum, want) {
		t.Errorf("the schema has the strategies %q, want %q", root.Properties["strategy"].Enum, want)
	}
}

// judged says whether the schema takes a text.
func judged(t *testing.T, text string) error {
	t.Helper()
	compiler := jsonschema.NewCompiler()
	check(t, compiler.AddResource("shipgate.json", must[any](t)(jsonschema.UnmarshalJSON(bytes.NewReader(RepoFileSchema())))))
	schema := must[*jsonschema.Schema](t)(compiler.Compile("shipgate.json"))
	var value any
	check(t, yaml.Unmarshal([]byte(text), &value))
	encoded := must[[]byte](t)(json.Marshal(value))
	return schema.Validate(must[any](t)(jsonschema.UnmarshalJSON(bytes.NewReader(encoded))))
}

// What an editor marks by the schema is what a deployment refuses.
func TestSchemaJudgesAsTheServerDoes(t *testing.T) {
	for _, text := range []string{
		"{}", "port: 8080", "strategy: blue-green", "strategy: recreate", "release: ./migrate up", "health: {path: /up?full=1}",
		"health: {path: /, status: 204, successes: 3, timeout: 1m30s, host: a.example}", "stop: {signal: SIGINT, grace: 500ms}", "stop: {signal: \"9\"}",
		"resources: {memory: 512m, cpus: 0.5, pids: 100}", "resources: {memory: 1048576}", "resources: {memory: 2G}", "health: {path: /, timeout: 1.5s}",
		"build: {context: web, dockerfile: Dockerfile, target: prod, args: {A: b}}",
		"port: 0x50", "port: 70000", "port: -1", "port: high", "port: 1.5", "strategy: rolling", "strategy: [recreate]", "hosts: [a.example]",
		"volumes: []", "env: {A: b}", "health: {}", "health: {path: up}", "health: {path: /a b}", "health: {path: /, status: 99}", "health: {path: /, colour: red}",
		"health: {path: /, timeout: 30}", "health: {path: /, timeout: soon}", "health: {path: /, successes: 101}", "stop: {signal: end}", "stop: {grace: 10}", "stop: 1",
		"resources: {memory: much}", "resources: {memory: 1t}", "resources: {memory: 1.5g}", "resources: {memory: -1}", "resources: {cpus: -1}", "resources: {cpus: many}", "resources: {pids: 1.5}",
		"port: 1", "port: 65535", "port: 65536", "health: {path: /, status: 100, successes: 1}", "health: {path: /, status: 599, successes: 100}", "health: {path: /, status: 600}", "health: {path: /, successes: 0}",
		"port: 0", "release: ''", "strategy: ''", "build: {context: ''}", "build: {args: {}}", "health: {path: ''}", "health: {path: /, status: 0}", "health: {path: /, host: ''}",
		"resources: {cpus: 0}", "resources: {memory: 0}", "resources: {memory: 0m}", "resources: {pids: 0}", "stop: {signal: ''}", "build: {args: {A: ''}}", "resources: {memory: 010m}",
		"build: {args: {A: 1}}", "build: {args: [A]}", "build: {secrets: [A]}", "release: [a]", "build: []",
	} {
		file, err := DecodeRepoFile([]byte(text))
		if err == nil {
			_, _, err = file.Over(SourceDockerfile, nil)
		}
		if bySchema := judged(t, text); (bySchema == nil) != (err == nil) {
			t.Errorf("%s: the schema says %v, the server %v", text, bySchema, err)
		}
	}
	for _, text := range []string{"publish_dir: out\nspa: true\nclean_urls: false\nbuild: {image: node:22, command: make, output: out, cache: [/a]}", "build: {cache: [a], image: a, command: b, output: c}",
		"spa: very", "publish_dir: 1", "publish_dir: ''", "build: {cache: [], image: a, command: b, output: c}", "build: {cache: /a, image: a, command: b, output: c}"} {
		file, err := DecodeRepoFile([]byte(text))
		if err == nil {
			_, _, err = file.Over(SourceStatic, nil)
		}
		if bySchema := judged(t, text); (bySchema == nil) != (err == nil) {
			t.Errorf("%s: the schema says %v, the server %v", text, bySchema, err)
		}
	}
}

func TestSchemaCannotBeChangedByItsReader(t *testing.T) {
	RepoFileSchema()[0] = 'x'
	if !json.Valid(RepoFileSchema()) || !strings.Contains(string(RepoFileSchema()), "2020-12") {
		t.Error("the schema was changed from outside")
	}
}
