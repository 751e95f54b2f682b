package store

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestTokens(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	newApp(t, s, "hello")
	until := time.Now().Add(time.Hour)
	secret, created, err := s.CreateToken(t.Context(), Token{Name: "ci-of-hello", Rights: Rights{RightDeploy}, App: "hello", ExpiresAt: until})
	check(t, err)
	got := must[Token](t)(s.Authenticate(t.Context(), secret))
	if got.ID != created.ID || got.ID == 0 || got.Name != "ci-of-hello" || got.Rights.String() != "read,deploy" || got.App != "hello" ||
		!got.ExpiresAt.Equal(created.ExpiresAt) || !got.CreatedAt.Equal(created.CreatedAt) {
		t.Errorf("created %+v, authenticated %+v", created, got)
	}
	if inAnyFile(t, dir, []byte(secret)) || inAnyFile(t, dir, []byte(strings.TrimPrefix(secret, "sg_"))) {
		t.Error("the secret is in the database")
	}
	if !inAnyFile(t, dir, []byte("ci-of-hello")) {
		t.Error("the token's name is not in the database either: this test looks in the wrong place")
	}
	if listed := must[[]Token](t)(s.Tokens(t.Context())); len(listed) != 1 || listed[0].LastUsedAt.IsZero() {
		t.Errorf("listed %+v, want the one with its last use", listed)
	}
	for _, wrong := range []string{"", "sg_", secret + "0", strings.ToUpper(secret), secret[:len(secret)-1]} {
		_, err := s.Authenticate(t.Context(), wrong)
		wantProblem(t, err, CodeUnauthorised, "not valid", "token create")
	}
	check(t, s.RevokeToken(t.Context(), created.ID))
	_, err = s.Authenticate(t.Context(), secret)
	wantProblem(t, err, CodeUnauthorised)
	wantProblem(t, s.RevokeToken(t.Context(), created.ID), CodeNotFound)
}

func TestExpiredToken(t *testing.T) {
	s := newStore(t)
	for after, valid := range map[time.Duration]bool{-time.Second: false, time.Hour: true} {
		secret, _, err := s.CreateToken(t.Context(), Token{Rights: Rights{RightRead}, ExpiresAt: time.Now().Add(after)})
		check(t, err)
		if _, err := s.Authenticate(t.Context(), secret); (err == nil) != valid || (err != nil && CodeOf(err) != CodeUnauthorised) {
			t.Errorf("%s from its end: %v", after, err)
		}
	}
}

func TestTokensThatAreRefused(t *testing.T) {
	s := newStore(t)
	for _, c := range []struct {
		token Token
		code  Code
		says  string
	}{{Token{Rights: Rights{"root"}}, CodeUsage, "read, deploy, env, run, admin"}, {Token{}, CodeUsage, "read, deploy, env, run, admin"}, {Token{Rights: Rights{RightRead}, App: "none"}, CodeNotFound, "none"}} {
		secret, token, err := s.CreateToken(t.Context(), c.token)
		wantProblem(t, err, c.code, c.says)
		if secret != "" || token.ID != 0 {
			t.Errorf("refused, and yet given: %q %+v", secret, token)
		}
	}
}

func TestAdminToken(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	file := filepath.Join(dir, "admin-token")
	ensured := func() string {
		t.Helper()
		check(t, s.EnsureAdminToken(t.Context()))
		secret := strings.TrimSpace(string(must[[]byte](t)(os.ReadFile(file))))
		if token := must[Token](t)(s.Authenticate(t.Context(), secret)); !token.May(RightAdmin, "") {
			t.Errorf("the admin token is %+v", token)
		}
		if mode := must[os.FileInfo](t)(os.Stat(file)).Mode().Perm(); mode != 0o600 {
			t.Errorf("admin-token has mode %o", mode)
		}
		return secret
	}
	first := ensured()
	if ensured() != first {
		t.Error("a valid admin token was replaced")
	}
	if tokens := must[[]Token](t)(s.Tokens(t.Context())); len(tokens) != 1 {
		t.Errorf("%d tokens, want 1", len(tokens))
	}
	check(t, s.RevokeToken(t.Context(), 1))
	second := ensured()
	weak, _, err := s.CreateToken(t.Context(), Token{Name: "weak", Rights: Rights{RightRead}})
	check(t, err)
	for what, content := range map[string]string{"empty": "", "junk": "junk\n", "not an admin's": weak} {
		check(t, os.WriteFile(file, []byte(content), 0o600))
		if got := ensured(); got == first || got == second {
			t.Errorf("%s: not replaced", what)
		}
	}
	check(t, os.Remove(file))
	ensured()
}
