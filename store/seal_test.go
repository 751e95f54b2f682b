package store

import (
	"bytes"
	"maps"
	"testing"
)

func TestEnv(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "hello")
	newApp(t, s, "other")
	check(t, s.SetEnv(t.Context(), "hello", map[string]string{"A": "1", "B": "", "C": "line\nbreak = ü"}))
	check(t, s.SetEnv(t.Context(), "hello", map[string]string{"A": "2"}))
	check(t, s.SetEnv(t.Context(), "other", map[string]string{"A": "theirs"}))
	if got := must[map[string]string](t)(s.Env(t.Context(), "hello")); !maps.Equal(got, map[string]string{"A": "2", "B": "", "C": "line\nbreak = ü"}) {
		t.Errorf("env is %q", got)
	}
	check(t, s.UnsetEnv(t.Context(), "hello", "A", "C", "NEVER_SET"))
	if got := must[map[string]string](t)(s.Env(t.Context(), "hello")); !maps.Equal(got, map[string]string{"B": ""}) {
		t.Errorf("after unset env is %q", got)
	}
	if got := must[map[string]string](t)(s.Env(t.Context(), "other")); got["A"] != "theirs" {
		t.Errorf("the other app's env is %q", got)
	}
	for _, bad := range []map[string]string{{"": "x"}, {"1A": "x"}, {"A-B": "x"}, {"A=B": "x"}, {"A\n": "x"}, {"OK": "nul\x00"}, {"OK": "not utf-8 \xff"}} {
		wantProblem(t, s.SetEnv(t.Context(), "other", bad), CodeUsage, "env other set")
	}
	if got := must[map[string]string](t)(s.Env(t.Context(), "other")); len(got) != 1 {
		t.Errorf("a refused value was kept: %q", got)
	}
	_, err := s.Env(t.Context(), "none")
	wantProblem(t, err, CodeNotFound)
	wantProblem(t, s.SetEnv(t.Context(), "none", map[string]string{"A": "1"}), CodeNotFound)
	wantProblem(t, s.UnsetEnv(t.Context(), "none", "A"), CodeNotFound)
}

func TestEnvIsSealedAtRest(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	newApp(t, s, "hello")
	const secret = "correct-horse-battery-staple"
	check(t, s.SetEnv(t.Context(), "hello", map[string]string{"PASSWORD_NAME": secret}))
	advanceTo(t, s, claimed(t, s, "hello"), StepLive)
	if inAnyFile(t, dir, []byte(secret)) {
		t.Error("the value is in the database")
	}
	if !inAnyFile(t, dir, []byte("PASSWORD_NAME")) {
		t.Error("the name is not in the database either: this test looks in the wrong place")
	}
	if bytes.Equal(s.sealed("p", []byte("x")), s.sealed("p", []byte("x"))) {
		t.Error("sealing twice gives the same: the nonce is not fresh")
	}
}

func TestWrongKey(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	newApp(t, s, "hello")
	check(t, s.SetEnv(t.Context(), "hello", map[string]string{"A": "1"}))
	d := advanceTo(t, s, claimed(t, s, "hello"), StepBuilt)
	check(t, s.Close())
	s = must[*Store](t)(OpenAnew(t.Context(), dir, Anew{Key: true}))
	t.Cleanup(func() { s.Close() })
	_, err := s.Env(t.Context(), "hello")
	wantProblem(t, err, CodeErrored, "secret.key", "backup")
	_, err = s.OpenEnv(must[Release](t)(s.Release(t.Context(), d.Release)))
	wantProblem(t, err, CodeErrored, "secret.key", "backup")
}

func TestASealedValueCannotStandInForAnother(t *testing.T) {
	for name, statement := range map[string]string{
		"of the same app": `UPDATE env SET sealed = (SELECT sealed FROM env WHERE name = 'PUBLIC') WHERE name = 'SECRET' AND app = 1`,
		"of another app":  `UPDATE env SET sealed = (SELECT sealed FROM env WHERE name = 'SECRET' AND app = 2) WHERE name = 'SECRET' AND app = 1`,
		"damaged":         `UPDATE env SET sealed = substr(sealed, 1, length(sealed) - 1) WHERE name = 'SECRET' AND app = 1`,
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			newApp(t, s, "one")
			newApp(t, s, "two")
			check(t, s.SetEnv(t.Context(), "one", map[string]string{"SECRET": "s", "PUBLIC": "p"}))
			check(t, s.SetEnv(t.Context(), "two", map[string]string{"SECRET": "t"}))
			_, err := s.write.Exec(statement)
			check(t, err)
			_, err = s.Env(t.Context(), "one")
			wantProblem(t, err, CodeErrored, "does not open")
		})
	}
	s := newStore(t)
	_, err := s.OpenEnv(Release{SealedEnv: s.sealed("env:one:SECRET", []byte("{}"))})
	wantProblem(t, err, CodeErrored, "does not open")
	if _, err := s.OpenEnv(Release{SealedEnv: []byte("short")}); err == nil {
		t.Error("a box that is too short was opened")
	}
}

func TestReleaseKeepsItsEnv(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "hello")
	check(t, s.SetEnv(t.Context(), "hello", map[string]string{"A": "old", "GONE": "x"}))
	d := advanceTo(t, s, claimed(t, s, "hello"), StepBuilt)
	check(t, s.SetEnv(t.Context(), "hello", map[string]string{"A": "new"}))
	check(t, s.UnsetEnv(t.Context(), "hello", "GONE"))
	got := must[map[string]string](t)(s.OpenEnv(must[Release](t)(s.Release(t.Context(), d.Release))))
	if !maps.Equal(got, map[string]string{"A": "old", "GONE": "x"}) {
		t.Errorf("the release's env is %q", got)
	}
}
