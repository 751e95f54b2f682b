package compose

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/shipgate/shipgate/store"
)

// choose finds the service that gets the app's requests, and where it listens.
func (m *Model) choose(said string) error {
	services := m.project.Services
	names := slices.Sorted(maps.Keys(services))
	speaking := slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		return len(services[name].Ports) == 0 && len(services[name].Expose) == 0
	})
	usual := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name != "web" && name != "app" })
	switch {
	case said != "":
		m.routed = said
	case len(names) == 1:
		m.routed = names[0]
	case len(speaking) == 1:
		m.routed = speaking[0]
	case len(usual) == 1:
		m.routed = usual[0]
	case len(names) == 0:
		return m.problem("the compose file has no services")
	default:
		return store.Problemf(store.CodeFailed, "which service gets the requests is not clear; there are %s", strings.Join(names, ", ")).
			WithHint(`say "service": shipgate app update %s --config-json FILE`, m.app)
	}
	service, found := services[m.routed]
	if !found {
		return store.Problemf(store.CodeFailed, "there is no service %s to get the requests; there are %s", m.routed, strings.Join(names, ", ")).
			WithHint(`say "service": shipgate app update %s --config-json FILE`, m.app)
	}
	return m.choosePort(service)
}

// choosePort takes the port that the app says, else the only one of the service. Zero is left to its image.
func (m *Model) choosePort(service types.ServiceConfig) error {
	if m.port != 0 {
		return nil
	}
	ports := map[int]bool{}
	for _, port := range service.Ports {
		if port.Protocol == "" || port.Protocol == "tcp" {
			ports[int(port.Target)] = true
		}
	}
	for _, exposed := range service.Expose {
		number, protocol, _ := strings.Cut(exposed, "/")
		port, err := strconv.Atoi(number)
		if err == nil && (protocol == "" || protocol == "tcp") {
			ports[port] = true
		}
	}
	switch found := slices.Sorted(maps.Keys(ports)); len(found) {
	case 0:
	case 1:
		m.port = found[0]
	default:
		return store.Problemf(store.CodeFailed, "service %s has several ports, %s, and the app does not say which",
			m.routed, strings.Trim(fmt.Sprint(found), "[]")).WithHint("shipgate app update %s --port %d", m.app, found[0])
	}
	return nil
}
