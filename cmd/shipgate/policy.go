package main

import (
	"context"
	"runtime"
	"strings"

	"github.com/spf13/pflag"

	"github.com/shipgate/shipgate/store"
)

// addPolicyFlags adds the flags by which the operator widens what apps can reach.
func addPolicyFlags(flags *pflag.FlagSet, rules *store.PolicyRules) {
	flags.StringArrayVar(&rules.Images, "allow-image", nil, "PATTERN of images that only the engine has and apps may use, as 'base/*'; repeatable")
	flags.StringArrayVar(&rules.Sources, "allow-source", nil, "HOST or CIDR on a private network that builds may fetch images and files from; repeatable")
	flags.StringArrayVar(&rules.Networks, "allow-network", nil, "NAME of an engine's network that stacks may join; repeatable")
	flags.StringArrayVar(&rules.Capabilities, "allow-capability", nil, "CAP that containers may have beyond the defaults, as NET_RAW; repeatable")
}

// policyFindings tells doctor what the operator allows beyond the defaults.
func (s *services) policyFindings() []store.Finding {
	lines := s.policyRules.Lines()
	if len(lines) == 0 {
		return []store.Finding{{Level: store.LevelOK, Text: "apps reach only their own images, public registries and public addresses"}}
	}
	var findings []store.Finding
	for _, line := range lines {
		findings = append(findings, store.Finding{Level: store.LevelWarn, Text: "apps reach more than the defaults allow: " + line, Hint: "shipgate serve without " + line})
	}
	return findings
}

// auditPolicy records what this server allows beyond the defaults, when that is not what it allowed at its last start.
func (s *services) auditPolicy(ctx context.Context) error {
	return s.store.AuditPolicy(ctx, strings.Join(s.policyRules.Lines(), " "))
}

// defaultBuilds is how many builds run at once where the operator does not say.
func defaultBuilds() int {
	if runtime.NumCPU() <= 2 {
		return 1
	}
	return 2
}
