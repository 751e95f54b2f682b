package store

import "testing"

func TestAppsCannotHaveTheServersHost(t *testing.T) {
	s := newStore(t)
	_, err := s.CreateApp(t.Context(), App{Name: "old", Source: SourceDockerfile, Hosts: []string{"gate.example.com"}})
	check(t, err)
	taken := must[[]App](t)(s.ReserveHosts(t.Context(), "Gate.Example.com", "localhost"))
	if len(taken) != 1 || taken[0].Name != "old" {
		t.Errorf("apps with the server's host: %+v", taken)
	}
	if _, err := s.UpdateApp(t.Context(), taken[0]); err != nil {
		t.Errorf("an app that has it already cannot change: %v", err)
	}
	for _, host := range []string{"gate.example.com", "localhost"} {
		_, err := s.CreateApp(t.Context(), App{Name: "new", Source: SourceDockerfile, Hosts: []string{host}})
		if host == "gate.example.com" {
			wantProblem(t, err, CodeUsage, "the one of this server", "--host")
			continue
		}
		if err == nil {
			t.Errorf("host %s was taken", host)
		}
	}
	if _, err := s.CreateApp(t.Context(), App{Name: "new", Source: SourceDockerfile, Hosts: []string{"new.example.com"}}); err != nil {
		t.Error(err)
	}
}
