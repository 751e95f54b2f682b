package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
)

// PlaceContainer stores the name and address of a deployment's container, before it is created. Repeating it changes
// nothing. It is a Problem when the pool has no free address.
func (s *Store) PlaceContainer(ctx context.Context, d Deployment, pool AddressPool, port int) (Deployment, error) {
	if d.Container != "" {
		return d, nil
	}
	var placed Deployment
	err := s.change(ctx, func(tx *sql.Tx) (err error) {
		t := txContext{ctx, tx}
		placed, err = readDeployment(t, d.ID)
		if errors.Is(err, sql.ErrNoRows) {
			return unknownDeployment(d.ID)
		}
		if err != nil || placed.Container != "" { // the caller's copy may be older than that
			return err
		}
		address, err := freeAddress(t, d.ID, pool, port)
		if err != nil {
			return err
		}
		placed.Container, placed.Address = ContainerName(s.serverID, d.App, d.ID), address.String()
		_, err = t.exec(`UPDATE deployments SET container = ?, address = ? WHERE id = ?`, placed.Container, placed.Address, d.ID)
		if err != nil {
			return fmt.Errorf("write container of deployment: %w", err)
		}
		return nil
	})
	if err != nil {
		return Deployment{}, err
	}
	return placed, nil
}

// freeAddress starts its search at a place that moves with the deployment, so that an address is not used again at once.
func freeAddress(tx txContext, deployment int64, pool AddressPool, port int) (netip.AddrPort, error) {
	for n := range pool.size() {
		candidate, usable := pool.at((n+deployment)%pool.size(), port)
		if !usable {
			continue
		}
		var taken int
		key := candidate.Addr().String()
		if !pool.Subnet.IsValid() {
			key = candidate.String()
		}
		err := tx.row(`SELECT 1 FROM addresses WHERE address = ?`, key).Scan(&taken)
		if errors.Is(err, sql.ErrNoRows) {
			_, err = tx.exec(`INSERT INTO addresses (address, deployment) VALUES (?, ?)`, key, deployment)
			return candidate, err
		}
		if err != nil {
			return netip.AddrPort{}, fmt.Errorf("find free address: %w", err)
		}
	}
	return netip.AddrPort{}, Problemf(CodeErrored, "every address for containers is taken").WithHint("shipgate doctor")
}

// size is the number of addresses in the pool, usable or not.
func (p AddressPool) size() int64 {
	if p.Subnet.IsValid() {
		return int64(1) << (p.Subnet.Addr().BitLen() - p.Subnet.Bits())
	}
	return int64(p.LastPort - p.FirstPort + 1)
}

// at gives the n-th address of an IPv4 pool, unless it is the network's own, the broadcast or the gateway's.
func (p AddressPool) at(n int64, port int) (netip.AddrPort, bool) {
	if !p.Subnet.IsValid() {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(p.FirstPort+int(n))), true
	}
	base := p.Subnet.Masked().Addr().As4()
	number := uint32(base[0])<<24 | uint32(base[1])<<16 | uint32(base[2])<<8 | uint32(base[3])
	number += uint32(n)
	addr := netip.AddrFrom4([4]byte{byte(number >> 24), byte(number >> 16), byte(number >> 8), byte(number)})
	if n == 0 || n == p.size()-1 {
		return netip.AddrPort{}, false
	}
	if addr == p.Gateway {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(addr, uint16(port)), true
}

// FreeAddress gives a deployment's address back, after its container is gone.
func (s *Store) FreeAddress(ctx context.Context, deployment int64) error {
	return s.change(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM addresses WHERE deployment = ?`, deployment)
		return err
	})
}
