//go:build !linux

package compose

import "os/exec"

// separate does nothing here: the plugin ends with ctx.
func separate(*exec.Cmd) {}
