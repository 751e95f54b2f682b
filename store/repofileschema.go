package store

import (
	_ "embed"
	"slices"
)

//go:embed shipgate.schema.json
var repoFileSchema []byte

// RepoFileSchema gives the JSON Schema of shipgate.yaml (https://json-schema.org/draft/2020-12), for editors and for who
// wants to know what can be said.
func RepoFileSchema() []byte { return slices.Clone(repoFileSchema) }
