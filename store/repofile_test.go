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
		{"image", "port: 9000\nstrategy: recreate\nrelease: ./migrate up\nhealth:\n  path: /up\nstop:\n  signal: SIGINT\n  grace: 5s\n",
			`{"image":"a:1","port":80,"deploy_strategy":"blue-green","healthcheck":{"path":"/old","status":204}}`,
			`{"deploy_strategy":"recreate","healthcheck":{"path":"/up"},"image":"a:1","port":9000,"release":"./migrate up","stop_grace":"5s","stop_signal":"SIGINT"}`, SourceImage},
		{"dockerfile", "build:\n  context: web\n  args: {V: \"2\"}\nresources: {memory: 512m, cpus: 0.5}\n",
			`{"build_args":{"V":"1","W":"1"},"resources":{"pids":9}}`,
			`{"build_args":{"V":"2","W":"1"},"context":"web","resources":{"cpus":0.5,"memory":"512m","pids":9}}`, SourceDockerfile},
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
		"- port\n":                             "line 1",
		"a: b: c\n":                            "shipgate.yaml",
		"port: 1\n---\nport: 2\n":              "more than one",
		"port: 1\nvolumes: []\n":               "volumes",
		"#" + strings.Repeat("x", maxRepoFile): "bytes",
		"build:\n  args:\n    V: 1.20\n":       "build.args",
		"trusted: true\n":                      "trusted",
		"build:\n  secrets: [TOKEN]\n":         "build.secrets",
		"resources:\n  cpus: .nan\n":           "resources.cpus",
		"release: [a, b]\n":                    "line 1: release",
	} {
		_, err := DecodeRepoFile([]byte(text))
		if err == nil || CodeOf(err) != CodeFailed || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want %q", text, err, want)
		}
	}
	for text, source := range map[string]Source{
		"build: {image: a}":         SourceDockerfile,
		"build: {context: a}":       SourceImage,
		"spa: true":                 SourceDockerfile,
		"strategy: blue-green":      SourceCompose,
		"port: 70000":               SourceImage,
		"strategy: wild":            SourceStatic,
		"resources: {memory: much}": SourceDockerfile,
	} {
		file, err := DecodeRepoFile([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := file.Over(source, []byte(blobOf(source, ""))); CodeOf(err) != CodeFailed || err == nil {
			t.Errorf("%s over %s: %v", text, source, err)
		}
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
