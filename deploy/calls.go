package deploy

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/shipgate/shipgate/store"
)

// defaultInternalPort is where apps call each other: http://APP.internal needs no port.
const defaultInternalPort = 80

// SetCallers tells the router which containers may call which apps. It comes before each start of a container, whose
// address may have been another app's, and whenever an app changes whom it allows.
func (r *Runner) SetCallers(ctx context.Context) error { return r.setCallers(ctx, false) }

// setCallers has the router listen on the bridge where there is somebody to listen to. While the engine does not say
// where that is, the router stays where it listens, unless the bridge is needed.
func (r *Runner) setCallers(ctx context.Context, needed bool) error {
	r.callers.Lock()
	defer r.callers.Unlock()
	callers, err := r.Store.Callers(ctx)
	if err != nil {
		return err
	}
	table := store.CallTable{Callers: callers}
	if needed || len(callers) > 0 {
		gateway, err := r.bridge(ctx)
		if err != nil && needed {
			return err
		}
		if err == nil {
			table.Listen = netip.AddrPortFrom(gateway, uint16(cmp.Or(r.InternalPort, defaultInternalPort))).String()
		}
	}
	return wrap("tell who may call apps", r.Router.SetCallers(ctx, table))
}

// bridge returns the address at which containers reach this host.
func (r *Runner) bridge(ctx context.Context) (netip.Addr, error) {
	pool, err := r.Addresses.Pool(ctx)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("find addresses for containers: %w", err)
	}
	if !pool.Subnet.IsValid() {
		return netip.Addr{}, store.Problemf(store.CodeFailed, "calls between apps need the engine's bridge, which this host cannot reach: the engine runs elsewhere, or in a virtual machine").
			WithHint("run shipgate on the engine's own host, or take calls out of the app's config: --calls ''")
	}
	return pool.Gateway, nil
}

// gateway returns where the names of the apps that are called lead; the zero address when none is.
func (a *attempt) gateway(ctx context.Context) (netip.Addr, error) {
	if len(a.config.Shared().Calls) == 0 {
		return netip.Addr{}, nil
	}
	return a.bridge(ctx)
}

// checkCalls finds out before the build whether calls are possible here at all.
func (a *attempt) checkCalls(ctx context.Context) error {
	if len(a.config.Shared().Calls) == 0 {
		return nil
	}
	return a.retrySetCallers(ctx)
}

// allowCalls has the router know the container that is about to start, and says which apps it may not call yet.
func (a *attempt) allowCalls(ctx context.Context) error {
	if err := a.retrySetCallers(ctx); err != nil {
		return err
	}
	for _, app := range a.config.Shared().Calls {
		if err := a.sayRefusal(ctx, app); err != nil {
			return err
		}
	}
	return nil
}

// sayRefusal says what is missing for a call to be answered. It is no failure: two apps that call each other have to begin
// with one of them.
func (a *attempt) sayRefusal(ctx context.Context, name string) error {
	called, err := a.Store.App(ctx, name)
	if store.CodeOf(err) == store.CodeNotFound {
		a.say(ctx, "note", "calls: there is no app %s yet", name)
		return nil
	}
	if err != nil {
		return err
	}
	config, err := store.DecodeConfig(called.Source, called.Config)
	if err != nil {
		return err
	}
	from := config.Shared().AllowFrom
	if !slices.Contains(from, a.d.App) {
		a.say(ctx, "note", "%s does not allow calls from %s yet: shipgate app update %s --allow-from %s", name, a.d.App, name,
			strings.Join(append(slices.Clone(from), a.d.App), ","))
	}
	return nil
}

// retrySetCallers asks a router that does not answer again for a while: its process may be starting.
func (a *attempt) retrySetCallers(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, a.Patience.Route)
	defer cancel()
	needed := len(a.config.Shared().Calls) > 0
	return retryUnlessRefused(bounded, func(ctx context.Context) error { return a.setCallers(ctx, needed) })
}
