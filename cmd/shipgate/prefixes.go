package main

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/pflag"
)

// prefixes is a flag of networks: addresses or CIDRs, separated by commas.
type prefixes []netip.Prefix

var _ pflag.Value = (*prefixes)(nil)

func (p *prefixes) String() string { return strings.Trim(fmt.Sprint([]netip.Prefix(*p)), "[]") }

// Type names the value in help texts.
func (p *prefixes) Type() string { return "CIDR" }

// Set takes one network or several with commas between them.
func (p *prefixes) Set(text string) error {
	for one := range strings.SplitSeq(text, ",") {
		one = strings.TrimSpace(one)
		prefix, err := netip.ParsePrefix(one)
		if address, addressErr := netip.ParseAddr(one); addressErr == nil {
			prefix, err = netip.PrefixFrom(address, address.BitLen()), nil
		}
		if err != nil {
			return fmt.Errorf("%q is not a network such as 10.0.0.0/8", one)
		}
		*p = append(*p, prefix.Masked())
	}
	return nil
}
