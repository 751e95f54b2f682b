package store

import (
	"slices"
	"testing"
)

func mustPolicy(t *testing.T, rules PolicyRules) Policy {
	t.Helper()
	p, err := NewPolicy(rules)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestSourcesByDefault(t *testing.T) {
	for host, want := range map[string]bool{
		"docker.io": true, "ghcr.io": true, "registry.example.com:5000": true, "8.8.8.8": true, "[2606:4700::1111]:443": true,
		"xn--mnchen-3ya.de": true, "GitHub.com.": true, "my_bucket.example.com": true,

		"localhost": false, "localhost:5000": false, "LOCALHOST": false, "localhost.": false, "app.localhost": false,
		"registry": false, "registry:5000": false, "metadata.google.internal": false, "nas.local": false, "router.lan": false,
		"1.0.168.192.in-addr.arpa": false,
		"127.0.0.1":                false, "127.0.0.1:80": false, "127.1": false, "2130706433": false, "0x7f.1": false, "0177.0.0.1": false, "0x7f000001": false,
		"a.0x7f": false, "127.0.0.1.": false, "１２７.0.0.1": false, "127。0。0。1": false, "0.0.0.0": false, "10.1.2.3": false, "172.16.0.1": false, "192.168.0.1": false,
		"169.254.169.254": false, "100.100.100.200": false, "224.0.0.1": false, "255.255.255.255": false, "198.18.0.1": false,
		"::1": false, "[::1]:80": false, "[::]": false, "fe80::1": false, "fe80::1%eth0": false, "fd00::1": false, "[::ffff:127.0.0.1]:80": false,
		"::127.0.0.1": false, "64:ff9b::7f00:1": false, "2002:7f00:1::": false,
		"": false, ":80": false, "a b.com": false, "user@example.com": false, "example.com/x": false, "example.com:http": false, "example..com": false,
		"example.com:80:90": false, "%6cocalhost": false, "evil.com%00.example.com": false,
	} {
		if got := (Policy{}).AllowsSource(host); got != want {
			t.Errorf("source %q is allowed: %t, want %t", host, got, want)
		}
	}
}

func TestAllowedSources(t *testing.T) {
	p := mustPolicy(t, PolicyRules{Sources: []string{"Registry:5000", "git.internal", "10.0.0.0/8", "::1", "127.0.0.1:80"}})
	for host, want := range map[string]bool{
		"registry:5000": true, "REGISTRY:5000": true, "registry": false, "registry:5001": false, "xregistry:5000": false,
		"git.internal": true, "git.internal:22": true, "a.git.internal": false,
		"10.1.2.3:80": true, "[::ffff:10.1.2.3]": true, "11.0.0.1": true, "192.168.0.1": false,
		"[::1]:8080": true, "[0:0::1]": true, "127.0.0.1:80": true, "127.0.0.1": false, "127.0.0.1:8080": false,
	} {
		if got := p.AllowsSource(host); got != want {
			t.Errorf("source %q is allowed: %t, want %t", host, got, want)
		}
	}
}

func TestAllowedImages(t *testing.T) {
	p := mustPolicy(t, PolicyRules{Images: []string{"base", "team/*", "tool:[0-9]*", "registry.example.com/x:1"}})
	for ref, want := range map[string]bool{
		"base": true, "base:1": true, "docker.io/library/base:2": true, "index.docker.io/library/base": true, "library/base": true,
		"base@sha256:" + longHex: true, "basement": false, "other/base": false, "registry.example.com/base": false,
		"team/a": true, "team/a:1": true, "team/a/b": false, "tool:1": true, "tool:x": false, "tool": false,
		"registry.example.com/x:1": true, "registry.example.com/x:2": false,
		"shipgate-1a2b3c4d/app:1": false, longHex: false, "": false, "BASE": false,
	} {
		if got := p.AllowsImage(ref); got != want {
			t.Errorf("image %q is allowed: %t, want %t", ref, got, want)
		}
	}
	if (Policy{}).AllowsImage("base") {
		t.Error("an image is allowed without a rule")
	}
}

const longHex = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestAllowedNetworksAndCapabilities(t *testing.T) {
	p := mustPolicy(t, PolicyRules{Networks: []string{"backend"}, Capabilities: []string{"cap_net_raw", "MKNOD"}})
	if !p.AllowsNetwork("backend") || p.AllowsNetwork("bridge") || (Policy{}).AllowsNetwork("backend") {
		t.Error("networks other than the allowed ones, or not these, are allowed")
	}
	if !p.AllowsCapability("CAP_NET_RAW") || !p.AllowsCapability("mknod") || p.AllowsCapability("SYS_ADMIN") || p.AllowsCapability("ALL") {
		t.Error("capabilities other than the allowed ones, or not these, are allowed")
	}
	if !mustPolicy(t, PolicyRules{Capabilities: []string{"all"}}).AllowsCapability("SYS_ADMIN") {
		t.Error("ALL does not allow every capability")
	}
	if !slices.Equal(p.Capabilities(), []string{"NET_RAW", "MKNOD"}) {
		t.Errorf("capabilities are %v", p.Capabilities())
	}
}

func TestPolicyRulesAreRead(t *testing.T) {
	for _, rules := range []PolicyRules{
		{Images: []string{"["}}, {Images: []string{""}}, {Sources: []string{""}}, {Sources: []string{"10.0.0.0/99"}}, {Sources: []string{"http://x"}},
		{Sources: []string{"*.example.com"}}, {Sources: []string{"x:y"}}, {Networks: []string{"a b"}}, {Networks: []string{""}}, {Capabilities: []string{"NET RAW"}}, {Capabilities: []string{"CAP_"}},
	} {
		if _, err := NewPolicy(rules); CodeOf(err) != CodeUsage {
			t.Errorf("rules %v end with %v, want a usage problem", rules, err)
		}
	}
	rules := PolicyRules{Images: []string{"base"}, Capabilities: []string{"MKNOD"}}
	if want := []string{"--allow-image base", "--allow-capability MKNOD"}; !slices.Equal(rules.Lines(), want) {
		t.Errorf("lines are %v, want %v", rules.Lines(), want)
	}
}

func FuzzAllowsSource(f *testing.F) {
	for _, seed := range []string{"127.0.0.1:80", "[::1%25lo]:80", "localhost.", "0x7f.1", "a.b"} {
		f.Add(seed)
	}
	p, err := NewPolicy(PolicyRules{Sources: []string{"registry:5000", "10.0.0.0/8"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, host string) {
		if (Policy{}).AllowsSource(host) && !p.AllowsSource(host) {
			t.Errorf("%q is allowed by default and not by a policy that allows more", host)
		}
	})
}
