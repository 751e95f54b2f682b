package main

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// The scripts run side by side on one engine, and a container is named after its app: two scripts with an app of the
// same name would meet each other's containers.
func TestScriptsNameTheirAppsApart(t *testing.T) {
	scripts, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	created := regexp.MustCompile(`(?m)^(?:! )?exec shipgate app create ([a-z][a-z0-9-]*)`)
	owners := map[string]string{}
	for _, script := range scripts {
		text, err := os.ReadFile(script)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range created.FindAllStringSubmatch(string(text), -1) {
			if owner := owners[match[1]]; owner != "" && owner != script {
				t.Errorf("%s and %s both have an app %s", owner, script, match[1])
			}
			owners[match[1]] = script
		}
	}
	if len(owners) < len(scripts)/2 {
		t.Errorf("only %d apps were found in %d scripts", len(owners), len(scripts))
	}
}
