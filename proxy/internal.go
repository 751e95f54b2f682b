package proxy

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/shipgate/shipgate/store"
)

// internalHandler answers requests of containers to other apps, http://APP.internal. Who calls is known by the address of
// the container, which nothing in it can change.
type internalHandler struct {
	handler *handler
	callers atomic.Pointer[map[netip.Addr]store.Caller]
}

// ServeHTTP answers a request of a container. Nobody's word about the client is believed here.
func (h *internalHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	caller, known := (*h.callers.Load())[remoteAddress(r)]
	app, named := internalApp(canonicalHost(r.Host))
	switch {
	case !known:
		page(w, r, http.StatusForbidden, "only containers of apps that call others are answered here")
	case !named:
		page(w, r, http.StatusNotFound, "only APP."+store.InternalDomain+" is answered here")
	case !slices.Contains(caller.May, app):
		page(w, r, http.StatusForbidden, fmt.Sprintf("%s may not call %s: it has to be in calls of %s, and %s in allow_from of %s",
			caller.App, app, caller.App, caller.App, app))
	default:
		h.handler.serve(w, r, &exchange{caller: caller.App}, func(t *table) *entry { return t.apps[app] })
	}
}

// internalApp returns the app that a host in canonical form calls by its internal name.
func internalApp(host string) (app string, internal bool) {
	return strings.CutSuffix(host, "."+store.InternalDomain)
}

func (h *internalHandler) allow(callers []store.Caller) {
	known := make(map[netip.Addr]store.Caller, len(callers))
	for _, caller := range callers {
		known[caller.Address] = caller
	}
	h.callers.Store(&known)
}

// setCallers makes the set the one in force. It listens first, so that an address that cannot be had changes nothing.
func (p *process) setCallers(ctx context.Context, wanted store.CallTable) error {
	p.router.changing.Lock()
	defer p.router.changing.Unlock()
	if p.router.moved {
		return errMoved
	}
	before := p.router.internal
	next, err := p.nextInternal(ctx, wanted.Listen)
	if err != nil {
		return err
	}
	wanted.Listen = cmp.Or(wanted.Listen, before.Listen)
	if next == nil && wanted.Equal(before) {
		return nil
	}
	p.router.internal = wanted
	if err := p.router.save(p.router.table.Load()); err != nil {
		p.router.internal = before
		if next != nil {
			_ = next.listener.Close()
		}
		return err
	}
	p.callers.allow(wanted.Callers)
	if next != nil {
		p.moveInternal(next)
	}
	return nil
}

// nextInternal listens on the address, unless that is what is listened on. Empty is as it is.
func (p *process) nextInternal(ctx context.Context, address string) (*front, error) {
	if address == "" || p.internal != nil && p.internal.listener.Addr().String() == address {
		return nil, nil
	}
	// The bridge may not be there yet: the engine makes it when it starts.
	listener, err := listen(ctx, address, p.listeners(), freeBind)
	if err != nil {
		return nil, store.Problemf(store.CodeErrored, "listen on %s for calls between apps: %w", address, err).
			WithHint("choose another port: shipgate serve --internal-port 7480; apps then call http://APP.%s:7480", store.InternalDomain)
	}
	return p.newFront(listener, p.callers), nil
}

func (p *process) moveInternal(next *front) {
	p.serve(next)
	p.Logger.Info("apps can call each other", "internal", next.listener.Addr().String())
	if p.internal != nil {
		p.retire(p.internal)
	}
	p.tell(func() { p.internal = next })
}

// openInternal goes on where the process before us, or the last snapshot, has left off. The public address does not wait
// for what is wrong here: the server says it again.
func (p *process) openInternal(ctx context.Context, from *inheritance) {
	p.callers.allow(p.router.internal.Callers)
	if from.internal != nil {
		p.internal = p.newFront(from.internal, p.callers)
		return
	}
	if len(p.router.internal.Callers) == 0 {
		return
	}
	next, err := p.nextInternal(ctx, p.router.internal.Listen)
	if err != nil {
		p.Logger.Error("open the listener for calls between apps", "error", err)
		return
	}
	p.internal = next
}
