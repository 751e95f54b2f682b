package store

import (
	"database/sql"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/fstest"
)

func TestEachRightIncludesReadAndAdminIncludesAll(t *testing.T) {
	for names, want := range map[string]string{
		"read": "read", "deploy": "read,deploy", "env": "read,env", "run": "read,run", "admin": "read,deploy,env,run,admin",
		"env,deploy,env": "read,deploy,env", "": "", "root": "", "root,env": "read,env",
	} {
		got := must[Rights](t)(readRights(names))
		if got.String() != want {
			t.Errorf("rights %q are %q, want %q", names, got, want)
		}
		for _, app := range []string{"", "hello", "other"} {
			for _, right := range append(slices.Clone(allRights), "", "root") {
				may := slices.Contains(got, right)
				if everywhere := (Token{Rights: got}).May(right, app); everywhere != may {
					t.Errorf("a token with %q may %q on %q: %t", names, right, app, everywhere)
				}
				if limited := (Token{Rights: got, App: "hello"}).May(right, app); limited != (may && app == "hello") {
					t.Errorf("a token of hello with %q may %q on %q: %t", names, right, app, limited)
				}
			}
		}
	}
	if all := (Rights{RightAdmin}); !all.Includes(Rights{RightEnv, RightRun}) || (Rights{RightDeploy}).Includes(Rights{RightRead, RightEnv}) {
		t.Error("Includes is wrong")
	}
}

// A token of an earlier version keeps what its scope allowed, but for environment variables.
func TestScopesBecomeRights(t *testing.T) {
	dir := t.TempDir()
	check(t, openStore(t, dir).Close()) // makes the key
	check(t, os.Remove(filepath.Join(dir, "shipgate.db")))
	old := fstest.MapFS{}
	for _, name := range must[[]string](t)(fs.Glob(migrations, "migrations/*.sql"))[:5] {
		old[name] = &fstest.MapFile{Data: must[[]byte](t)(fs.ReadFile(migrations, name))}
	}
	before := &Store{dir: dir}
	db := must[*sql.DB](t)(before.connect("", 1))
	check(t, migrate(t.Context(), db, dir, old))
	for id, scope := range []string{"admin", "deploy", "read", "emperor"} {
		_, err := db.ExecContext(t.Context(), `INSERT INTO tokens (id, name, hash, app, scope, created_at) VALUES (?, ?, ?, '', ?, 1)`, id+1, scope, []byte(scope), scope)
		check(t, err)
	}
	check(t, db.Close())
	want := map[string]string{"admin": "read,deploy,env,run,admin", "deploy": "read,deploy", "read": "read", "emperor": ""}
	for _, token := range must[[]Token](t)(openStore(t, dir).Tokens(t.Context())) {
		if token.Rights.String() != want[token.Name] {
			t.Errorf("scope %s became %q, want %q", token.Name, token.Rights, want[token.Name])
		}
		if scoped, err := RightsOfScope(token.Name); (err == nil) != (want[token.Name] != "") || scoped.String() != want[token.Name] {
			t.Errorf("scope %s means %q, %v", token.Name, scoped, err)
		}
		delete(want, token.Name)
	}
	if len(want) > 0 {
		t.Errorf("no token has the scope %v", want)
	}
}

func TestRightsAreAListInJSON(t *testing.T) {
	text := must[[]byte](t)(json.Marshal(Token{Rights: Rights{RightRead, RightEnv}}.Rights))
	if string(text) != `["read","env"]` {
		t.Errorf("rights are %s", text)
	}
}
