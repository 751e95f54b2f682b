package store

// OperatorOnly names the fields of an app's config that a change widens and that only an admin of the whole server may widen: leave
// to ask for what stacks are refused otherwise, and limits that are raised or removed. Limits may be lowered by any admin of the
// app, who cannot raise them again then.
func OperatorOnly(source Source, before, after []byte) (fields []string, err error) {
	was, err := DecodeConfig(source, before)
	if err != nil {
		return nil, err
	}
	is, err := DecodeConfig(source, after)
	if err != nil {
		return nil, err
	}
	if stack, ok := is.(*ComposeConfig); ok && stack.Trusted && !was.(*ComposeConfig).Trusted {
		fields = append(fields, "trusted")
	}
	old, now := was.Shared().Resources, is.Shared().Resources
	for _, limit := range []struct {
		name    string
		was, is float64 // 0: none
	}{
		{"memory", float64(old.Memory), float64(now.Memory)},
		{"cpus", old.CPUs, now.CPUs},
		{"pids", float64(orDefaultPIDs(old.PIDs)), float64(orDefaultPIDs(now.PIDs))},
	} {
		if limit.was != 0 && (limit.is == 0 || limit.is > limit.was) {
			fields = append(fields, "resources."+limit.name)
		}
	}
	return fields, nil
}

func orDefaultPIDs(limit int64) int64 {
	if limit == 0 {
		return DefaultPIDs
	}
	return limit
}
