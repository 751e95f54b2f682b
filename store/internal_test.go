package store

import (
	"net/netip"
	"slices"
	"testing"
)

// TestCallersNeedBothSides: an app may call another when its Release says so and the other one's config does now.
func TestCallersNeedBothSides(t *testing.T) {
	s := newStore(t)
	for name, config := range map[string]string{
		"web":   `{"calls":["api","docs","gone"]}`,
		"api":   `{"allow_from":["web","nosy"],"calls":["api"]}`,
		"docs":  `{"allow_from":["other"]}`,
		"plain": `{}`,
	} {
		must[App](t)(s.CreateApp(t.Context(), App{Name: name, Source: SourceDockerfile, Config: []byte(config)}))
		place(t, s, name, config)
	}
	want := map[string][]string{"web": {"api"}, "api": nil}
	check := func() {
		t.Helper()
		got := map[string][]string{}
		for _, caller := range must[[]Caller](t)(s.Callers(t.Context())) {
			got[caller.App] = caller.May
			if !netip.MustParsePrefix("10.214.0.0/24").Contains(caller.Address) {
				t.Errorf("%s has the address %s", caller.App, caller.Address)
			}
		}
		if len(got) != len(want) || !slices.Equal(got["web"], want["web"]) || !slices.Equal(got["api"], want["api"]) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	check()

	docs := must[App](t)(s.App(t.Context(), "docs"))
	docs.Config = []byte(`{"allow_from":["web"]}`)
	must[App](t)(s.UpdateApp(t.Context(), docs))
	want["web"] = []string{"api", "docs"}
	check()

	if err := s.DestroyApp(t.Context(), "api"); err != nil {
		t.Fatal(err)
	}
	must[App](t)(s.CreateApp(t.Context(), App{Name: "api", Source: SourceDockerfile, Config: []byte(`{}`)}))
	want = map[string][]string{"web": {"docs"}}
	check()
}

// place gives the app a built deployment with an address.
func place(t *testing.T, s *Store, app, config string) {
	t.Helper()
	d := claimed(t, s, app)
	release := Release{App: app, Deployment: d.ID, SHA: d.SHA, Source: SourceDockerfile, Config: []byte(config), SealedEnv: must[[]byte](t)(s.SealEnv(nil))}
	d = must[Deployment](t)(s.Advance(t.Context(), d, StepBuilt, Change{Release: &release}))
	must[Deployment](t)(s.PlaceContainer(t.Context(), d, subnet(t, "10.214.0.0/24", "10.214.0.1"), 8080))
}

func TestCallsAreNamesOfApps(t *testing.T) {
	for _, config := range []string{`{"calls":["a.b"]}`, `{"calls":[""]}`, `{"allow_from":["*"]}`, `{"allow_from":["web","web"]}`, `{"calls":["A"]}`} {
		_, err := DecodeConfig(SourceDockerfile, []byte(config))
		if err == nil {
			t.Errorf("%s is accepted", config)
		}
	}
	_, err := DecodeConfig(SourceStatic, []byte(`{"calls":["api"]}`))
	wantProblem(t, err, CodeUsage, "mode deno")
	for _, config := range []string{`{"mode":"deno","calls":["api"]}`, `{"allow_from":["web"]}`} {
		if _, err := DecodeConfig(SourceStatic, []byte(config)); err != nil {
			t.Errorf("%s: %v", config, err)
		}
	}
}
