package store

import "slices"

// Step is the last fact a Deployment has reached.
type Step string

// The steps. The two strategies order them differently; see StepsOf.
const (
	StepQueued  Step = "queued"  // waiting in its lane, or building
	StepBuilt   Step = "built"   // the Release exists
	StepHeld    Step = "held"    // recreate: new requests are parked and the old target is drained
	StepStopped Step = "stopped" // recreate: the old container is stopped and kept
	StepStarted Step = "started" // the new container runs
	StepHealthy Step = "healthy" // the gate passed
	StepRouted  Step = "routed"  // the router acknowledged the new target
	StepLive    Step = "live"    // the Live row names the new container
	StepDone    Step = "done"    // the old container is gone

	// StepUndoing records the intent to undo, with the verdict to come, before the first effect is taken back.
	StepUndoing Step = "undoing"
	// StepUndone is the end of a deployment that never became live.
	StepUndone Step = "undone"
)

var (
	blueGreenSteps = []Step{StepQueued, StepBuilt, StepStarted, StepHealthy, StepRouted, StepLive, StepDone}
	recreateSteps  = []Step{StepQueued, StepBuilt, StepHeld, StepStopped, StepStarted, StepHealthy, StepRouted, StepLive, StepDone}
)

// StepsOf lists the steps of a strategy in order, without the two of undoing.
func StepsOf(strategy Strategy) []Step {
	if strategy == BlueGreen {
		return slices.Clone(blueGreenSteps)
	}
	return slices.Clone(recreateSteps)
}

// Terminal says that nothing follows this step.
func (s Step) Terminal() bool { return s == StepDone || s == StepUndone }

// CanCancel says that it is not too late to ask for the deployment to stop. From healthy on it rolls forward.
func (s Step) CanCancel() bool {
	return slices.Contains([]Step{StepQueued, StepBuilt, StepHeld, StepStopped, StepStarted}, s)
}

// CanUndo says that a failure at this step may take the deployment back. A healthy one is taken back only when the
// router is seen to have refused it; once routed, nothing is.
func (s Step) CanUndo() bool { return s.CanCancel() || s == StepHealthy }

// LegalNext says whether a deployment of this strategy may go from one step to the other.
func LegalNext(strategy Strategy, from, to Step) bool {
	switch to {
	case StepUndoing:
		return from.CanUndo()
	case StepUndone:
		return from == StepUndoing || from == StepQueued
	}
	steps := StepsOf(strategy)
	at := slices.Index(steps, from)
	return at >= 0 && at+1 < len(steps) && steps[at+1] == to
}
