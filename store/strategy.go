package store

import "fmt"

// Strategy is how a new version takes the place of the old one.
type Strategy string

// The strategies.
const (
	Recreate  Strategy = "recreate"
	BlueGreen Strategy = "blue-green"
)

// Plan is the strategy that will run, why, and the gap to expect.
type Plan struct {
	Strategy Strategy `json:"strategy"`
	Reason   string   `json:"reason"`
	Gap      string   `json:"gap"`
	Forced   bool     `json:"forced"` // the config asked for something else
}

// String is the plan as a push shows it.
func (p Plan) String() string { return fmt.Sprintf("%s: %s; %s", p.Strategy, p.Reason, p.Gap) }

// PlanOf decides the effective strategy of a decoded config. It is pure: same config, same plan.
func PlanOf(config Config) Plan { return config.plan() }

// WithStrategy has a config mean the strategy that a request asks for in place of its own; "" asks for none. One that the
// source cannot have is a usage Problem.
func WithStrategy(config Config, asked string) (Config, error) {
	if asked == "" {
		return config, nil
	}
	config.Shared().DeployStrategy = asked
	if err := config.validate(); err != nil {
		return nil, Problemf(CodeUsage, "the strategy of this deployment: %w", err)
	}
	return config, nil
}

func legalStrategy(strategy string) error {
	switch Strategy(strategy) {
	case "", Recreate, BlueGreen:
		return nil
	}
	return fmt.Errorf("deploy_strategy %q is unknown: use recreate or blue-green", strategy)
}

const (
	noGap   = "no gap expected"
	heldGap = "requests wait while it restarts, for %s at the most"
	openGap = "requests are answered 503 while it restarts"
)

func (c *DockerfileConfig) plan() Plan { return c.containerPlan(Recreate) }

func (c *ImageConfig) plan() Plan { return c.containerPlan(BlueGreen) }

func (c *ComposeConfig) plan() Plan {
	return c.recreatePlan("Compose manages the stack itself", false)
}

func (c *StaticConfig) plan() Plan {
	if c.Deno() {
		if c.StorageEnabled {
			return c.recreatePlan("storage is enabled, and two writers must not share one volume", c.wantsBlueGreen())
		}
		return c.containerPlan(Recreate)
	}
	strategy := Recreate
	if c.wantsBlueGreen() {
		strategy = BlueGreen
	}
	return Plan{Strategy: strategy, Reason: "static files, switched in one step", Gap: noGap}
}

// containerPlan applies the rules that hold wherever one container replaces another.
func (c *SharedConfig) containerPlan(fallback Strategy) Plan {
	for _, volume := range c.Volumes {
		if !volume.ReadOnly {
			return c.recreatePlan(fmt.Sprintf("volume %s is writable, and two writers must not share it", volume.Name), c.wantsBlueGreen())
		}
	}
	if c.wantsBlueGreen() || (c.DeployStrategy == "" && fallback == BlueGreen) {
		return Plan{Strategy: BlueGreen, Reason: c.gateText(), Gap: noGap}
	}
	return c.recreatePlan(c.gateText(), false)
}

func (c *SharedConfig) recreatePlan(reason string, forced bool) Plan {
	gap := openGap
	if hold := c.Hold.Or(DefaultHold); hold > 0 {
		gap = fmt.Sprintf(heldGap, hold)
	}
	return Plan{Strategy: Recreate, Reason: reason, Gap: gap, Forced: forced}
}

func (c *SharedConfig) wantsBlueGreen() bool { return c.DeployStrategy == string(BlueGreen) }

func (c *SharedConfig) gateText() string {
	if c.Healthcheck != nil {
		return "health check GET " + c.Healthcheck.Path
	}
	liveness := c.Liveness.Or(DefaultLiveness)
	if liveness == 0 {
		return "no health check, so it must accept connections"
	}
	return fmt.Sprintf("no health check, so it must accept connections and live for %s", liveness)
}
