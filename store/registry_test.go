package store

import (
	"database/sql"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/fstest"
	"time"
)

func TestRegistryLogins(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	if _, _, found, err := s.RegistryLogin(t.Context(), "", "ghcr.io"); found || err != nil {
		t.Errorf("before any: %t, %v", found, err)
	}
	before := time.Now().Truncate(time.Microsecond)
	check(t, s.SetRegistry(t.Context(), "", "ghcr.io", "mona", "first-password"))
	check(t, s.SetRegistry(t.Context(), "", "GHCR.io", "octo", "second-password")) // in its place
	check(t, s.SetRegistry(t.Context(), "", "127.0.0.1:5000", "local", "third-password"))
	username, password, found, err := s.RegistryLogin(t.Context(), "", "ghcr.io")
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
	check(t, s.RemoveRegistry(t.Context(), "", "https://ghcr.io/"))
	if _, _, found, err := s.RegistryLogin(t.Context(), "", "ghcr.io"); found || err != nil {
		t.Errorf("after its removal: %t, %v", found, err)
	}
	wantProblem(t, s.RemoveRegistry(t.Context(), "", "ghcr.io"), CodeNotFound, "ghcr.io", "shipgate registry list")
	if left := must[[]Registry](t)(s.Registries(t.Context())); len(left) != 1 || left[0].Host != "127.0.0.1:5000" {
		t.Errorf("left are %+v", left)
	}
}

// A server that starts anew masks the password as soon as it is used.
func TestRegistryPasswordIsMaskedByTheNextProcess(t *testing.T) {
	dir := t.TempDir()
	first := openStore(t, dir)
	check(t, first.SetRegistry(t.Context(), "", "ghcr.io", "mona", "a-long-password"))
	check(t, first.Close())
	s := openStore(t, dir)
	_, password, found, err := s.RegistryLogin(t.Context(), "", "ghcr.io")
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
	check(t, s.SetRegistry(t.Context(), "", "ghcr.io", "mona", "a-long-password"))
	_, err := s.write.Exec(`UPDATE registries SET host = 'evil.example'`)
	check(t, err)
	if _, password, found, err := s.RegistryLogin(t.Context(), "", "evil.example"); err == nil || found || password != "" {
		t.Errorf("they were opened: %q, %t, %v", password, found, err)
	}
}

func TestRegistryHosts(t *testing.T) {
	s := newStore(t)
	for _, name := range []string{"docker.io", "index.docker.io", "registry-1.docker.io", "hub.docker.com", "https://index.docker.io/v1/", "Docker.IO/"} {
		check(t, s.SetRegistry(t.Context(), "", name, "mona", "a-long-password"))
		if all := must[[]Registry](t)(s.Registries(t.Context())); len(all) != 1 || all[0].Host != "docker.io" {
			t.Errorf("%s is stored as %+v", name, all)
		}
		if _, _, found, err := s.RegistryLogin(t.Context(), "", name); !found || err != nil {
			t.Errorf("%s: %t, %v", name, found, err)
		}
		check(t, s.RemoveRegistry(t.Context(), "", name))
	}
	for _, host := range []string{"", "/", "ghcr.io/acme", "http://ghcr.io", "-a", "a-", "a b", "a:b", "a:", "a:123456", "user@ghcr.io", "a\nb", "a_b"} {
		wantProblem(t, s.SetRegistry(t.Context(), "", host, "mona", "a-long-password"), CodeUsage, "not a host", "shipgate registry login ghcr.io")
		wantProblem(t, s.RemoveRegistry(t.Context(), "", host), CodeUsage)
		_, _, _, err := s.RegistryLogin(t.Context(), "", host)
		wantProblem(t, err, CodeUsage)
	}
	wantProblem(t, s.SetRegistry(t.Context(), "", "ghcr.io", "", "a-long-password"), CodeUsage, "user name", "shipgate registry login ghcr.io")
	wantProblem(t, s.SetRegistry(t.Context(), "", "ghcr.io", "mona", ""), CodeUsage, "password")
	if all := must[[]Registry](t)(s.Registries(t.Context())); len(all) != 0 {
		t.Errorf("refused, and yet stored: %+v", all)
	}
}

// A login of one app is used by that app only, and before the one for all.
func TestRegistryLoginsOfApps(t *testing.T) {
	s := newStore(t)
	for _, app := range []string{"one", "two"} {
		must[App](t)(s.CreateApp(t.Context(), App{Name: app, Source: "static"}))
	}
	uses := func(app, host, username string) {
		t.Helper()
		got, password, found, err := s.RegistryLogin(t.Context(), app, host)
		if err != nil || got != username || found != (username != "") || found && password != "password-of-"+username {
			t.Errorf("%s at %s: %q, %q, %t, %v", app, host, got, password, found, err)
		}
	}
	set := func(app, host, username string) {
		t.Helper()
		check(t, s.SetRegistry(t.Context(), app, host, username, "password-of-"+username))
	}
	set("one", "ghcr.io", "mona")
	uses("one", "ghcr.io", "mona")
	uses("two", "ghcr.io", "")
	uses("", "ghcr.io", "")
	for app, want := range map[string]bool{"one": false, "two": true} {
		if others, err := s.RegistryLoginOfOthers(t.Context(), app, "GHCR.io"); err != nil || others != want {
			t.Errorf("login of others than %s: %t, %v", app, others, err)
		}
	}
	set("", "ghcr.io", "all")
	set("one", "ghcr.io", "octo") // in place of mona
	uses("one", "ghcr.io", "octo")
	uses("two", "ghcr.io", "all")
	var listed []string
	for _, r := range must[[]Registry](t)(s.Registries(t.Context())) {
		listed = append(listed, r.Host+" "+r.App+" "+r.Username)
	}
	if want := []string{"ghcr.io  all", "ghcr.io one octo"}; !slices.Equal(listed, want) {
		t.Errorf("listed %q, want %q", listed, want)
	}
	wantProblem(t, s.SetRegistry(t.Context(), "none", "ghcr.io", "mona", "a-long-password"), CodeNotFound, "none")
	wantProblem(t, s.RemoveRegistry(t.Context(), "two", "ghcr.io"), CodeNotFound, "of app two", "ghcr.io")
	check(t, s.RemoveRegistry(t.Context(), "", "ghcr.io"))
	uses("one", "ghcr.io", "octo")
	uses("two", "ghcr.io", "")
	check(t, s.DestroyApp(t.Context(), "one"))
	must[App](t)(s.CreateApp(t.Context(), App{Name: "one", Source: "static"}))
	uses("one", "ghcr.io", "") // it is another app
}

// The logins that an earlier version stored are for all apps.
func TestEarlierRegistryLoginsAreForAll(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	box := s.sealed("registry:ghcr.io", []byte("a-long-password"))
	check(t, s.Close())
	check(t, os.Remove(filepath.Join(dir, "shipgate.db")))
	old := fstest.MapFS{}
	for _, name := range must[[]string](t)(fs.Glob(migrations, "migrations/*.sql"))[:5] {
		old[name] = &fstest.MapFile{Data: must[[]byte](t)(fs.ReadFile(migrations, name))}
	}
	db := must[*sql.DB](t)((&Store{dir: dir}).connect("", 1))
	check(t, migrate(t.Context(), db, dir, old))
	_, err := db.ExecContext(t.Context(), `INSERT INTO registries (host, username, sealed, updated_at) VALUES ('ghcr.io', 'mona', ?, 1)`, box)
	check(t, err)
	check(t, db.Close())
	s = openStore(t, dir)
	if username, password, _, err := s.RegistryLogin(t.Context(), "any", "ghcr.io"); username != "mona" || password != "a-long-password" || err != nil {
		t.Errorf("login is %q, %q, %v", username, password, err)
	}
	if all := must[[]Registry](t)(s.Registries(t.Context())); len(all) != 1 || all[0].App != "" {
		t.Errorf("registries %+v", all)
	}
}

// A row that is moved to another app or made one for all cannot be opened.
func TestRegistryLoginBelongsToItsApp(t *testing.T) {
	s := newStore(t)
	for _, app := range []string{"one", "two"} {
		must[App](t)(s.CreateApp(t.Context(), App{Name: app, Source: "static"}))
	}
	check(t, s.SetRegistry(t.Context(), "one", "ghcr.io", "mona", "a-long-password"))
	for _, owner := range []string{"NULL", "(SELECT id FROM apps WHERE name = 'two')"} {
		_, err := s.write.Exec(`UPDATE registries SET app = ` + owner)
		check(t, err)
		if _, password, found, err := s.RegistryLogin(t.Context(), "two", "ghcr.io"); err == nil || found || password != "" {
			t.Errorf("moved to %s: %q, %t, %v", owner, password, found, err)
		}
	}
}
