package store

import (
	"encoding/json"
	"fmt"
)

// DefaultPIDs is how many processes and threads a container may have where the app's config does not say: it stops a fork
// bomb and is more than a web app uses.
const DefaultPIDs = 512

// Limited returns the file with its resources held to what the app's config allows, and a line for each that it lowers. Who may push is
// not who may lift the operator's limits. Memory and CPUs that the config leaves out are not limited.
func (f *RepoFile) Limited(blob []byte) (limited *RepoFile, notes []string) {
	if f.Resources == nil {
		return f, nil
	}
	var config struct {
		Resources Resources `json:"resources"`
	}
	if err := json.Unmarshal(blob, &config); err != nil && len(blob) > 0 {
		return f, nil // the config itself is refused later
	}
	ceiling, asked := config.Resources, *f.Resources
	ceiling.PIDs = orDefaultPIDs(ceiling.PIDs)
	if ceiling.Memory != 0 && asked.Memory > ceiling.Memory {
		notes = append(notes, fmt.Sprintf("resources.memory %s is above the app's limit of %s, which holds", sizeText(asked.Memory), sizeText(ceiling.Memory)))
		asked.Memory = ceiling.Memory
	}
	if ceiling.CPUs != 0 && asked.CPUs > ceiling.CPUs {
		notes = append(notes, fmt.Sprintf("resources.cpus %g is above the app's limit of %g, which holds", asked.CPUs, ceiling.CPUs))
		asked.CPUs = ceiling.CPUs
	}
	if asked.PIDs > ceiling.PIDs {
		notes = append(notes, fmt.Sprintf("resources.pids %d is above the app's limit of %d, which holds", asked.PIDs, ceiling.PIDs))
		asked.PIDs = ceiling.PIDs
	}
	held := *f
	held.Resources = &asked
	return &held, notes
}

// sizeText writes a size as configs do.
func sizeText(size Bytes) string {
	for _, unit := range []struct {
		shift int
		name  string
	}{{30, "g"}, {20, "m"}, {10, "k"}} {
		if size >= 1<<unit.shift && size%(1<<unit.shift) == 0 {
			return fmt.Sprintf("%d%s", size>>unit.shift, unit.name)
		}
	}
	return fmt.Sprintf("%d", size)
}
