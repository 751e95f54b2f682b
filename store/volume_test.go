package store

import (
	"database/sql"
	"io/fs"
	"testing"
)

func TestVolumeSpelling(t *testing.T) {
	for text, want := range map[string]Volume{
		"data:/data":    {Name: "data", Path: "/data"},
		"data:/data:rw": {Name: "data", Path: "/data"},
		"data:/data:ro": {Name: "data", Path: "/data", ReadOnly: true},
	} {
		if got := must[Volume](t)(ParseVolume(text)); got != want {
			t.Errorf("%s: %+v, want %+v", text, got, want)
		}
		config := must[Config](t)(DecodeConfig(SourceImage, []byte(`{"image":"a","volumes":["`+text+`"]}`)))
		if got := config.Shared().Volumes; len(got) != 1 || got[0] != want {
			t.Errorf("config %s: %+v, want %+v", text, got, want)
		}
	}
	for _, text := range []string{"data", "data:/data:z", "data:/data:ro,z", "data:/data:nocopy", "data:/data:", "data:/a:/b", "data:/data:ro:rw"} {
		if _, err := ParseVolume(text); CodeOf(err) != CodeUsage {
			t.Errorf("%s: %v", text, err)
		} else if problem, _ := AsProblem(err); problem.Hint == "" {
			t.Errorf("%s has no hint", text)
		}
		if _, err := DecodeConfig(SourceImage, []byte(`{"image":"a","volumes":["`+text+`"]}`)); CodeOf(err) != CodeUsage {
			t.Errorf("config %s: %v", text, err)
		}
	}
	for _, object := range []string{`{"name":"data","path":"/data:rw"}`, `{"name":"data","path":"/data:z"}`, `{"name":"data","path":"/data","mode":"rw"}`} {
		if _, err := DecodeConfig(SourceImage, []byte(`{"image":"a","volumes":[`+object+`]}`)); CodeOf(err) != CodeUsage {
			t.Errorf("config %s: %v", object, err)
		}
	}
}

// Configs that were stored with an option in the path are decoded after the migration.
func TestStoredVolumePathsAreMended(t *testing.T) {
	db := must[*sql.DB](t)(sql.Open("sqlite", ":memory:"))
	defer db.Close()
	db.SetMaxOpenConns(1)
	for n, text := range migrationTexts(t)[:5] {
		if _, err := db.Exec(text); err != nil {
			t.Fatal(n, err)
		}
	}
	const config = `{"image":"a","volumes":[{"name":"a","path":"/a:rw"},{"name":"b","path":"/b:ro,z"},{"name":"c","path":"/c","read_only":true},{"name":"d","path":"/d:z","read_only":true}]}`
	if _, err := db.Exec(`INSERT INTO apps (name, source, config, created_at) VALUES ('hello', 'image', ?, 1)`, config); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(migrationTexts(t)[5]); err != nil {
		t.Fatal(err)
	}
	var mended string
	if err := db.QueryRow(`SELECT config FROM apps`).Scan(&mended); err != nil {
		t.Fatal(err)
	}
	want := []Volume{{"a", "/a", false}, {"b", "/b", true}, {"c", "/c", true}, {"d", "/d", true}}
	got := must[Config](t)(DecodeConfig(SourceImage, []byte(mended))).Shared().Volumes
	if len(got) != len(want) {
		t.Fatalf("%s", mended)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%+v, want %+v", got[i], want[i])
		}
	}
}

// migrationTexts returns the migrations in their order.
func migrationTexts(t *testing.T) (texts []string) {
	t.Helper()
	for _, name := range must[[]string](t)(fs.Glob(migrations, "migrations/*.sql")) {
		texts = append(texts, string(must[[]byte](t)(migrations.ReadFile(name))))
	}
	return texts
}
