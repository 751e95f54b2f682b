package store

import (
	"context"
	"maps"
	"net/netip"
	"testing"
)

func TestAdoptTakesWhatRowsNameOnce(t *testing.T) {
	s := newStore(t)
	d := must[Deployment](t)(s.PlaceContainer(t.Context(), lanes(t, s, 1)[0], subnet(t, "10.214.0.0/22"), 8080))
	old := OldContainerName("app0", d.ID)
	if _, err := s.write.ExecContext(t.Context(), `UPDATE deployments SET container = ? WHERE id = ?`, old, d.ID); err != nil {
		t.Fatal(err)
	}
	address := must[netip.AddrPort](t)(netip.ParseAddrPort(d.Address)).Addr().String()
	container := func(id, name, app string, n int64, role Role, address string) UnnamedContainer {
		return UnnamedContainer{ID: id, Container: Container{Name: name, App: app, Deployment: n, Role: role}, Address: address}
	}
	find := func(context.Context) ([]UnnamedContainer, error) {
		return []UnnamedContainer{
			container("live", old, "app0", d.ID, RoleServe, address),
			container("command", OldCommandName("app0", d.ID), "app0", d.ID, RoleCommand, ""),
			container("from our image", "foreign", "app0", d.ID, RoleServe, address),
			container("elsewhere", old, "app0", d.ID, RoleServe, "10.214.0.99"),
			container("other app", old, "other", d.ID, RoleServe, address),
			container("other deployment", OldContainerName("app0", 99), "app0", 99, RoleServe, address),
			container("command of another", OldCommandName("app0", 99), "app0", d.ID, RoleCommand, ""),
		}, nil
	}
	want := map[string]string{"live": old, "command": OldCommandName("app0", d.ID)}
	if got := must[map[string]string](t)(s.Adopt(t.Context(), find)); !maps.Equal(got, want) {
		t.Errorf("adopted %v, want %v", got, want)
	}
	later := func(context.Context) ([]UnnamedContainer, error) {
		t.Error("looked for more")
		return nil, nil
	}
	if got := must[map[string]string](t)(s.Adopt(t.Context(), later)); !maps.Equal(got, want) {
		t.Errorf("later %v, want %v", got, want)
	}
}

func TestAdoptIsTriedAgainWithoutAnEngine(t *testing.T) {
	s := newStore(t)
	away := Problemf(CodeErrored, "the engine is away")
	if _, err := s.Adopt(t.Context(), func(context.Context) ([]UnnamedContainer, error) { return nil, away }); err == nil {
		t.Error("no error")
	}
	asked := false
	if _, err := s.Adopt(t.Context(), func(context.Context) ([]UnnamedContainer, error) { asked = true; return nil, nil }); err != nil || !asked {
		t.Errorf("asked again %t: %v", asked, err)
	}
}

func TestAddressesIn(t *testing.T) {
	s := newStore(t)
	must[Deployment](t)(s.PlaceContainer(t.Context(), lanes(t, s, 1)[0], subnet(t, "10.214.0.0/22"), 8080))
	for prefix, want := range map[string]bool{"10.214.0.0/22": true, "10.214.4.0/22": false} {
		if got := must[bool](t)(s.AddressesIn(t.Context(), netip.MustParsePrefix(prefix))); got != want {
			t.Errorf("%s is used: %t", prefix, got)
		}
	}
}
