package store

import (
	"slices"
	"strings"
	"testing"
)

// claimedWith stores an app with a blob as it may have been written by any version, and claims its first deployment.
func claimedWith(t *testing.T, source Source, blob string) (d Deployment, history []string) {
	t.Helper()
	s := newStore(t)
	must[App](t)(s.CreateApp(t.Context(), App{Name: "app", Source: source, Config: []byte(blobOf(source))}))
	_, err := s.write.Exec(`UPDATE apps SET config = ?`, blob)
	check(t, err)
	d = claimed(t, s, "app")
	return d, texts(t, s, d.ID)
}

// TestStrategyTable has the rows of the table of behaviour that are decided here, each from a stored blob to the strategy
// that a deployment gets and the history that says so. What the strategies do is proved where they run.
func TestStrategyTable(t *testing.T) {
	t.Run("dockerfile, static and image take empty, recreate and blue-green, and refuse rolling and junk naming the legal values", func(t *testing.T) {
		for _, source := range []Source{SourceDockerfile, SourceStatic, SourceImage} {
			for _, value := range []string{"", "recreate", "blue-green"} {
				if _, err := DecodeConfig(source, []byte(blobOf(source, `"deploy_strategy":"`+value+`"`))); err != nil {
					t.Errorf("%s refuses %q: %v", source, value, err)
				}
			}
			for _, value := range []string{"rolling", "junk"} {
				_, err := DecodeConfig(source, []byte(blobOf(source, `"deploy_strategy":"`+value+`"`)))
				wantProblem(t, err, CodeUsage, value, "use recreate or blue-green")
			}
		}
	})
	t.Run("compose refuses blue-green, and takes recreate and empty", func(t *testing.T) {
		for _, value := range []string{"blue-green", "rolling", "junk"} {
			_, err := DecodeConfig(SourceCompose, []byte(`{"deploy_strategy":"`+value+`"}`))
			wantProblem(t, err, CodeUsage, value, "leave it out or use recreate")
		}
		for _, value := range []string{"", "recreate"} {
			wantStrategy(t, SourceCompose, `{"deploy_strategy":"`+value+`"}`, Recreate)
		}
	})
	t.Run("an old blob without the key keeps its meaning: image blue-green, others recreate", func(t *testing.T) {
		wantStrategy(t, SourceImage, `{"image":"example.com/app:1"}`, BlueGreen)
		wantStrategy(t, SourceDockerfile, `{"repo_owner":"octo","repo_name":"site","port":80}`, Recreate)
		wantStrategy(t, SourceDockerfile, ``, Recreate)
		wantStrategy(t, SourceStatic, `{"publish_dir":"public"}`, Recreate)
		wantStrategy(t, SourceStatic, `{"mode":"deno"}`, Recreate)
		wantStrategy(t, SourceStatic, `{"mode":"deno","storage_enabled":true}`, Recreate)
		wantStrategy(t, SourceCompose, `{"service":"web"}`, Recreate)
	})
	t.Run("static with an empty strategy is recreate", func(t *testing.T) {
		wantStrategy(t, SourceStatic, `{"deploy_strategy":""}`, Recreate)
	})
	t.Run("static blue-green is blue-green", func(t *testing.T) {
		wantStrategy(t, SourceStatic, `{"deploy_strategy":"blue-green"}`, BlueGreen)
	})
	t.Run("deno with storage and blue-green is recreate, forced, and an Event says why", func(t *testing.T) {
		blob := `{"mode":"deno","storage_enabled":true,"deploy_strategy":"blue-green"}`
		d, history := claimedWith(t, SourceStatic, blob)
		const why = "storage is enabled, and two writers must not share one volume"
		if d.Strategy != Recreate || d.StrategyReason != why {
			t.Errorf("it is %s: %s", d.Strategy, d.StrategyReason)
		}
		if !slices.Contains(history, "plan blue-green was asked for and is not possible: "+why) {
			t.Errorf("nothing says so: %q", history)
		}
		if plan := PlanOf(must[Config](t)(DecodeConfig(SourceStatic, []byte(blob)))); !plan.Forced {
			t.Errorf("the plan is %+v", plan)
		}
	})
	t.Run("deno with storage and without blue-green is recreate, and nothing was forced", func(t *testing.T) {
		for _, blob := range []string{`{"mode":"deno","storage_enabled":true}`, `{"mode":"deno","storage_enabled":true,"deploy_strategy":"recreate"}`} {
			wantStrategy(t, SourceStatic, blob, Recreate)
		}
	})
	t.Run("deno without storage and blue-green is blue-green", func(t *testing.T) {
		wantStrategy(t, SourceStatic, `{"mode":"deno","deploy_strategy":"blue-green"}`, BlueGreen)
		wantStrategy(t, SourceStatic, `{"mode":"deno","storage_enabled":false,"deploy_strategy":"blue-green"}`, BlueGreen)
	})
	t.Run("deno without storage and with an empty strategy is recreate, as all but image", func(t *testing.T) {
		wantStrategy(t, SourceStatic, `{"mode":"deno","deploy_strategy":""}`, Recreate)
	})
	t.Run("image with an empty strategy is blue-green", func(t *testing.T) {
		wantStrategy(t, SourceImage, blobOf(SourceImage, `"deploy_strategy":""`), BlueGreen)
	})
	t.Run("explicit recreate on image is recreate", func(t *testing.T) {
		wantStrategy(t, SourceImage, blobOf(SourceImage, again), Recreate)
	})
	t.Run("dockerfile is what it says", func(t *testing.T) {
		wantStrategy(t, SourceDockerfile, `{"deploy_strategy":"blue-green"}`, BlueGreen)
		wantStrategy(t, SourceDockerfile, `{"deploy_strategy":"recreate"}`, Recreate)
	})
	t.Run("the name of a container is unique to the deployment", func(t *testing.T) {
		if ContainerName("1", "app", 1) == ContainerName("1", "app", 2) || CommandName("1", "app", 1) == ContainerName("1", "app", 1) {
			t.Error("two containers would have one name")
		}
	})
}

// wantStrategy checks what a deployment gets that nobody forced to anything.
func wantStrategy(t *testing.T, source Source, blob string, want Strategy) {
	t.Helper()
	d, history := claimedWith(t, source, blob)
	if d.Strategy != want || d.StrategyReason == "" {
		t.Errorf("%s %s is %s: %q; want %s", source, blob, d.Strategy, d.StrategyReason, want)
	}
	if plans := slices.DeleteFunc(history, func(line string) bool { return !strings.HasPrefix(line, "plan ") }); len(plans) != 1 || !strings.HasPrefix(plans[0], "plan "+string(want)+": ") {
		t.Errorf("%s %s: the history says %q", source, blob, plans)
	}
}
