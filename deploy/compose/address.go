package compose

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"
)

// addressPatience is how long an address may take to be found. One that a container has answers at once, if only to refuse.
const addressPatience = 5 * time.Second

// nobodyAt says that no container has the address. A plugin that was ended may have left one whose networks were not all
// connected yet, and which the engine started only after we had looked; Compose takes it for a good one.
func nobodyAt(ctx context.Context, address netip.AddrPort) bool {
	bounded, cancel := context.WithTimeout(ctx, addressPatience)
	defer cancel()
	connection, err := (&net.Dialer{}).DialContext(bounded, "tcp", address.String())
	if err == nil {
		_ = connection.Close()
		return false
	}
	return ctx.Err() == nil && (errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, context.DeadlineExceeded))
}

// unlessBusy does something again while the engine is still at work on what a plugin asked for that was ended.
func unlessBusy(ctx context.Context, said *tail, do func() error) error {
	for try := 1; ; try++ {
		said.lines = nil
		err := do()
		if err == nil || try == busyTries || !slices.ContainsFunc(said.lines, busy) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Duration(try) * time.Second):
		}
	}
}

const busyTries = 4

// busy knows the engine's words for a name or a container that is about to be free, or went between two looks at it.
func busy(line string) bool {
	return strings.Contains(line, "is already in use by container") || strings.Contains(line, "is already in progress") ||
		strings.Contains(line, "is marked for removal") || strings.Contains(line, "No such container")
}
