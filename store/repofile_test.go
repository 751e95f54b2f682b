package store

import (
	"strings"
	"testing"
)

func TestRepoFileWinsOverTheConfig(t *testing.T) {
	for _, c := range []struct {
		name, text, blob, want string
		source                 Source
	}{
		{"nothing said", "# only a remark\n", `{"port":80}`, `{"port":80}`, SourceDockerfile},
		{"empty file", "", ``, `{}`, SourceDockerfile},
		{"null said", "null\n", `{"port":80}`, `{"port":80}`, SourceDockerfile},
		{"over null", "port: 1", `null`, `{"port":1}`, SourceDockerfile},
		{"image", "port: 9000\nstrategy: recreate\nrelease: ./migrate up\nhealth:\n  path: /up\nstop:\n  signal: SIGINT\n  grace: 5s\n",
			`{"image":"a:1","port":80,"deploy_strategy":"blue-green","healthcheck":{"path":"/old","status":204}}`,
			`{"deploy_strategy":"recreate","healthcheck":{"path":"/up"},"image":"a:1","port":9000,"release":"./migrate up","stop_grace":"5s","stop_signal":"SIGINT"}`, SourceImage},
		{"no grace", "stop: {grace: 0s}\n", `{"image":"a:1","stop_grace":"5s"}`, `{"image":"a:1","stop_grace":"0s"}`, SourceImage},
		{"dockerfile", "build:\n  context: web\n  args: {V: \"2\"}\nresources: {memory: 512m, cpus: 0.5}\n",
			`{"build_args":{"V":"1","W":"1"},"resources":{"pids":9}}`,
			`{"build_args":{"V":"2","W":"1"},"context":"web","resources":{"cpus":0.5,"memory":536870912,"pids":9}}`, SourceDockerfile},
		{"static", "publish_dir: out\nspa: false\nbuild: {command: make}\n", `{"spa":true,"build":{"image":"node:22","command":"x","output":"out"}}`,
			`{"build":{"command":"make","image":"node:22","output":"out"},"publish_dir":"out","spa":false}`, SourceStatic},
	} {
		t.Run(c.name, func(t *testing.T) {
			file, err := DecodeRepoFile([]byte(c.text))
			if err != nil {
				t.Fatal(err)
			}
			config, merged, err := file.Over(c.source, []byte(c.blob))
			if err != nil || config == nil || string(merged) != c.want {
				t.Errorf("%s, %v, want %s", merged, err, c.want)
			}
		})
	}
}

func TestRepoFilesThatAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		"port: 1\nhosts: [a.example]\n":        "line 2: hosts is not a key",
		"health:\n  path: /\n  colour: red\n":  "line 3: health.colour is not a key",
		"port: 1\nport: 2\n":                   "line 2",
		"port: high\n":                         "line 1: port",
		"port:\n":                              "line 1: port: it has no value",
		"stop:\n  grace: soon\n":               "line 2: stop.grace",
		"release: &a x\nstrategy: *a\n":        "anchors",
		"port: &a 80\n":                        "line 1: anchors",
		"stop: &a\n  <<: *a\n":                 "line 1: anchors",
		"port: *a\n":                           RepoFileName,
		"- port\n":                             "line 1",
		"a: b: c\n":                            "shipgate.yaml",
		"port: 1\n---\nport: 2\n":              "more than one",
		"port: 1\nvolumes: []\n":               "volumes",
		"#" + strings.Repeat("x", maxRepoFile): "bytes",
		"build:\n  args:\n    V: 1.20\n":       "build.args",
		"trusted: true\n":                      "trusted",
		"build:\n  secrets: [TOKEN]\n":         "build.secrets",
		"resources:\n  cpus: .nan\n":           "line 2: resources.cpus",
		"resources: {memory: much}\n":          `line 1: resources.memory: "much" is not a size`,
		"port: 1\nbuild:\n  context: [a]\n":    "line 3: build.context",
		"port: 80\nrelease: \"\"\n":            "line 2: release: it is empty",
		"build: {cache: []}\n":                 "line 1: build.cache: it is empty",
		"? [a]\n: b\n":                         "line 1",
		"release: [a, b]\n":                    "line 1: release",
	} {
		_, err := DecodeRepoFile([]byte(text))
		if err == nil || CodeOf(err) != CodeFailed || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want %q", text, err, want)
			continue
		}
		wantProblem(t, err, CodeFailed, RepoFileName, "git commit "+RepoFileName)
	}
}

// Every refusal names the key as the file has it, and says where to correct it.
func TestRepoFilesThatTheirSourceRefuses(t *testing.T) {
	const incomplete = `"deploy_strategy":"recreate","port":80`
	for _, c := range []struct {
		text, says string
		source     Source
	}{
		{"build: {image: a}", "build.image is of no use to source dockerfile", SourceDockerfile},
		{"build: {context: a}", "build is of no use to source image", SourceImage},
		{"build: {context: a}", "build is of no use to source compose", SourceCompose},
		{"build: {args: {a: b}}", "build.args is of no use to source static", SourceStatic},
		{"spa: true", "spa is of no use to source dockerfile", SourceDockerfile},
		{"clean_urls: false", "clean_urls is of no use to source image", SourceImage},
		{"publish_dir: out", "publish_dir is of no use to source compose", SourceCompose},
		{"strategy: blue-green", `strategy: compose config: deploy_strategy "blue-green" is not possible`, SourceCompose},
		{"release: ./x\nport: 8", "release: compose config: ", SourceCompose},
		{"resources: {cpus: 1}", "resources: compose config: ", SourceCompose},
		{"port: 70000\nspa: true", "spa", SourceImage},
		{"release: ./migrate\nport: 70000", "port: image config: port 70000", SourceImage},
		{"strategy: wild", "strategy: static config: ", SourceStatic},
		{"health: {path: up}", "health: image config: ", SourceImage},
		{"stop: {grace: 2h}", "stop: image config: stop_grace 2h0m0s", SourceImage},
		{"stop: {signal: end}", "stop: image config: stop_signal", SourceImage},
		{"release: a | b", "release: image config: ", SourceImage},
		{"resources: {cpus: -1}", "resources: image config: ", SourceImage},
		{"build: {command: make}", "build: static config: build needs image", SourceStatic},
		{"release: ./x", "release: static config: ", SourceStatic},
	} {
		file, err := DecodeRepoFile([]byte(c.text))
		check(t, err)
		config, merged, err := file.Over(c.source, []byte(blobOf(c.source, incomplete)))
		if config != nil || merged != nil {
			t.Errorf("%s over %s: refused, and yet given", c.text, c.source)
		}
		wantProblem(t, err, CodeFailed, RepoFileName+": "+c.says, "git commit "+RepoFileName)
	}
}

// What is wrong with the app's own config is not put down to the commit.
func TestAConfigThatIsWrongByItselfIsNotTheFilesDoing(t *testing.T) {
	for blob, says := range map[string]string{`{"port":70000}`: "port 70000", `[]`: "dockerfile config", `{"image":"a"}`: `unknown field "image"`} {
		_, _, err := must[*RepoFile](t)(DecodeRepoFile([]byte("strategy: recreate"))).Over(SourceDockerfile, []byte(blob))
		wantProblem(t, err, CodeUsage, says)
		if strings.Contains(err.Error(), RepoFileName) {
			t.Errorf("%s: the error blames the file: %v", blob, err)
		}
	}
	file := must[*RepoFile](t)(DecodeRepoFile([]byte("port: 80"))) // a file may also mend it
	if _, merged, err := file.Over(SourceDockerfile, []byte(`{"port":70000}`)); err != nil || string(merged) != `{"port":80}` {
		t.Errorf("%s, %v", merged, err)
	}
}

func FuzzDecodeRepoFile(f *testing.F) {
	f.Add([]byte("port: 80\nhealth: {path: /}\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("? [a]\n: b\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		file, err := DecodeRepoFile(text)
		if err != nil {
			if CodeOf(err) != CodeFailed {
				t.Fatalf("not the author's fault: %v", err)
			}
			return
		}
		if _, _, err := file.Over(SourceDockerfile, nil); err != nil && CodeOf(err) != CodeFailed {
			t.Fatalf("not the author's fault: %v", err)
		}
	})
}
