package compose

import (
	"os/exec"
	"syscall"
)

// separate gives the plugin a process group of its own, which ends with ctx, and has the kernel end it with the server.
func separate(command *exec.Cmd) {
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
}
