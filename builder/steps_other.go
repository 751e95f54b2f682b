//go:build !linux

package builder

// stepLimiter is for engines on this host, whose steps run in a virtual machine here.
type stepLimiter struct{}

func startStepLimiter(host, Limits, string, func()) *stepLimiter { return nil }

func (*stepLimiter) stop() {}
