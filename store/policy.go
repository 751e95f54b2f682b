package store

import (
	"fmt"
	"net"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/reference"
)

// Policy is what the operator lets apps reach beyond the defaults. The zero Policy allows images from public registries,
// sources on public addresses, and nothing else.
type Policy struct {
	images       []string // patterns of images that only the engine has
	sources      []allowedSource
	networks     []string
	capabilities []string // without CAP_, in upper case
}

// allowedSource is a host, with or without a port, or a range of addresses.
type allowedSource struct {
	host   string
	port   string
	prefix netip.Prefix
}

// PolicyRules are the values of the flags that widen the policy, as the operator wrote them.
type PolicyRules struct {
	Images       []string `json:"images,omitempty"`
	Sources      []string `json:"sources,omitempty"`
	Networks     []string `json:"networks,omitempty"`
	Capabilities []string `json:"capabilities,omitempty"`
}

var (
	networkName    = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)
	capabilityName = regexp.MustCompile(`^[A-Z][A-Z_]*$`)
)

// NewPolicy parses the operator's rules.
func NewPolicy(rules PolicyRules) (Policy, error) {
	var p Policy
	for _, pattern := range rules.Images {
		if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
			return Policy{}, Problemf(CodeUsage, "--allow-image %q is not a pattern", pattern).WithHint("--allow-image 'base/*:*'")
		}
		p.images = append(p.images, pattern)
	}
	for _, text := range rules.Sources {
		source, err := parseSource(text)
		if err != nil {
			return Policy{}, err
		}
		p.sources = append(p.sources, source)
	}
	for _, name := range rules.Networks {
		if !networkName.MatchString(name) {
			return Policy{}, Problemf(CodeUsage, "--allow-network %q is not the name of a network", name).WithHint("docker network ls")
		}
		p.networks = append(p.networks, name)
	}
	for _, name := range rules.Capabilities {
		capability := NormalizeCapability(name)
		if !capabilityName.MatchString(capability) {
			return Policy{}, Problemf(CodeUsage, "--allow-capability %q is not a capability", name).WithHint("--allow-capability NET_RAW")
		}
		p.capabilities = append(p.capabilities, capability)
	}
	return p, nil
}

func parseSource(text string) (allowedSource, error) {
	if prefix, err := netip.ParsePrefix(text); err == nil {
		return allowedSource{prefix: prefix.Masked()}, nil
	}
	host, port, err := splitHostPort(text)
	if err != nil || host == "" || strings.ContainsAny(host, "/@?#* ") {
		return allowedSource{}, Problemf(CodeUsage, "--allow-source %q is neither a host nor a range of addresses", text).
			WithHint("--allow-source registry.internal:5000 or --allow-source 10.0.0.0/8")
	}
	return allowedSource{host: host, port: port}, nil
}

// splitHostPort splits "host", "host:port", "[v6]:port" and "v6", and normalizes the host: lower case, no final dot.
func splitHostPort(text string) (host, port string, err error) {
	if addr, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return addr.String(), "", nil
	}
	host = text
	if strings.Contains(text, ":") {
		if host, port, err = net.SplitHostPort(text); err != nil {
			return "", "", err
		}
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return "", "", fmt.Errorf("port %q is not a number", port)
		}
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.String(), port, nil
	}
	return strings.TrimSuffix(strings.ToLower(host), "."), port, nil
}

// AllowsImage reports whether the operator allows apps an image that only the engine has. A pattern is matched by path.Match
// against the short name ("base"), and against the name with its tag or digest ("base:1").
func (p Policy) AllowsImage(ref string) bool {
	named, err := reference.ParseDockerRef(ref)
	if err != nil {
		return false
	}
	for _, pattern := range p.images {
		if matched, err := reference.FamiliarMatch(pattern, named); err == nil && matched {
			return true
		}
	}
	return false
}

// AllowsSource reports whether apps may fetch from a host, written as in a URL: with or without a port. Public addresses and
// qualified public names are allowed by default.
func (p Policy) AllowsSource(hostPort string) bool {
	host, port, err := splitHostPort(hostPort)
	if err != nil || host == "" {
		return false
	}
	return isPublicHost(host) || p.allowsHost(host, port)
}

func (p Policy) allowsHost(host, port string) bool {
	addr, err := netip.ParseAddr(host)
	isAddr := err == nil
	return slices.ContainsFunc(p.sources, func(s allowedSource) bool {
		if s.prefix.IsValid() {
			return isAddr && s.prefix.Contains(addr.WithZone("").Unmap())
		}
		return s.host == host && (s.port == "" || s.port == port)
	})
}

// AllowsNetwork reports whether the operator lets stacks join a network that is not their own.
func (p Policy) AllowsNetwork(name string) bool { return slices.Contains(p.networks, name) }

// AllowsCapability reports whether the operator lets containers have a capability that is not theirs by default. "ALL" in the
// policy allows every one; asking for "ALL" needs exactly that.
func (p Policy) AllowsCapability(name string) bool {
	return slices.Contains(p.capabilities, NormalizeCapability(name)) || slices.Contains(p.capabilities, "ALL")
}

// Capabilities returns the capabilities that the operator allows, without CAP_, in upper case.
func (p Policy) Capabilities() []string { return slices.Clone(p.capabilities) }

// NormalizeCapability returns a capability's name in upper case without CAP_.
func NormalizeCapability(name string) string {
	return strings.TrimPrefix(strings.ToUpper(name), "CAP_")
}

// Lines describes what the operator allows beyond the defaults, a line for each rule, for doctor and the audit log.
func (r PolicyRules) Lines() []string {
	var lines []string
	for _, flag := range []struct {
		name   string
		values []string
	}{{"image", r.Images}, {"source", r.Sources}, {"network", r.Networks}, {"capability", r.Capabilities}} {
		for _, value := range flag.values {
			lines = append(lines, fmt.Sprintf("--allow-%s %s", flag.name, value))
		}
	}
	return lines
}
