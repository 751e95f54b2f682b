package store

import (
	"slices"
	"testing"
	"time"
)

func TestRegistryLogins(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	if _, _, found, err := s.RegistryLogin(t.Context(), "ghcr.io"); found || err != nil {
		t.Errorf("before any: %t, %v", found, err)
	}
	before := time.Now().Truncate(time.Microsecond)
	check(t, s.SetRegistry(t.Context(), "ghcr.io", "mona", "first-password"))
	check(t, s.SetRegistry(t.Context(), "GHCR.io", "octo", "second-password")) // in its place
	check(t, s.SetRegistry(t.Context(), "127.0.0.1:5000", "local", "third-password"))
	username, password, found, err := s.RegistryLogin(t.Context(), "ghcr.io")
	if username != "octo" || password != "second-password" || !found || err != nil {
		t.Errorf("login is %q, %q, %t, %v", username, password, found, err)
	}
	var hosts []string
	for _, registry := range must[[]Registry](t)(s.Registries(t.Context())) {
		hosts = append(hosts, registry.Host+" "+registry.Username)
		if registry.UpdatedAt.Before(before) || registry.UpdatedAt.After(time.Now()) {
			t.Errorf("%s was changed at %s", registry.Host, registry.UpdatedAt)
		}
	}
	if want := []string{"127.0.0.1:5000 local", "ghcr.io octo"}; !slices.Equal(hosts, want) {
		t.Errorf("registries %q, want %q", hosts, want)
	}
	for _, secret := range []string{"first-password", "second-password", "third-password"} {
		if inAnyFile(t, dir, []byte(secret)) {
			t.Errorf("%s is in the database as it is", secret)
		}
		if masked := s.Masked("it says " + secret); masked == "it says "+secret {
			t.Errorf("%s is not masked", secret)
		}
	}
	check(t, s.RemoveRegistry(t.Context(), "https://ghcr.io/"))
	if _, _, found, err := s.RegistryLogin(t.Context(), "ghcr.io"); found || err != nil {
		t.Errorf("after its removal: %t, %v", found, err)
	}
	wantProblem(t, s.RemoveRegistry(t.Context(), "ghcr.io"), CodeNotFound, "ghcr.io", "shipgate registry list")
	if left := must[[]Registry](t)(s.Registries(t.Context())); len(left) != 1 || left[0].Host != "127.0.0.1:5000" {
		t.Errorf("left are %+v", left)
	}
}

// A server that starts anew masks the password as soon as it is used.
func TestRegistryPasswordIsMaskedByTheNextProcess(t *testing.T) {
	dir := t.TempDir()
	first := openStore(t, dir)
	check(t, first.SetRegistry(t.Context(), "ghcr.io", "mona", "a-long-password"))
	check(t, first.Close())
	s := openStore(t, dir)
	_, password, found, err := s.RegistryLogin(t.Context(), "ghcr.io")
	if password != "a-long-password" || !found || err != nil {
		t.Errorf("read %q, %t, %v", password, found, err)
	}
	if s.Masked("a-long-password") == "a-long-password" {
		t.Error("the password is not masked")
	}
}

// Sealed credentials belong to their host: moved to another one they cannot be opened.
func TestRegistryCredentialsCannotBeMoved(t *testing.T) {
	s := newStore(t)
	check(t, s.SetRegistry(t.Context(), "ghcr.io", "mona", "a-long-password"))
	_, err := s.write.Exec(`UPDATE registries SET host = 'evil.example'`)
	check(t, err)
	if _, password, found, err := s.RegistryLogin(t.Context(), "evil.example"); err == nil || found || password != "" {
		t.Errorf("they were opened: %q, %t, %v", password, found, err)
	}
}

func TestRegistryHosts(t *testing.T) {
	s := newStore(t)
	for _, name := range []string{"docker.io", "index.docker.io", "registry-1.docker.io", "hub.docker.com", "https://index.docker.io/v1/", "Docker.IO/"} {
		check(t, s.SetRegistry(t.Context(), name, "mona", "a-long-password"))
		if all := must[[]Registry](t)(s.Registries(t.Context())); len(all) != 1 || all[0].Host != "docker.io" {
			t.Errorf("%s is stored as %+v", name, all)
		}
		if _, _, found, err := s.RegistryLogin(t.Context(), name); !found || err != nil {
			t.Errorf("%s: %t, %v", name, found, err)
		}
		check(t, s.RemoveRegistry(t.Context(), name))
	}
	for _, host := range []string{"", "/", "ghcr.io/acme", "http://ghcr.io", "-a", "a-", "a b", "a:b", "a:", "a:123456", "user@ghcr.io", "a\nb", "a_b"} {
		wantProblem(t, s.SetRegistry(t.Context(), host, "mona", "a-long-password"), CodeUsage, "not a host", "shipgate registry login ghcr.io")
		wantProblem(t, s.RemoveRegistry(t.Context(), host), CodeUsage)
		_, _, _, err := s.RegistryLogin(t.Context(), host)
		wantProblem(t, err, CodeUsage)
	}
	wantProblem(t, s.SetRegistry(t.Context(), "ghcr.io", "", "a-long-password"), CodeUsage, "user name", "shipgate registry login ghcr.io")
	wantProblem(t, s.SetRegistry(t.Context(), "ghcr.io", "mona", ""), CodeUsage, "password")
	if all := must[[]Registry](t)(s.Registries(t.Context())); len(all) != 0 {
		t.Errorf("refused, and yet stored: %+v", all)
	}
}
