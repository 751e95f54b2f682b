package proxy

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/shipgate/shipgate/store"
)

// Settings say where the proxy listens and whom it believes. The server tells them; the proxy keeps them with its routes.
type Settings struct {
	PublicAddr     string         `json:"public_addr"` // as it was asked for, such as ":8080"
	TrustedProxies []netip.Prefix `json:"trusted_proxies,omitempty"`
}

func (s Settings) equal(other Settings) bool {
	return s.PublicAddr == other.PublicAddr && slices.Equal(s.TrustedProxies, other.TrustedProxies)
}

// leadsTo reports whether an address that was asked for is the one that is listened on. Port 0 is any port.
func leadsTo(wanted, actual string) bool {
	wantedHost, wantedPort, err := net.SplitHostPort(wanted)
	if err != nil {
		return false
	}
	host, port, err := net.SplitHostPort(actual)
	if err != nil || wantedPort != port && wantedPort != "0" {
		return false
	}
	if everywhere(wantedHost) {
		return everywhere(host)
	}
	return wantedHost == host
}

func everywhere(host string) bool {
	address, err := netip.ParseAddr(host)
	return host == "" || err == nil && address.IsUnspecified()
}

// configure makes the settings those in force. A changed public address answers before the old one is given up; one that
// cannot be had changes nothing.
func (p *process) configure(ctx context.Context, wanted Settings) error {
	p.router.changing.Lock()
	defer p.router.changing.Unlock()
	if p.router.moved {
		return errMoved
	}
	if p.router.settings != nil && p.router.settings.equal(wanted) {
		return nil
	}
	if _, _, err := net.SplitHostPort(wanted.PublicAddr); err != nil {
		return store.Problemf(store.CodeUsage, "public address %q is not host:port", wanted.PublicAddr).WithHint("shipgate serve --public-addr :80")
	}
	var next *front
	if !leadsTo(wanted.PublicAddr, p.public.listener.Addr().String()) {
		listener, err := listenPublic(ctx, wanted.PublicAddr, p.listeners()...)
		if err != nil {
			return err
		}
		next = p.newFront(listener, p.handler)
	}
	before := p.router.settings
	p.tell(func() { p.router.settings = &wanted })
	if err := p.router.save(p.router.table.Load()); err != nil {
		p.tell(func() { p.router.settings = before })
		if next != nil {
			_ = next.listener.Close()
		}
		return err
	}
	p.handler.trust.Store((*trust)(&wanted.TrustedProxies))
	p.connections.exempt(wanted.TrustedProxies)
	if next != nil {
		p.serve(next)
		p.Logger.Info("public address changed", "from", p.public.listener.Addr().String(), "to", next.listener.Addr().String())
		p.retire(p.public)
		p.tell(func() { p.public = next })
	}
	return nil
}

// tell makes a change that status tells.
func (p *process) tell(change func()) {
	p.telling.Lock()
	defer p.telling.Unlock()
	change()
}

// keepSettings takes what is stored, and for what is not the options that the process was started with.
func (p *process) keepSettings() error {
	if p.router.settings == nil {
		p.router.settings = &Settings{PublicAddr: p.PublicAddr}
	}
	for _, prefix := range p.router.settings.TrustedProxies {
		if !prefix.IsValid() {
			return fmt.Errorf("trusted proxies: a network is not valid")
		}
	}
	p.handler.trust.Store((*trust)(&p.router.settings.TrustedProxies))
	p.connections.exempt(p.router.settings.TrustedProxies)
	return nil
}
