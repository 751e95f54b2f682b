package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v4"

	"github.com/shipgate/shipgate/store"
)

// choice is the source of a new app, with what speaks for it.
type choice struct {
	source store.Source
	why    string
	config map[string]any // what the place of the files says of it
}

// What is looked for, in this order.
var (
	composeFiles = []string{"compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"}
	dockerfiles  = []string{"Dockerfile", "dockerfile"}
	denoFiles    = []string{"deno.json", "deno.jsonc"}
	publishDirs  = []string{".", "public", "dist", "build", "_site", "www"}
)

// saysSource are flags that belong to one source alone.
var saysSource = []struct {
	flag   string
	source store.Source
}{
	{"image", store.SourceImage}, {"compose-file", store.SourceCompose}, {"service", store.SourceCompose},
	{"dockerfile", store.SourceDockerfile}, {"context", store.SourceDockerfile}, {"target", store.SourceDockerfile},
	{"mode", store.SourceStatic}, {"publish-dir", store.SourceStatic}, {"build-image", store.SourceStatic},
}

// chooseSource decides by the flags, else by what is in the repository around the directory.
func chooseSource(command *cobra.Command, directory string) (choice, error) {
	for _, one := range saysSource {
		if command.Flags().Changed(one.flag) {
			return choice{source: one.source, why: "--" + one.flag}, nil
		}
	}
	root, err := repositoryAround(directory)
	if err != nil {
		return choice{}, err
	}
	found, ok := lookForSource(root)
	if !ok && command.Flags().Changed("repo") {
		return choice{source: store.SourceDockerfile, why: "nothing here says otherwise, so a Dockerfile is expected in the repository"}, nil
	}
	if !ok {
		return choice{}, store.Problemf(store.CodeUsage, "nothing in %s says what the app is: no %s, no %s, no index.html in %s", root,
			dockerfiles[0], composeFiles[0], strings.Join(publishDirs, ", ")).
			WithHint("say it: --source dockerfile, static, image or compose")
	}
	return found, nil
}

// repositoryAround gives the top of the git work tree that a directory is in, or the directory itself: all of it is pushed.
func repositoryAround(directory string) (string, error) {
	absolute, err := filepath.Abs(directory)
	if err != nil {
		return "", fmt.Errorf("find directory: %w", err)
	}
	for at := absolute; ; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, ".git")); err == nil {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return absolute, nil
		}
	}
}

func lookForSource(root string) (choice, bool) {
	stack := firstFile(root, composeFiles)
	services := servicesIn(filepath.Join(root, stack))
	dockerfile := firstFile(root, dockerfiles)
	switch {
	case stack != "" && services > 1:
		return choice{source: store.SourceCompose, why: fmt.Sprintf("%s has %d services", stack, services)}, true
	case dockerfile != "":
		return choice{source: store.SourceDockerfile, why: "there is a " + dockerfile}, true
	case stack != "":
		return choice{source: store.SourceCompose, why: "there is a " + stack}, true
	}
	if name := firstFile(root, denoFiles); name != "" {
		return choice{source: store.SourceStatic, why: "there is a " + name, config: map[string]any{"mode": "deno"}}, true
	}
	for _, directory := range publishDirs {
		if isFile(filepath.Join(root, directory, "index.html")) {
			return choice{source: store.SourceStatic, why: "there is an index.html in " + directory, config: map[string]any{"publish_dir": directory}}, true
		}
	}
	return choice{}, false
}

func firstFile(root string, names []string) string {
	at := slices.IndexFunc(names, func(name string) bool { return isFile(filepath.Join(root, name)) })
	if at < 0 {
		return ""
	}
	return names[at]
}

func isFile(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular()
}

// servicesIn counts the services of a compose file; one that cannot be read has none, and its push will say so.
func servicesIn(file string) int {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	var stack struct {
		Services map[string]any `yaml:"services"`
	}
	if yaml.Unmarshal(text, &stack) != nil {
		return 0
	}
	return len(stack.Services)
}
