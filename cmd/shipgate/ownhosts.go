package main

import (
	"context"
	"net"
	"net/netip"
	"net/url"
)

// reserveHosts keeps apps from the host names that this server is reached by, and logs the apps that have one.
func (s *services) reserveHosts(ctx context.Context, address serverFile, listen string) error {
	var hosts []string
	for _, base := range []string{address.API, address.Local, "http://" + listen} {
		parsed, err := url.Parse(base)
		if err != nil || parsed.Hostname() == "" {
			continue
		}
		hosts = append(hosts, parsed.Hostname())
	}
	if local, err := url.Parse(address.Local); err == nil {
		if ip, err := netip.ParseAddr(local.Hostname()); err == nil && ip.IsLoopback() {
			hosts = append(hosts, "localhost", net.IPv4(127, 0, 0, 1).String())
		}
	}
	taken, err := s.store.ReserveHosts(ctx, hosts...)
	for _, app := range taken {
		s.logger.Warn("an app has the host of this server and can read its cookies; give it another one",
			"app", app.Name, "hosts", app.Hosts, "hint", "shipgate app update "+app.Name+" --host HOST")
	}
	return err
}
