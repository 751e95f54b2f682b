package store

import (
	"strings"
	"testing"
)

// base is the least that each source needs in its blob.
var base = map[Source]string{SourceDockerfile: ``, SourceStatic: ``, SourceImage: `"image":"example.com/app:1"`, SourceCompose: ``}

func blobOf(source Source, fields ...string) string {
	return "{" + strings.Join(append(nonEmpty(base[source]), nonEmpty(fields...)...), ",") + "}"
}

func nonEmpty(fields ...string) (kept []string) {
	for _, field := range fields {
		if field != "" {
			kept = append(kept, field)
		}
	}
	return kept
}

const (
	window = "no health check, so it must accept connections and live for 2s"
	site   = "static files, switched in one step"
	stack  = "Compose manages the stack itself"
	gap    = "requests wait while it restarts, for 30s at the most"
)

// TestStrategies is the table of DESIGN section 5: every source with every deploy_strategy. An empty strategy is refused.
func TestStrategies(t *testing.T) {
	for source, rows := range map[Source]map[string]Plan{
		SourceDockerfile: {
			"absent": {Recreate, window, gap, false}, `""`: {Recreate, window, gap, false},
			`"recreate"`: {Recreate, window, gap, false}, `"blue-green"`: {BlueGreen, window, noGap, false},
			`"rolling"`: {}, `"junk"`: {}, `"Recreate"`: {}, `" recreate"`: {}, `"blue_green"`: {},
		},
		SourceStatic: {
			"absent": {Recreate, site, noGap, false}, `""`: {Recreate, site, noGap, false},
			`"recreate"`: {Recreate, site, noGap, false}, `"blue-green"`: {BlueGreen, site, noGap, false},
			`"rolling"`: {}, `"junk"`: {}, `"Recreate"`: {}, `" recreate"`: {}, `"blue_green"`: {},
		},
		SourceImage: {
			"absent": {BlueGreen, window, noGap, false}, `""`: {BlueGreen, window, noGap, false},
			`"recreate"`: {Recreate, window, gap, false}, `"blue-green"`: {BlueGreen, window, noGap, false},
			`"rolling"`: {}, `"junk"`: {}, `"Recreate"`: {}, `" recreate"`: {}, `"blue_green"`: {},
		},
		SourceCompose: {
			"absent": {Recreate, stack, gap, false}, `""`: {Recreate, stack, gap, false}, `"recreate"`: {Recreate, stack, gap, false},
			`"blue-green"`: {}, `"rolling"`: {}, `"junk"`: {}, `"Recreate"`: {}, `" recreate"`: {}, `"blue_green"`: {},
		},
	} {
		for value, want := range rows {
			t.Run(string(source)+" "+value, func(t *testing.T) {
				field := `"deploy_strategy":` + value
				if value == "absent" {
					field = ""
				}
				config, err := DecodeConfig(source, []byte(blobOf(source, field)))
				if want == (Plan{}) {
					legal := []string{"recreate", "blue-green"}
					if source == SourceCompose {
						legal = []string{"leave it out or use recreate", value}
					}
					wantProblem(t, err, CodeUsage, legal...)
					return
				}
				check(t, err)
				if got := PlanOf(config); got != want {
					t.Errorf("got  %+v\nwant %+v", got, want)
				}
			})
		}
	}
}

func TestPlans(t *testing.T) {
	const (
		writable = `"volumes":[{"name":"ro","path":"/ro","read_only":true},{"name":"data","path":"/data"}]`
		readOnly = `"volumes":[{"name":"data","path":"/data","read_only":true}]`
		shared   = "storage is enabled, and two writers must not share one volume"
		volume   = "volume data is writable, and two writers must not share it"
	)
	for _, c := range []struct {
		source Source
		blob   string
		want   Plan
	}{
		{SourceStatic, blobOf(SourceStatic, deno), Plan{Recreate, window, gap, false}},
		{SourceStatic, blobOf(SourceStatic, deno, green), Plan{BlueGreen, window, noGap, false}},
		{SourceStatic, blobOf(SourceStatic, deno, again), Plan{Recreate, window, gap, false}},
		{SourceStatic, blobOf(SourceStatic, deno, storage), Plan{Recreate, shared, gap, false}},
		{SourceStatic, blobOf(SourceStatic, deno, storage, again), Plan{Recreate, shared, gap, false}},
		{SourceStatic, blobOf(SourceStatic, deno, storage, green), Plan{Recreate, shared, gap, true}},
		{SourceStatic, blobOf(SourceStatic, deno, writable, green), Plan{Recreate, volume, gap, true}},
		{SourceStatic, blobOf(SourceStatic, `"mode":"static"`, green), Plan{BlueGreen, site, noGap, false}},
		{SourceStatic, blobOf(SourceStatic, writable, green), Plan{BlueGreen, site, noGap, false}},
		{SourceDockerfile, blobOf(SourceDockerfile, green, writable), Plan{Recreate, volume, gap, true}},
		{SourceDockerfile, blobOf(SourceDockerfile, again, writable), Plan{Recreate, volume, gap, false}},
		{SourceDockerfile, blobOf(SourceDockerfile, writable), Plan{Recreate, volume, gap, false}},
		{SourceDockerfile, blobOf(SourceDockerfile, green, readOnly), Plan{BlueGreen, window, noGap, false}},
		{SourceImage, blobOf(SourceImage, writable), Plan{Recreate, volume, gap, false}},
		{SourceImage, blobOf(SourceImage, green, writable), Plan{Recreate, volume, gap, true}},
		{SourceImage, blobOf(SourceImage, readOnly), Plan{BlueGreen, window, noGap, false}},
		{SourceDockerfile, blobOf(SourceDockerfile, green, `"healthcheck":{"path":"/healthz"}`), Plan{BlueGreen, "health check GET /healthz", noGap, false}},
		{SourceDockerfile, blobOf(SourceDockerfile, again, `"hold":"5s","liveness":"1m"`),
			Plan{Recreate, "no health check, so it must accept connections and live for 1m0s", "requests wait while it restarts, for 5s at the most", false}},
	} {
		config, err := DecodeConfig(c.source, []byte(c.blob))
		if err != nil {
			t.Errorf("%s %s: %v", c.source, c.blob, err)
		} else if got := PlanOf(config); got != c.want {
			t.Errorf("%s %s:\ngot  %+v\nwant %+v", c.source, c.blob, got, c.want)
		}
	}
}

func TestPlanAsAPushShowsIt(t *testing.T) {
	config := must[Config](t)(DecodeConfig(SourceImage, []byte(blobOf(SourceImage, `"healthcheck":{"path":"/healthz"}`))))
	if got, want := PlanOf(config).String(), "blue-green: health check GET /healthz; no gap expected"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
