package store

import (
	"bytes"
	"encoding/json"
	"strings"
)

// ParseVolume parses a volume in Docker's spelling, NAME:/PATH, with ":ro" or ":rw" after it.
func ParseVolume(text string) (Volume, error) {
	name, rest, found := strings.Cut(text, ":")
	if !found {
		return Volume{}, Problemf(CodeUsage, "volume %q is not NAME:/PATH", text).WithHint("data:/var/lib/app")
	}
	path, option, hasOption := strings.Cut(rest, ":")
	if hasOption && option != "ro" && option != "rw" {
		return Volume{}, Problemf(CodeUsage, "volume %q: the option %q is unknown: use ro or rw", text, option).WithHint("%s:%s:ro", name, path)
	}
	return Volume{Name: name, Path: path, ReadOnly: option == "ro"}, nil
}

// UnmarshalJSON takes an object, or a string as ParseVolume does.
func (v *Volume) UnmarshalJSON(text []byte) error {
	var spelled string
	if json.Unmarshal(text, &spelled) == nil {
		parsed, err := ParseVolume(spelled)
		*v = parsed
		return err
	}
	type plain Volume // without this method
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	return decoder.Decode((*plain)(v))
}
