package store

import (
	"slices"
	"strings"
	"testing"
)

const (
	deno     = `"mode":"deno"`
	storage  = `"storage_enabled":true`
	green    = `"deploy_strategy":"blue-green"`
	again    = `"deploy_strategy":"recreate"`
	siteMade = `"build":{"image":"node:22","command":"make","output":"out"`
)

// TestWhatSourcesRefuse has every rule of its own of each source, and what holds for all of them.
func TestWhatSourcesRefuse(t *testing.T) {
	const (
		belongs = "belong to mode deno"
		inFile  = "of a stack are said in its compose file"
		depends = "depends_on"
	)
	for _, c := range []struct {
		source       Source
		fields, says string
	}{
		{SourceStatic, `"mode":"php"`, "use static or deno"},
		{SourceStatic, `"mode":"Deno"`, "use static or deno"},
		{SourceStatic, storage, belongs},
		{SourceStatic, `"mode":"static",` + storage, belongs},
		{SourceStatic, `"entrypoint":"main.ts"`, belongs},
		{SourceStatic, `"base_image":"denoland/deno"`, belongs},
		{SourceStatic, `"permissions":["sys"]`, belongs},
		{SourceStatic, `"release":"./x"`, belongs},
		{SourceStatic, `"keep_assets":"-1s"`, "keep_assets -1s is out of range: use 0s to 720h"},
		{SourceStatic, `"keep_assets":"721h"`, "use 0s to 720h"},
		{SourceStatic, `"build":{}`, "image, command and output"},
		{SourceStatic, `"build":{"command":"b","output":"c"}`, "image, command and output"},
		{SourceStatic, `"build":{"image":"a","output":"c"}`, "image, command and output"},
		{SourceStatic, `"build":{"image":"a","command":"b"}`, "image, command and output"},
		{SourceStatic, `"build":{"image":"A B","command":"b","output":"c"}`, "build image"},
		{SourceStatic, `"build":{"image":"a","command":"b","output":"../c"}`, "build output"},
		{SourceStatic, `"build":{"image":"a","command":"b","output":"/c"}`, "build output"},
		{SourceStatic, siteMade + `,"cache":["root"]}`, "build cache"},
		{SourceStatic, siteMade + `,"cache":["/a","/"]}`, "build cache"},
		{SourceStatic, siteMade + `,"cache":["/a/.."]}`, "build cache"},
		{SourceStatic, `"publish_dir":"../x"`, "publish_dir"},
		{SourceStatic, deno + `,"entrypoint":"../main.ts"`, "entrypoint"},
		{SourceStatic, deno + `,"entrypoint":"/main.ts"`, "entrypoint"},
		{SourceStatic, deno + `,"base_image":"deno land"`, "base_image"},
		{SourceStatic, deno + `,"permissions":["all"]`, `permission "all" is not one of Deno's`},
		{SourceStatic, deno + `,"permissions":["read","--allow-all"]`, "not one of Deno's"},
		{SourceStatic, deno + `,"permissions":["run=git status"]`, "not one of Deno's"},
		{SourceStatic, deno + `,"permissions":["run="]`, "not one of Deno's"},
		{SourceStatic, deno + `,"permissions":["sys'"]`, "not one of Deno's"},
		{SourceStatic, deno + `,"permissions":["run=a\"b"]`, "not one of Deno's"},
		{SourceStatic, deno + `,"permissions":["sys\n"]`, "not one of Deno's"},
		{SourceStatic, deno + `,` + storage + `,"volumes":[{"name":"other","path":"/app/data/"}]`, "volume storage at /app/data already"},
		{SourceStatic, deno + `,` + storage + `,"volumes":[{"name":"storage","path":"/x"}]`, "volume storage at /app/data already"},
		{SourceImage, `"image":"a b"`, "not a reference"},
		{SourceImage, `"image":"a/UPPER"`, "not a reference"},
		{SourceImage, `"image":"http://example.com/a"`, "not a reference"},
		{SourceImage, `"image":"a@sha256:12"`, "not a reference"},
		{SourceCompose, green, "Compose manages the stack itself; leave it out or use recreate"},
		{SourceCompose, `"service":"-a"`, "not the name of a service"},
		{SourceCompose, `"service":"a b"`, "not the name of a service"},
		{SourceCompose, `"volumes":[{"name":"a","path":"/a"}]`, inFile},
		{SourceCompose, `"resources":{"cpus":1}`, inFile},
		{SourceCompose, `"stop_signal":"SIGINT"`, inFile},
		{SourceCompose, `"release":"./x"`, depends},
		{SourceCompose, `"rollback":{"warm":"1m"}`, depends},
		{SourceCompose, `"file":"../compose.yaml"`, "file"},
	} {
		_, err := DecodeConfig(c.source, []byte(blobOf(c.source, c.fields)))
		if err == nil {
			t.Errorf("%s takes %s", c.source, c.fields)
			continue
		}
		wantProblem(t, err, CodeUsage, string(c.source)+" config: ", c.says)
	}
}

func TestWhatEverySourceRefusesOfARun(t *testing.T) {
	for fields, says := range map[string]string{
		`"stop_signal":"end"`: "write SIGTERM", `"stop_signal":"sigterm"`: "write SIGTERM", `"stop_signal":"0"`: "write SIGTERM", `"stop_signal":"100"`: "write SIGTERM", `"stop_signal":"SIGTERM "`: "write SIGTERM", `"stop_signal":"SIG"`: "write SIGTERM",
		`"replicas":2`: "an app runs one container", `"replicas":-1`: "an app runs one container",
		`"rollback":{"warm":"-1s"}`: "use 0s to 720h", `"rollback":{"warm":"721h"}`: "rollback warm 721h0m0s", `"rollback":{"cold":"1s"}`: "cold",
	} {
		for _, source := range sources {
			_, err := DecodeConfig(source, []byte(blobOf(source, fields)))
			wantProblem(t, err, CodeUsage, string(source)+" config: ", says)
		}
	}
}

func TestWhatSourcesTake(t *testing.T) {
	for source, all := range map[Source][]string{
		SourceDockerfile: {`"release":"./migrate up","rollback":{"warm":"720h"},"replicas":1,"stop_signal":"SIGRTMIN+3"`, `"stop_signal":"15"`, `"replicas":0`},
		SourceImage: {`"image":"ghcr.io/acme/web:1.4"`, `"image":"web"`, `"image":"localhost:5000/a/b@sha256:` + strings.Repeat("a", 64) + `"`, `"image":"a:1@sha256:` + strings.Repeat("a", 64) + `"`,
			`"rollback":{"warm":"0s"}`},
		SourceStatic: {deno + `,"release":"deno run migrate.ts",` + storage, deno + `,"permissions":["sys","run=git,/bin/ls","read=/etc","import=esm.sh:443"],"base_image":"example.com/deno:2"`,
			deno + `,` + storage + `,"volumes":[{"name":"other","path":"/app/database"}]`, deno + `,"volumes":[{"name":"storage","path":"/app/data"}]`, `"keep_assets":"720h"`, `"keep_assets":"0s"`,
			siteMade + `,"cache":["/root/.cache","/a/b/"]}`, `"spa":true,"rollback":{"warm":"1m"}`},
		SourceCompose: {`"trusted":true,"service":"web.v-1_a","file":"deploy/compose.yaml"`, again, `"deploy_strategy":""`, `"port":80,"healthcheck":{"path":"/"}`},
	} {
		for _, fields := range all {
			if _, err := DecodeConfig(source, []byte(blobOf(source, fields))); err != nil {
				t.Errorf("%s does not take %s: %v", source, fields, err)
			}
		}
	}
}

func TestReleaseCommand(t *testing.T) {
	for text, want := range map[string][]string{
		"":                              nil,
		"./migrate":                     {"./migrate"},
		"./migrate up --to 'the end'":   {"./migrate", "up", "--to", "the end"},
		`sh -c 'a; b && c > "$LOG"'`:    {"sh", "-c", `a; b && c > "$LOG"`},
		`rails db:migrate "VERSION=1"`:  {"rails", "db:migrate", "VERSION=1"},
		"  ./migrate   up  ":            {"./migrate", "up"},
		"echo $HOME `date`":             {"echo", "$HOME", "`date`"}, // words, to nobody who would fill them in
		`./migrate --name "" a\ b`:      {"./migrate", "--name", "", "a b"},
		"deno run --allow-net db/up.ts": {"deno", "run", "--allow-net", "db/up.ts"},
	} {
		words, err := (&SharedConfig{Release: text}).ReleaseCommand()
		if err != nil || !slices.Equal(words, want) || (words == nil) != (want == nil) {
			t.Errorf("%q is %q, %v; want %q", text, words, err, want)
		}
	}
	for _, text := range []string{"a; b", "a && b", "a | b", "a > b", "a < b", "a &", " ", "'open", `a "b`, "a\\", ";", "(a)"} {
		words, err := (&SharedConfig{Release: text}).ReleaseCommand()
		if err == nil || words != nil || !strings.Contains(err.Error(), "sh -c") || !strings.Contains(err.Error(), "release command") {
			t.Errorf("%q is %q, %v; want an error that says how", text, words, err)
		}
	}
}

func TestValidateImage(t *testing.T) {
	for _, image := range []string{"web", "ghcr.io/acme/web:1.4", "localhost:5000/web", "acme/web@sha256:" + strings.Repeat("0", 64)} {
		check(t, ValidateImage(image))
	}
	for _, image := range []string{"", " ", "a b", "-a", "web:", "web:a b", "https://ghcr.io/a", "web@sha256:0", "web\n", "$(id)"} {
		wantProblem(t, ValidateImage(image), CodeUsage, "not a reference to an image", "docker pull", "ghcr.io/acme/web:1.4")
	}
}
