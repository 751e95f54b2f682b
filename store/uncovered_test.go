package store

import (
	"slices"
	"testing"
)

func TestUncoveredVolumes(t *testing.T) {
	config := &DockerfileConfig{}
	config.Volumes = []Volume{{Name: "data", Path: "/data/"}}
	for volumes, want := range map[string][]string{"": nil, "/data": nil, "/data\n/var/lib/x": {"/var/lib/x"}} {
		if got := (Artefact{Volumes: volumes}).Uncovered(config); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", volumes, got, want)
		}
	}
}
