package store

import (
	"strings"
	"testing"
)

// legal has, for each strategy, the steps that may follow a step. What is not here is refused.
var legal = map[Strategy]map[Step]string{
	BlueGreen: {
		StepQueued: "built undoing undone", StepBuilt: "started undoing", StepStarted: "healthy undoing", StepHealthy: "routed undoing",
		StepRouted: "live", StepLive: "done", StepUndoing: "undone",
		StepHeld: "undoing", StepStopped: "undoing", // never reached, but undoing is always safe
	},
	Recreate: {
		StepQueued: "built undoing undone", StepBuilt: "held undoing", StepHeld: "stopped undoing", StepStopped: "started undoing",
		StepStarted: "healthy undoing", StepHealthy: "routed undoing", StepRouted: "live", StepLive: "done", StepUndoing: "undone",
	},
}

var everyStep = []Step{StepQueued, StepBuilt, StepHeld, StepStopped, StepStarted, StepHealthy, StepRouted, StepLive, StepDone, StepUndoing, StepUndone, "", "junk"}

func TestLegalNext(t *testing.T) {
	for strategy, follows := range legal {
		for _, from := range everyStep {
			for _, to := range everyStep {
				want := to != "" && strings.Contains(" "+follows[from]+" ", " "+string(to)+" ")
				if got := LegalNext(strategy, from, to); got != want {
					t.Errorf("%s: %q → %q is %t, want %t", strategy, from, to, got, want)
				}
			}
		}
	}
}

func TestWhatAStepAllows(t *testing.T) {
	cancel := "queued built held stopped started"
	for what, c := range map[string]struct {
		ask   func(Step) bool
		steps string
	}{
		"terminal": {Step.Terminal, "done undone"}, "can cancel": {Step.CanCancel, cancel}, "can undo": {Step.CanUndo, cancel + " healthy"},
	} {
		for _, step := range everyStep {
			want := step != "" && strings.Contains(" "+c.steps+" ", " "+string(step)+" ")
			if got := c.ask(step); got != want {
				t.Errorf("%s: %q is %t, want %t", what, step, got, want)
			}
		}
	}
}

func TestStepsCannotBeChangedByTheirReader(t *testing.T) {
	StepsOf(BlueGreen)[0], StepsOf(Recreate)[0] = "junk", "junk"
	if StepsOf(BlueGreen)[0] != StepQueued || StepsOf(Recreate)[0] != StepQueued {
		t.Error("the order of steps was changed from outside")
	}
}
