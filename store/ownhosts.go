package store

import (
	"context"
	"slices"
	"strings"
)

// ReserveHosts keeps apps from the host names of this server: browsers would send an app there the cookies of the server's
// pages, whatever the port. It returns the apps that have one of them already, which keep it.
func (s *Store) ReserveHosts(ctx context.Context, hosts ...string) (taken []App, err error) {
	apps, err := s.Apps(ctx)
	if err != nil {
		return nil, err
	}
	s.ownHosts.Store(&hosts)
	for _, app := range apps {
		if slices.ContainsFunc(app.Hosts, s.isOwnHost) {
			taken = append(taken, app)
		}
	}
	return taken, nil
}

func (s *Store) isOwnHost(host string) bool {
	own := s.ownHosts.Load()
	return own != nil && slices.ContainsFunc(*own, func(one string) bool {
		return strings.EqualFold(strings.TrimSuffix(one, "."), strings.TrimSuffix(host, "."))
	})
}
