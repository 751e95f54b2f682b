package store

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// Limits on requests without a valid token. They are counted in memory, and written once a minute: a write for each would
// let strangers hold up deployments.
const (
	wrongOfOne     = 60    // a minute from one address; more are answered 429
	wrongInAll     = 600   // a minute from all addresses
	wrongAddresses = 100   // that are told apart in a minute
	quietEntries   = 4_000 // different refusals that are remembered for a minute
)

// ErrTooManyWrongTokens answers wrong tokens beyond the limits. Valid tokens are not affected.
var ErrTooManyWrongTokens = Problemf(CodeUnauthorised, "too many requests with tokens that are not valid").WithHint("try again in a minute")

// strangers counts, for the current minute, wrong tokens by address and refusals that were written already.
type strangers struct {
	mu      sync.Mutex
	ends    time.Time // of the current minute
	inAll   int
	seen    map[string]int // by address; "" for all beyond wrongAddresses
	pending map[string]int // of these, what is not in the audit log yet
	quiet   map[AuditEntry]bool
	timer   *time.Timer
	timing  sync.WaitGroup // waits for the timer's function
	closed  bool
}

// turn begins a new minute when the last one is over.
func (w *strangers) turn(now time.Time) {
	if now.Before(w.ends) {
		return
	}
	w.ends, w.inAll, w.seen, w.quiet = now.Add(auditQuiet), 0, map[string]int{}, map[AuditEntry]bool{}
}

// first reports whether an entry is the first of its kind in this minute and there is room to remember it.
func (w *strangers) first(entry AuditEntry, now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.turn(now)
	if w.quiet[entry] || len(w.quiet) >= quietEntries {
		return false
	}
	w.quiet[entry] = true
	return true
}

// AuthenticateFrom finds the token of a secret that a client sent. Wrong ones are counted for its address.
func (s *Store) AuthenticateFrom(ctx context.Context, secret, remote string) (Token, error) {
	if secret == "" { // git and browsers ask so before they send credentials
		return Token{}, errInvalidToken
	}
	token, err := s.Authenticate(ctx, secret)
	if CodeOf(err) == CodeUnauthorised && s.countWrongToken(remote, time.Now()) {
		return Token{}, ErrTooManyWrongTokens
	}
	return token, err
}

func (s *Store) countWrongToken(remote string, now time.Time) (tooMany bool) {
	w := &s.strangers
	w.mu.Lock()
	defer w.mu.Unlock()
	w.turn(now)
	address := networkOf(remote)
	if _, known := w.seen[address]; !known && len(w.seen) >= wrongAddresses {
		address = ""
	}
	if w.pending == nil {
		w.pending = map[string]int{}
	}
	w.seen[address]++
	w.pending[address]++
	w.inAll++
	if w.timer == nil && !w.closed {
		w.timing.Add(1)
		w.timer = time.AfterFunc(auditQuiet, func() {
			defer w.timing.Done()
			_ = s.writeWrongTokens(context.Background()) // best effort, as for every entry: a request does not fail for its log
		})
	}
	return w.seen[address] > wrongOfOne || w.inAll > wrongInAll
}

// ClientNetwork returns what counts as one client: an IPv4 address, or the start of the /64 network of an IPv6 one, which one
// host may have all of.
func ClientNetwork(address netip.Addr) netip.Addr {
	address = address.Unmap().WithZone("")
	if !address.Is6() {
		return address
	}
	return netip.PrefixFrom(address, 64).Masked().Addr()
}

// networkOf returns the client's network as it is written to the audit log.
func networkOf(remote string) string {
	address, err := netip.ParseAddr(remote)
	if err != nil || address.Unmap().Is4() {
		return remote
	}
	return ClientNetwork(address).String() + "/64"
}

// writeWrongTokens writes one entry for each address with what is pending.
func (s *Store) writeWrongTokens(ctx context.Context) error {
	w := &s.strangers
	w.mu.Lock()
	pending := w.pending
	w.pending = nil
	if w.timer != nil && w.timer.Stop() {
		w.timing.Done()
	}
	w.timer = nil
	w.mu.Unlock()
	for address, count := range pending {
		entry := AuditEntry{Action: "use a token", Outcome: AuditRefused, Reason: "the token is not valid", Remote: address}
		if address == "" {
			entry.Remote = "other addresses"
		}
		if count > 1 {
			entry.Reason = fmt.Sprintf("the token is not valid, %d times", count)
		}
		if err := s.Audit(ctx, entry); err != nil {
			return err
		}
	}
	return nil
}

// closeStrangers writes what is pending and ends the timer.
func (s *Store) closeStrangers() error {
	s.strangers.mu.Lock()
	s.strangers.closed = true
	s.strangers.mu.Unlock()
	err := s.writeWrongTokens(context.Background())
	s.strangers.timing.Wait()
	return err
}
