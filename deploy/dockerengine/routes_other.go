//go:build !linux

package dockerengine

import "net/netip"

// hostRoutes has nothing to keep clear of: away from Linux the bridge is not on this host.
func hostRoutes() ([]netip.Prefix, error) { return nil, nil }
