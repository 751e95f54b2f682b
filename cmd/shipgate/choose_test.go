package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/shipgate/shipgate/store"
)

func TestWhatFilesSayOfTheSource(t *testing.T) {
	const one, two = "services: {web: {}}", "services: {web: {}, db: {}}"
	for name, test := range map[string]struct {
		files map[string]string
		want  store.Source // empty: nothing is found
		field string       // of the config
		value any
	}{
		"a Dockerfile":                              {files: map[string]string{"Dockerfile": ""}, want: store.SourceDockerfile},
		"one in lower case":                         {files: map[string]string{"dockerfile": ""}, want: store.SourceDockerfile},
		"a stack":                                   {files: map[string]string{"compose.yaml": one}, want: store.SourceCompose},
		"a stack under its old name":                {files: map[string]string{"docker-compose.yml": two}, want: store.SourceCompose},
		"a Dockerfile with a stack of itself":       {files: map[string]string{"Dockerfile": "", "compose.yaml": one}, want: store.SourceDockerfile},
		"a Dockerfile with a stack around it":       {files: map[string]string{"Dockerfile": "", "compose.yaml": two}, want: store.SourceCompose},
		"a Dockerfile with a stack that is no YAML": {files: map[string]string{"Dockerfile": "", "compose.yaml": "{"}, want: store.SourceDockerfile},
		"a Dockerfile before a site":                {files: map[string]string{"Dockerfile": "", "index.html": ""}, want: store.SourceDockerfile},
		"Deno":                                      {files: map[string]string{"deno.json": "", "public/index.html": ""}, want: store.SourceStatic, field: "mode", value: "deno"},
		"a site":                                    {files: map[string]string{"index.html": ""}, want: store.SourceStatic, field: "publish_dir", value: "."},
		"a site in a folder":                        {files: map[string]string{"dist/index.html": ""}, want: store.SourceStatic, field: "publish_dir", value: "dist"},
		"a folder of that name":                     {files: map[string]string{"Dockerfile/x": ""}},
		"nothing":                                   {files: map[string]string{"README": ""}},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for file, content := range test.files {
				at := filepath.Join(root, file)
				if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(at, []byte(content), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			got, found := lookForSource(root)
			if found != (test.want != "") || got.source != test.want || found && got.why == "" {
				t.Errorf("%+v, %v; want %q", got, found, test.want)
			}
			if test.field != "" && got.config[test.field] != test.value {
				t.Errorf("config %v, want %s %v", got.config, test.field, test.value)
			}
		})
	}
}

func TestSourceIsLookedForAtTheTopOfTheRepository(t *testing.T) {
	root := t.TempDir()
	inside := filepath.Join(root, "web", "pages")
	if err := os.MkdirAll(inside, 0o755); err != nil {
		t.Fatal(err)
	}
	if got, err := repositoryAround(inside); err != nil || got != inside {
		t.Errorf("outside of a repository: %q, %v", got, err)
	}
	if err := os.Mkdir(filepath.Join(root, ".git"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got, err := repositoryAround(inside); err != nil || got != root {
		t.Errorf("inside of one: %q, %v, want %q", got, err, root)
	}
}
