package dockerengine

import (
	"strings"
	"testing"
)

func TestParseRoutes(t *testing.T) {
	const table = `Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	010200C0	0003	0	0	0	00000000	0	0	0
docker0	000011AC	00000000	0001	0	0	0	0000FFFF	0	0	0
tun0	0000D60A	00000000	0001	0	0	0	00FCFFFF	0	0	0
short	000011AC
bad	zz0011AC	00000000	0001	0	0	0	0000FFFF	0	0	0
`
	routes, err := parseRoutes(strings.NewReader(table))
	if err != nil || len(routes) != 2 || routes[0].String() != "172.17.0.0/16" || routes[1].String() != "10.214.0.0/22" {
		t.Errorf("routes %v, error %v", routes, err)
	}
}
