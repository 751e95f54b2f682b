package builder

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/volume"

	"github.com/shipgate/shipgate/store"
)

// denoBinary gives the real Deno, which npm brings.
func denoBinary(t *testing.T) string {
	t.Helper()
	var complaint bytes.Buffer
	script := exec.CommandContext(t.Context(), "../scripts/deno.sh")
	script.Stderr = &complaint
	found, err := script.Output()
	if err != nil {
		t.Skipf("NOT TESTED, there is no Deno: %v: %s", err, &complaint)
	}
	return strings.TrimSpace(string(found))
}

// denoBase imports an image with Deno and the libraries it needs. It has neither a shell nor users, but an entrypoint
// that is in the way.
func (l *lab) denoBase(t *testing.T) string {
	t.Helper()
	deno := denoBinary(t)
	libraries, err := exec.CommandContext(t.Context(), "ldd", deno).Output()
	if err != nil {
		t.Fatal("list Deno's libraries: ", err)
	}
	files := map[string]string{"usr/bin/deno": deno}
	for _, library := range regexp.MustCompile(`/\S+`).FindAllString(string(libraries), -1) {
		files[strings.TrimPrefix(library, "/")] = library
	}
	archive, into := io.Pipe()
	go func() { into.CloseWithError(writeTar(into, files)) }()
	name := l.app + "/deno:1"
	t.Cleanup(func() { l.removeName(t, name) })
	changes := []string{"ENV PATH=/usr/bin", `ENTRYPOINT ["/in/the/way"]`}
	stream, err := l.docker.ImageImport(t.Context(), image.ImportSource{SourceName: "-", Source: archive}, name, image.ImportOptions{Changes: changes})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if answer, err := io.ReadAll(stream); err != nil || !bytes.Contains(answer, []byte("sha256:")) {
		t.Fatalf("import image: %v %s", err, answer)
	}
	return name
}

func writeTar(into io.Writer, files map[string]string) error {
	w := tar.NewWriter(into)
	if err := w.WriteHeader(&tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777}); err != nil {
		return err
	}
	for name, from := range files {
		content, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(content))}); err != nil {
			return err
		}
		if _, err := w.Write(content); err != nil {
			return err
		}
	}
	return w.Close()
}

// run starts a container of an image as the engine's adapter does: its own command, PORT in the environment.
func (l *lab) run(t *testing.T, artefact store.Artefact, mounts ...mount.Mount) string {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	config := &container.Config{
		Image: artefact.Image, Env: []string{fmt.Sprintf("PORT=%d", artefact.Port)}, Labels: map[string]string{store.LabelData: l.serverID},
	}
	made, err := l.docker.ContainerCreate(ctx, config, &container.HostConfig{Mounts: mounts}, nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.docker.ContainerRemove(ctx, made.ID, container.RemoveOptions{Force: true}); err != nil && !errdefs.IsNotFound(err) {
			t.Errorf("clean up: %v", err)
		}
	})
	if err := l.docker.ContainerStart(ctx, made.ID, container.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	return made.ID
}

// ask sends a request to a container, as soon as it takes one.
func (l *lab) ask(t *testing.T, id string, port int, path string) string {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		found, err := l.docker.ContainerInspect(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		address := found.NetworkSettings.Networks["bridge"].IPAddress
		response, err := http.Get(fmt.Sprintf("http://%s:%d%s", address, port, path))
		if err == nil {
			defer response.Body.Close()
			answer, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			return string(answer)
		}
		if !found.State.Running || time.Now().After(deadline) {
			t.Fatalf("the container does not answer: %v\n%s", err, l.logs(t, id))
		}
	}
}

func (l *lab) logs(t *testing.T, id string) string {
	t.Helper()
	stream, err := l.docker.ContainerLogs(t.Context(), id, container.LogsOptions{ShowStdout: true, ShowStderr: true})
	if err != nil {
		return err.Error()
	}
	defer stream.Close()
	text, _ := io.ReadAll(stream)
	return string(text)
}

func (l *lab) storage(t *testing.T) mount.Mount {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	made, err := l.docker.VolumeCreate(ctx, volume.CreateOptions{Labels: map[string]string{store.LabelData: l.serverID}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.docker.VolumeRemove(ctx, made.Name, true); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	return mount.Mount{Type: mount.TypeVolume, Source: made.Name, Target: store.DenoStorage}
}

const denoApp = `
import { greeting } from "./lib/greeting.ts";
const attempts: Record<string, () => unknown> = {
	"/": () => greeting,
	"/own": () => Deno.readTextFileSync("/app/lib/greeting.ts").length,
	"/passwd": () => Deno.readTextFileSync("/etc/hostname"),
	"/run": () => new Deno.Command("deno").outputSync(),
	"/change": () => Deno.writeTextFileSync("/app/main.ts", "x"),
	"/ffi": () => Deno.dlopen("/usr/lib/x.so", {}),
	"/sys": () => Deno.osRelease(),
	"/who": () => Deno.uid(),
	"/write": () => Deno.writeTextFileSync("/app/data/note", "kept", { append: true }),
	"/read": () => Deno.readTextFileSync("/app/data/note"),
	"/seed": () => Deno.readTextFileSync("/app/data/seed"),
	"/reseed": () => Deno.writeTextFileSync("/app/data/seed", "changed"),
	"/kv": async () => {
		const kv = await Deno.openKv();
		await kv.atomic().sum(["visits"], 1n).commit();
		return (await kv.get(["visits"])).value;
	},
};
Deno.serve({ port: Number(Deno.env.get("PORT")) }, async (request) => {
	try {
		return new Response(String(await attempts[new URL(request.url).pathname]()));
	} catch (error) {
		return new Response(error.name);
	}
});
`

func TestDeno(t *testing.T) {
	l := newEngineLab(t)
	base := l.denoBase(t)
	app := commit{
		"app/main.ts": denoApp, "app/lib/greeting.ts": `export const greeting: string = "hello";`,
		"app/deno.json": `{"unstable": ["kv"]}`, ".dockerignore": "**/lib",
	}
	t.Run("least permissions", func(t *testing.T) { l.testLeastPermissions(t, base, app) })
	t.Run("storage", func(t *testing.T) { l.testDenoStorage(t, base, app) })
	t.Run("dependencies layer", func(t *testing.T) { l.testDependenciesLayer(t, base, app) })
	t.Run("mistakes", func(t *testing.T) { l.testDenoMistakes(t, base) })
	t.Run("after a build", func(t *testing.T) {
		busybox := l.base(t)
		config := &store.StaticConfig{Mode: "deno", BaseImage: base, Build: &store.StaticBuild{
			Image: busybox, Output: "out", Command: "mkdir out; echo 'Deno.serve(() => new Response(\"made\"))' > out/server.ts",
		}}
		artefact, log, err := l.build(t, commit{"a": "x"}, config)
		if err != nil {
			t.Fatalf("%v\n%s", err, log)
		}
		if !strings.Contains(log, "entrypoint server.ts is taken") {
			t.Errorf("log does not say which entrypoint is taken:\n%s", log)
		}
		if answer := l.ask(t, l.run(t, artefact), 8000, "/"); answer != "made" {
			t.Errorf("answer is %q", answer)
		}
	})
}

func (l *lab) testLeastPermissions(t *testing.T, base string, app commit) {
	config := &store.StaticConfig{Mode: "deno", PublishDir: "app", BaseImage: base}
	artefact := l.must(t, app, config)
	if artefact.Port != 8000 || artefact.ImageTag == "" || artefact.Site != "" {
		t.Errorf("artefact is %+v", artefact)
	}
	id := l.run(t, artefact)
	for path, want := range map[string]string{
		"/": "hello", "/own": "40", "/passwd": "NotCapable", "/run": "NotCapable", "/change": "NotCapable", "/ffi": "NotCapable",
		"/sys": "NotCapable", "/who": "NotCapable", "/write": "NotCapable",
	} {
		if answer := l.ask(t, id, 8000, path); answer != want {
			t.Errorf("%s answers %q, want %q", path, answer, want)
		}
	}
	config.Permissions, config.Port = []string{"sys=uid", "read=/etc/hostname", "read=/proc,/sys", "sys=osRelease"}, 3000
	id = l.run(t, l.must(t, app, config))
	for path, want := range map[string]string{"/who": "1993", "/own": "40", "/run": "NotCapable"} {
		if answer := l.ask(t, id, 3000, path); answer != want {
			t.Errorf("%s answers %q, want %q", path, answer, want)
		}
	}
	for _, path := range []string{"/passwd", "/sys"} {
		if answer := l.ask(t, id, 3000, path); answer == "NotCapable" {
			t.Errorf("%s is refused, though it is granted", path)
		}
	}
}

// testDenoStorage looks for what one container wrote in the next one.
func (l *lab) testDenoStorage(t *testing.T, base string, app commit) {
	config := &store.StaticConfig{Mode: "deno", PublishDir: "app", BaseImage: base, StorageEnabled: true, Entrypoint: "main.ts"}
	for name, files := range map[string]commit{"empty": app, "with files": app.with(commit{"app/data/seed": "seed"})} {
		t.Run(name, func(t *testing.T) {
			kept := l.storage(t)
			first := l.run(t, l.must(t, files, config), kept)
			for path, want := range map[string]string{"/write": "undefined", "/change": "NotCapable"} {
				if answer := l.ask(t, first, 8000, path); answer != want {
					t.Errorf("%s answers %q, want %q", path, answer, want)
				}
			}
			if answer := l.ask(t, first, 8000, "/kv"); answer != "1" {
				t.Errorf("the first visit has number %q", answer)
			}
			if err := l.docker.ContainerRemove(t.Context(), first, container.RemoveOptions{Force: true}); err != nil {
				t.Fatal(err)
			}
			second := l.run(t, l.must(t, files.with(commit{"app/new.ts": "x"}), config), kept)
			want := map[string]string{"/kv": "2", "/read": "kept"}
			if name == "with files" {
				want["/seed"], want["/reseed"] = "seed", "undefined"
			}
			for _, path := range []string{"/kv", "/read", "/seed", "/reseed"} {
				if answer := l.ask(t, second, 8000, path); want[path] != "" && answer != want[path] {
					t.Errorf("%s answers %q in the next container, want %q", path, answer, want[path])
				}
			}
		})
	}
}

func (l *lab) testDependenciesLayer(t *testing.T, base string, app commit) {
	config := &store.StaticConfig{Mode: "deno", PublishDir: "app", BaseImage: base}
	build := func(changes commit) (log string) {
		t.Helper()
		_, log, err := l.build(t, app.with(changes), config)
		if err != nil {
			t.Fatalf("%v\n%s", err, log)
		}
		return log
	}
	installCached := regexp.MustCompile(`(?m)^(#\d+) .*RUN \["deno","install"\]\n#\d+ CACHED`)
	app = app.with(commit{"app/deno.json": fmt.Sprintf(`{"unstable": ["kv"], "name": "@a/%s"}`, l.app)}) // other runs cached theirs
	build(commit{"app/unlike": "1"})
	if log := build(commit{"app/unlike": "2"}); !installCached.MatchString(log) {
		t.Errorf("the dependencies were got once more:\n%s", log)
	}
	if log := build(commit{"app/deno.json": fmt.Sprintf(`{"unstable": ["kv"], "name": "@b/%s"}`, l.app)}); installCached.MatchString(log) || !strings.Contains(log, `"install"`) {
		t.Errorf("the dependencies were not got:\n%s", log)
	}
	for name, changes := range map[string]commit{
		"import map": {"app/deno.json": `{"unstable": ["kv"], "importMap": "./map.json"}`, "app/map.json": `{"imports": {}}`},
		"workspace":  {"app/deno.jsonc": `{/* x */ "workspace": ["./lib"]}`, "app/deno.json": file{}, "app/lib/deno.json": `{"name": "@a/b", "version": "1.0.0", "exports": "./greeting.ts"}`},
		"no config":  {"app/deno.json": file{}},
	} {
		t.Run(name, func(t *testing.T) {
			files := app.with(changes)
			for path, content := range files {
				if content == (file{}) {
					delete(files, path)
				}
			}
			_, log, err := l.build(t, files, config)
			if err != nil || strings.Contains(log, `"install"`) {
				t.Errorf("%v\n%s", err, log)
			}
		})
	}
}

func (l *lab) testDenoMistakes(t *testing.T, base string) {
	for name, c := range map[string]struct {
		files  commit
		config store.StaticConfig
		want   string
	}{
		"no entrypoint":        {files: commit{"index.html": "x"}, want: "publish_dir . has no entrypoint: none of main.ts, main.js, server.ts, mod.ts, index.ts"},
		"missing entrypoint":   {files: commit{"main.ts": "x"}, config: store.StaticConfig{Entrypoint: "./api.ts"}, want: "entrypoint api.ts is not a file in publish_dir ."},
		"entrypoint directory": {files: commit{"api/main.ts": "x"}, config: store.StaticConfig{Entrypoint: "api"}, want: "entrypoint api is not a file in publish_dir ."},
		"missing directory":    {files: commit{"main.ts": "x"}, config: store.StaticConfig{PublishDir: "app"}, want: "publish_dir app is not a directory of the commit"},
		"missing base":         {files: commit{"main.ts": "x"}, config: store.StaticConfig{BaseImage: "nosuch-base.invalid/x:1"}, want: "image nosuch-base.invalid/x:1 is neither local nor pullable"},
		"missing module":       {files: commit{"main.ts": `import "./gone.ts"`}, want: "deno cache: exit code 1: error: Module not found"},
		"bad config":           {files: commit{"main.ts": "", "deno.json": "{"}, want: "deno install: exit code 1: error:"},
	} {
		t.Run(name, func(t *testing.T) {
			c.config.Mode = "deno"
			if c.config.BaseImage == "" {
				c.config.BaseImage = base
			}
			_, log, err := l.build(t, c.files, &c.config)
			p := problem(t, err, store.CodeFailed)
			if !strings.HasPrefix(p.Message, c.want) || p.Hint == "" {
				t.Errorf("problem is %q, hint %q; want %q\n%s", p.Message, p.Hint, c.want, log)
			}
		})
	}
}

func TestDenoDockerfile(t *testing.T) {
	files := commit{"index.ts": "x", "mod.ts": "x", "a \"b\".ts": "x", "package.json": "{}", "deno.lock": "x", "deno.json": "{}"}
	for name, c := range map[string]struct {
		config store.StaticConfig
		want   string // a line
	}{
		"base by default":    {want: "FROM denoland/deno"},
		"base":               {config: store.StaticConfig{BaseImage: "a.b/deno:2"}, want: "FROM a.b/deno:2"},
		"first entrypoint":   {want: `CMD ["deno","run","--no-prompt","--allow-env","--allow-net","--allow-read=/app","/app/mod.ts"]`},
		"strange entrypoint": {config: store.StaticConfig{Entrypoint: `a "b".ts`}, want: `CMD ["deno","run","--no-prompt","--allow-env","--allow-net","--allow-read=/app","/app/a \"b\".ts"]`},
		"storage":            {config: store.StaticConfig{StorageEnabled: true}, want: `CMD ["deno","run","--no-prompt","--allow-env","--allow-net","--allow-read=/app","--allow-write=/app/data","/app/mod.ts"]`},
		"more permissions":   {config: store.StaticConfig{StorageEnabled: true, Permissions: []string{"read=/etc", "write=/tmp", "env=HOME", "net=a.b:80", "run"}}, want: `CMD ["deno","run","--no-prompt","--allow-env","--allow-net","--allow-read=/app,/etc","--allow-run","--allow-write=/app/data,/tmp","/app/mod.ts"]`},
		"without limit":      {config: store.StaticConfig{Permissions: []string{"read", "read=/etc"}}, want: `CMD ["deno","run","--no-prompt","--allow-env","--allow-net","--allow-read","/app/mod.ts"]`},
		"import":             {config: store.StaticConfig{Permissions: []string{"import=a.b", "sys"}}, want: `RUN ["deno","cache","--allow-import=a.b","/app/mod.ts"]`},
		"manifests":          {want: `COPY ["deno.json","package.json","deno.lock","./"]`},
		"port":               {want: "EXPOSE 1234"},
		"own entrypoint":     {want: "ENTRYPOINT []"},
		"user":               {want: "USER 1993:1993"},
	} {
		t.Run(name, func(t *testing.T) {
			project, err := newDenoProject(&c.config, material{Snapshot: files, directory: "."})
			if err != nil {
				t.Fatal(err)
			}
			if text := project.dockerfile(1234); !slices.Contains(strings.Split(text, "\n"), c.want) {
				t.Errorf("there is no line %s in\n%s", c.want, text)
			}
		})
	}
}
