package compose

import (
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/shipgate/shipgate/store"
)

// rendered returns the services that Compose is given.
func rendered(t *testing.T, commit files, config store.ComposeConfig, policy store.Policy) map[string]map[string]any {
	t.Helper()
	stacks := New(Options{ServerID: testServer, Policy: policy})
	dir := t.TempDir()
	write(t, dir, commit)
	m, err := stacks.Load(t.Context(), "shop", dir, &config, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := &rendering{
		Model: m, spec: store.StackSpec{App: "shop", Deployment: 1, Container: "c", Address: netip.MustParseAddrPort("10.0.0.9:80")},
		built: store.BuiltStack{Images: map[string]string{"web": "x", "db": "x"}, Routed: "web"}, binds: &binds{model: m, data: t.TempDir(), used: map[string]bool{}},
	}
	out, err := r.render()
	if err != nil {
		t.Fatal(err)
	}
	var model struct{ Services map[string]map[string]any }
	if err := json.Unmarshal(out, &model); err != nil {
		t.Fatal(err)
	}
	return model.Services
}

func limitsOf(service map[string]any) string {
	resources := service["deploy"].(map[string]any)["resources"].(map[string]any)
	text, _ := json.Marshal([]any{resources["limits"], resources["reservations"], service["memswap_limit"], service["mem_limit"], service["pids_limit"], service["cpus"], service["cpu_quota"]})
	return string(text)
}

// Each container has the limits of the app's config at most, however the compose file says them.
func TestLimitsOfTheConfigAreTheCeiling(t *testing.T) {
	ceiling := store.Resources{Memory: 64 << 20, CPUs: 0.5, PIDs: 50}
	const all = `[{"cpus":0.5,"memory":"67108864","pids":50},null,"67108864",null,null,null,null]`
	for fields, want := range map[string]string{
		"restart: always": all,
		"mem_limit: 20g\n    cpus: 8\n    pids_limit: 100000\n    memswap_limit: -1": all,
		"pids_limit: -1": all,
		"deploy: {resources: {limits: {memory: 20g, cpus: '8', pids: 100000}}}": all,
		"cpu_quota: 200000\n    cpu_period: 100000":                             all,
		"deploy: {resources: {reservations: {memory: 1g}}}":                     `[{"cpus":0.5,"memory":"67108864","pids":50},{},"67108864",null,null,null,null]`,
		"mem_limit: 32m\n    cpus: 0.25\n    pids_limit: 10":                    `[{"cpus":0.25,"memory":"33554432","pids":10},null,"33554432",null,null,null,null]`,
		"deploy: {resources: {limits: {memory: 32m, cpus: '0.25', pids: 10}}}":  `[{"cpus":0.25,"memory":"33554432","pids":10},null,"33554432",null,null,null,null]`,
		"cpu_quota: 25000": `[{"cpus":0.25,"memory":"67108864","pids":50},null,"67108864",null,null,null,null]`,
	} {
		services := rendered(t, web("expose: [80]", "  db: {image: x}").with(web("expose: [80]\n    "+fields, "  db: {image: x}")),
			store.ComposeConfig{SharedConfig: store.SharedConfig{Resources: ceiling}}, store.Policy{})
		if got := limitsOf(services["web"]); got != want {
			t.Errorf("%s:\n got %s\nwant %s", fields, got, want)
		}
		if got := limitsOf(services["db"]); got != all {
			t.Errorf("%s: db has %s", fields, got)
		}
	}
	services := rendered(t, web("mem_limit: 32m"), store.ComposeConfig{}, store.Policy{})
	if got, want := limitsOf(services["web"]), `[{"pids":4096},null,null,"33554432",null,null,null]`; got != want {
		t.Errorf("without limits in the config: %s, want %s", got, want)
	}
}

func TestCapabilitiesAreDropped(t *testing.T) {
	services := rendered(t, web("expose: [80]", "  db: {image: x}"), store.ComposeConfig{}, store.Policy{})
	for name, service := range services {
		if got, _ := json.Marshal(service["cap_drop"]); string(got) != `["NET_RAW","MKNOD","AUDIT_WRITE"]` {
			t.Errorf("service %s: dropped %s", name, got)
		}
	}
	policy, err := store.NewPolicy(store.PolicyRules{Capabilities: []string{"net_raw"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		fields  string
		trusted bool
		want    string
	}{
		{"expose: [80]", false, `["MKNOD","AUDIT_WRITE"]`}, // the operator allows NET_RAW
		{"cap_drop: [ALL]", false, `["ALL","MKNOD","AUDIT_WRITE"]`},
		{"cap_add: [CAP_NET_RAW]", false, `["MKNOD","AUDIT_WRITE"]`},
		{"cap_add: [SYS_PTRACE, mknod]", true, `["AUDIT_WRITE"]`},
		{"privileged: true", true, `null`},
	} {
		services := rendered(t, web(test.fields), store.ComposeConfig{Trusted: test.trusted}, policy)
		if got, _ := json.Marshal(services["web"]["cap_drop"]); string(got) != test.want {
			t.Errorf("%s: dropped %s, want %s", test.fields, got, test.want)
		}
	}
}

// The operator's policy lets stacks join a network by its name. The network of all apps is not the operator's to give.
func TestExternalNetworksByPolicy(t *testing.T) {
	policy, err := store.NewPolicy(store.PolicyRules{Networks: []string{"lan", store.NetworkName(testServer)}})
	if err != nil {
		t.Fatal(err)
	}
	for network, allowed := range map[string]bool{
		"lan: {external: true}": true, "n: {external: true, name: lan}": true, "lan: {external: true, name: other}": false,
		"n: {external: true, name: shipgate-01234567.apps}": false, "n: {name: lan}": false,
	} {
		dir := t.TempDir()
		write(t, dir, web("expose: [80]", "networks: {"+network+"}"))
		_, err := New(Options{ServerID: testServer, Policy: policy}).Load(t.Context(), "shop", dir, &store.ComposeConfig{}, nil)
		if (err == nil) != allowed {
			t.Errorf("%s: %v, want allowed %v", network, err, allowed)
		}
	}
}
