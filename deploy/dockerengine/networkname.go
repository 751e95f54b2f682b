package dockerengine

import "context"

// Network makes sure of the network that containers are reached on, and gives its name.
func (e *Engine) Network(ctx context.Context) (string, error) {
	if _, err := e.ensureNetwork(ctx); err != nil {
		return "", err
	}
	return e.networkName(), nil
}
