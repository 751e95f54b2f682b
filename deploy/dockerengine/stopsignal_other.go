//go:build !linux

package dockerengine

import "github.com/docker/docker/api/types/container"

// dropsStopSignal cannot be seen: away from Linux the process is not on this host.
func dropsStopSignal(*container.InspectResponse) bool { return false }
