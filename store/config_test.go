package store

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

var sources = []Source{SourceDockerfile, SourceStatic, SourceImage, SourceCompose}

func TestConfigsThatAreTaken(t *testing.T) {
	shared := `"repo_owner":"octo-org","repo_name":"hello.js","branch":"main","on_push":"cancel","manual":true,"paths":["web/**","!web/docs/**","*.{js,ts}"],"public_logs":true,"github_deployment":true,"environment":"staging, EU","port":65535,
		"healthcheck":{"path":"/healthz?full=1","status":204,"successes":3,"timeout":"1m","host":"example.com"},
		"liveness":"3s","drain":"1h","hold":"5s","stop_grace":"500ms"`
	container := `"volumes":[{"name":"data.v-1_a","path":"/var/lib/data"}],"resources":{"memory":"512m","cpus":0.5,"pids":100},"stop_signal":"SIGINT","replicas":1,"rollback":{"warm":"10m"}`
	for source, blobs := range map[Source][]string{
		SourceDockerfile: {``, ` `, `null`, `{}`, `{"context":".","dockerfile":"deploy/Dockerfile","target":"prod","build_args":{"A":"1"},"build_secrets":["TOKEN"]}`, `{"context":"a/../b"}`},
		SourceStatic: {``, `{"mode":"static","publish_dir":"public","spa":true,"clean_urls":true}`, `{"mode":"deno","entrypoint":"main.ts","storage_enabled":true}`,
			`{"build":{"image":"node:22","command":"npm run build","output":"dist"}}`},
		SourceImage:   {`{"image":"example.com/app:1"}`},
		SourceCompose: {``, `{"file":"compose.yaml","service":"web"}`},
	} {
		all := blobOf(source, shared, container)
		if source == SourceCompose { // these are said in the compose file
			all = blobOf(source, shared)
		}
		for _, blob := range append(blobs, all) {
			config, err := DecodeConfig(source, []byte(blob))
			if err != nil {
				t.Errorf("%s %s: %v", source, blob, err)
				continue
			}
			encoded := must[[]byte](t)(json.Marshal(config))
			again := must[Config](t)(DecodeConfig(source, encoded))
			if second := must[[]byte](t)(json.Marshal(again)); string(second) != string(encoded) {
				t.Errorf("%s %s became\n%s", source, encoded, second)
			}
		}
		c := must[Config](t)(DecodeConfig(source, []byte(all))).Shared()
		if c.Port != 65535 || c.Healthcheck.Timeout.Or(0) != time.Minute || c.Drain.Or(0) != time.Hour || c.StopGrace.Or(0) != 500*time.Millisecond || c.RepoName != "hello.js" {
			t.Errorf("%s: decoded %+v", source, c)
		}
		if source != SourceCompose && (c.Resources.Memory != 512<<20 || c.Volumes[0].Path != "/var/lib/data" || c.StopSignal != "SIGINT" || c.Rollback.Warm.Or(0) != 10*time.Minute) {
			t.Errorf("%s: decoded %+v", source, c)
		}
	}
}

func TestConfigsThatAreRefused(t *testing.T) {
	everywhere := map[string]string{ // field: what the message says
		`"prot":1`: `unknown field "prot"`, `"port":-1`: "1 to 65535", `"port":65536`: "1 to 65535", `"port":"80"`: "port", `"port":1.5`: "port",
		`"repo_owner":"a"`: "go together", `"repo_name":"a"`: "go together", `"repo_owner":"a/b","repo_name":"c"`: "not a repository", `"repo_owner":"a","repo_name":"b c"`: "not a repository",
		`"branch":"../../x"`: "not a branch name", `"branch":"-f"`: "not a branch name", `"on_push":"queue"`: "use cancel", `"liveness":"-1s"`: "liveness -1s is out of range: use 0s to 1h", `"drain":"61m"`: "drain 1h1m0s is out of range: use 0s to 1h", `"hold":"2h"`: "hold 2h0m0s is out of range: use 0s to 1h", `"stop_grace":"-1ns"`: "stop_grace -1ns is out of range: use 0s to 1h",
		`"paths":[""]`: "pattern", `"paths":["!"]`: "pattern", `"paths":["/etc/**"]`: "pattern", `"paths":["../x"]`: "pattern", `"paths":["a[b"]`: "pattern", `"paths":["web/{a"]`: "pattern", `"paths":["a/../../b"]`: "pattern", `"environment":"a\nb"`: "environment",
		`"hold":30`: `"30s"`, `"hold":"30"`: `"30s"`, `"hold":"soon"`: `"30s"`, `"hold":""`: `"30s"`,
		`"healthcheck":{}`: "start with /", `"healthcheck":{"path":"healthz"}`: "start with /", `"healthcheck":{"path":"/a b"}`: "blanks", `"healthcheck":{"path":"/a\nb"}`: "blanks", `"healthcheck":{"path":"/a\tb"}`: "blanks",
		`"healthcheck":{"path":"/","status":99}`: "100 to 599", `"healthcheck":{"path":"/","status":600}`: "100 to 599", `"healthcheck":{"path":"/","status":-1}`: "100 to 599",
		`"healthcheck":{"path":"/","successes":-1}`: "1 to 100", `"healthcheck":{"path":"/","successes":101}`: "1 to 100",
		`"healthcheck":{"path":"/","timeout":"-1s"}`: "up to 1h", `"healthcheck":{"path":"/","timeout":"61m"}`: "up to 1h", `"healthcheck":{"path":"/","retries":3}`: "retries",
		`"volumes":[{"name":"","path":"/a"}]`: "plain name", `"volumes":[{"name":"../a","path":"/a"}]`: "plain name", `"volumes":[{"name":"/etc","path":"/a"}]`: "plain name",
		`"volumes":[{"name":"a","path":"a"}]`: "absolute path", `"volumes":[{"name":"a","path":"/"}]`: "absolute path", `"volumes":[{"name":"a","path":"/x/.."}]`: "absolute path",
		`"volumes":[{"name":"a","path":"/x"},{"name":"b","path":"/x/"}]`: "twice",
		`"resources":{"memory":-1}`:                                      "size", `"resources":{"memory":"-1g"}`: "size", `"resources":{"memory":"much"}`: `"512m"`, `"resources":{"cpus":-0.5}`: "negative", `"resources":{"pids":-1}`: "negative",
	}
	own := map[Source]map[string]string{
		SourceDockerfile: {`{"context":"/etc"}`: "context", `{"context":".."}`: "leaves the repository", `{"context":"a/../../b"}`: "leaves", `{"dockerfile":"../Dockerfile"}`: "dockerfile",
			`{"dockerfile":"a\\b"}`: "leaves", `{"image":"a"}`: "image", `{"build_args":["A"]}`: "build_args"},
		SourceStatic: {`{"mode":"php"}`: "static or deno", `{"publish_dir":"/srv"}`: "publish_dir", `{"publish_dir":"../.."}`: "publish_dir", `{"entrypoint":"../main.ts"}`: "entrypoint",
			`{"build":{"image":"a","command":"b","output":"../c"}}`: "build output", `{"build":{"command":"b","output":"c"}}`: "image, command and output"},
		SourceImage:   {``: "image is missing", `{}`: "image is missing", `{"image":" "}`: "not a reference"},
		SourceCompose: {`{"file":"/etc/compose.yaml"}`: "file", `{"file":"../compose.yaml"}`: "file", `{"image":"a"}`: "image"},
	}
	for _, source := range sources {
		cases := map[string]string{`[]`: "", `"text"`: "", `1`: "", `{`: "", `{} {}`: "more than one", `{} x`: "more than one", `{}]`: "more than one"}
		if source == SourceImage {
			cases = map[string]string{blobOf(source) + `{}`: "more than one", `[]`: "", `{`: ""}
		}
		for field, says := range everywhere {
			cases[blobOf(source, field)] = says
		}
		for blob, says := range own[source] {
			cases[blob] = says
		}
		for blob, says := range cases {
			config, err := DecodeConfig(source, []byte(blob))
			if err == nil {
				t.Errorf("%s takes %s", source, blob)
			} else if problem, ok := AsProblem(err); !ok || problem.Code != CodeUsage || !strings.HasPrefix(err.Error(), string(source)+" config: ") || !strings.Contains(err.Error(), says) {
				t.Errorf("%s %s: got %q, want a usage Problem that says %q", source, blob, err, says)
			} else if config != nil {
				t.Errorf("%s %s: refused, and yet given", source, blob)
			}
		}
	}
	_, err := DecodeConfig("zip", nil)
	wantProblem(t, err, CodeUsage, "zip", "dockerfile, static, image or compose")
}

func TestBytes(t *testing.T) {
	for text, want := range map[string]Bytes{`0`: 0, `1`: 1, `"7"`: 7, `"7b"`: 7, `"1k"`: 1 << 10, `"512m"`: 512 << 20, `"2G"`: 2 << 30, `536870912`: 512 << 20,
		`"4294967296g"`: 1 << 62, `4611686018427387904`: 1 << 62} {
		var got Bytes
		if err := json.Unmarshal([]byte(text), &got); err != nil || got != want {
			t.Errorf("%s is %d, %v; want %d", text, got, err, want)
		}
		var back Bytes
		check(t, json.Unmarshal(must[[]byte](t)(json.Marshal(got)), &back))
		if back != got {
			t.Errorf("%d came back as %d", got, back)
		}
	}
	for _, text := range []string{`""`, `"b"`, `"m"`, `"1t"`, `"1.5g"`, `1.5`, `1e3`, `"1 m"`, `" 1m"`, `"1mm"`, `"0x10"`, `"4294967297g"`, `"9223372036854775808"`, `-1`, `"-1m"`, `"-8589934592g"`, `true`, `{}`, `[1]`} {
		var got Bytes
		if err := json.Unmarshal([]byte(text), &got); err == nil || !strings.Contains(err.Error(), `"512m"`) {
			t.Errorf("%s is %d, %v; want an error that shows how", text, got, err)
		}
	}
}

func TestDuration(t *testing.T) {
	for _, want := range []time.Duration{0, 1, time.Millisecond, 1500 * time.Millisecond, 90 * time.Second, time.Hour} {
		encoded := must[[]byte](t)(json.Marshal(Duration(want)))
		var got Duration
		if err := json.Unmarshal(encoded, &got); err != nil || time.Duration(got) != want {
			t.Errorf("%s came back as %s, %v", encoded, time.Duration(got), err)
		}
	}
	if (*Duration)(nil).Or(5) != 5 || new(Duration(0)).Or(5) != 0 || new(Duration(3)).Or(5) != 3 {
		t.Error("the default is only for what is left out")
	}
}

// optionalDurations finds the durations of a config by their JSON path.
func optionalDurations(of reflect.Type, path ...string) (found [][]string) {
	for i := range of.NumField() {
		field := of.Field(i)
		inner := slices.Clone(path)
		if !field.Anonymous {
			inner = append(inner, keyOf(field))
		}
		at := field.Type
		if at.Kind() == reflect.Pointer {
			at = at.Elem()
		}
		switch {
		case at == reflect.TypeFor[Duration]():
			found = append(found, inner)
		case at.Kind() == reflect.Struct:
			found = append(found, optionalDurations(at, inner...)...)
		}
	}
	return found
}

func nested(path []string, value any) map[string]any {
	if len(path) == 1 {
		return map[string]any{path[0]: value}
	}
	return map[string]any{path[0]: nested(path[1:], value)}
}

// Every optional duration: an explicit 0s is kept by the config, its JSON and the database; what is left out stays left out.
func TestZeroDurationsAreKept(t *testing.T) {
	s := newStore(t)
	paths := optionalDurations(reflect.TypeFor[StaticConfig]())
	if len(paths) != 7 {
		t.Errorf("there are %d durations: %q", len(paths), paths)
	}
	for i, path := range paths {
		blob := nested(path, "0s")
		if path[0] == "healthcheck" {
			blob["healthcheck"] = map[string]any{"path": "/", path[1]: "0s"}
			if _, err := DecodeConfig(SourceDockerfile, must[[]byte](t)(json.Marshal(blob))); err == nil || !strings.Contains(err.Error(), "use more than 0s") {
				t.Errorf("%q: %v", path, err)
			}
			continue
		}
		source := SourceDockerfile
		if path[0] == "keep_assets" {
			source = SourceStatic
		}
		app := must[App](t)(s.CreateApp(t.Context(), App{Name: fmt.Sprintf("app-%d", i), Source: source, Config: must[[]byte](t)(json.Marshal(blob))}))
		stored := must[App](t)(s.App(t.Context(), app.Name))
		config := must[Config](t)(DecodeConfig(source, stored.Config))
		var again map[string]any
		check(t, json.Unmarshal(must[[]byte](t)(json.Marshal(config)), &again))
		if !reflect.DeepEqual(again, blob) {
			t.Errorf("%v came back as %v", blob, again)
		}
	}
}

func TestZeroInAPlan(t *testing.T) {
	plan := PlanOf(must[Config](t)(DecodeConfig(SourceDockerfile, []byte(`{"liveness":"0s","hold":"0s","deploy_strategy":"recreate"}`))))
	if plan.Reason != "no health check, so it must accept connections" || plan.Gap != "requests are answered 503 while it restarts" {
		t.Errorf("%+v", plan)
	}
}

func TestHowConfigsAreWritten(t *testing.T) {
	config := must[Config](t)(DecodeConfig(SourceImage, []byte(blobOf(SourceImage, `"hold":"90s","resources":{"memory":"1k"},"deploy_strategy":"recreate"`))))
	want := `{"deploy_strategy":"recreate","hold":"1m30s","resources":{"memory":1024},"image":"example.com/app:1"}`
	if got := must[[]byte](t)(json.Marshal(config)); string(got) != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

// FuzzDecodeConfig: whatever is sent, decoding does not panic, and what it accepts means the same after being stored.
func FuzzDecodeConfig(f *testing.F) {
	for i, source := range sources {
		for _, fields := range []string{``, `"port":80`, `"healthcheck":{"path":"/"},"hold":"5s"`, `"volumes":[{"name":"a","path":"/a"}],"resources":{"memory":"1g","cpus":-0}`,
			`"deploy_strategy":"blue-green"`, `"build_args":{"A":"\u0000"}`, `"mode":"deno","storage_enabled":true`, `"build":{"image":"a","command":"b","output":"c"}`} {
			f.Add(uint8(i), []byte(blobOf(source, fields)))
		}
	}
	f.Fuzz(func(t *testing.T, n uint8, blob []byte) {
		source := sources[int(n)%len(sources)]
		first, err := DecodeConfig(source, blob)
		if err != nil {
			wantProblem(t, err, CodeUsage)
			return
		}
		stored := must[[]byte](t)(json.Marshal(first))
		second, err := DecodeConfig(source, stored)
		if err != nil {
			t.Fatalf("%s was accepted, but not as stored, %s: %v", blob, stored, err)
		}
		if again := must[[]byte](t)(json.Marshal(second)); !slices.Equal(again, stored) {
			t.Errorf("%s became %s", stored, again)
		}
		if one, two := fmt.Sprint(PlanOf(first)), fmt.Sprint(PlanOf(second)); one != two {
			t.Errorf("plan %s became %s", one, two)
		}
	})
}
