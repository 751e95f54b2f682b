package deploy

import (
	"context"

	"github.com/shipgate/shipgate/store"
)

// transition is one row of a strategy: at this step, do this, and then this is a fact.
type transition struct {
	from, to store.Step
	do       func(*attempt, context.Context) (store.Change, error)
}

// blueGreen starts the new version beside the old one.
var blueGreen = []transition{
	{store.StepQueued, store.StepBuilt, (*attempt).build},
	{store.StepBuilt, store.StepStarted, (*attempt).start},
	{store.StepStarted, store.StepHealthy, (*attempt).gate},
	{store.StepHealthy, store.StepRouted, (*attempt).route},
	{store.StepRouted, store.StepLive, (*attempt).goLive},
	{store.StepLive, store.StepDone, (*attempt).reap},
	{store.StepUndoing, store.StepUndone, (*attempt).undo},
}

// recreate parks requests, stops the old version and keeps it, and starts the new one in its place.
var recreate = []transition{
	{store.StepQueued, store.StepBuilt, (*attempt).build},
	{store.StepBuilt, store.StepHeld, (*attempt).hold},
	{store.StepHeld, store.StepStopped, (*attempt).stopPrevious},
	{store.StepStopped, store.StepStarted, (*attempt).start},
	{store.StepStarted, store.StepHealthy, (*attempt).gate},
	{store.StepHealthy, store.StepRouted, (*attempt).route},
	{store.StepRouted, store.StepLive, (*attempt).goLive},
	{store.StepLive, store.StepDone, (*attempt).reap},
	{store.StepUndoing, store.StepUndone, (*attempt).undo},
}

func nextTransition(d store.Deployment) transition {
	transitions := recreate
	if d.Strategy == store.BlueGreen {
		transitions = blueGreen
	}
	for _, t := range transitions {
		if t.from == d.Step {
			return t
		}
	}
	panic("no transition from step " + string(d.Step)) // the store lets no such step in
}
