package web

import (
	"cmp"
	"fmt"
	"time"

	"github.com/shipgate/shipgate/store"
)

// stage is one bar of the picture of a deployment: what was done between two steps.
type stage struct {
	Name        string
	State       string // done, current, broken, stopped or pending
	Took        string
	Left, Width string // in percent of the whole
	from, to    time.Time
}

// stageNames say what leads to a step, in the words of the push.
var stageNames = map[store.Step]string{
	store.StepBuilt: "build", store.StepHeld: "hold", store.StepStopped: "stop", store.StepStarted: "start", store.StepHealthy: "gate",
	store.StepRouted: "route", store.StepLive: "live", store.StepDone: "drain", store.StepUndone: "undo",
}

// picture lays out what a deployment has done, is doing and has before it.
func picture(d store.Deployment, times map[store.Step]time.Time, now time.Time) []stage {
	wait := stage{Name: "wait", State: "done", from: d.CreatedAt, to: d.StartedAt}
	if d.StartedAt.IsZero() {
		wait.State, wait.to = "current", now
		if d.Verdict != "" {
			wait.State, wait.to = endedAs(d), d.FinishedAt
		}
		return scaled([]stage{wait})
	}
	stages := append([]stage{wait}, workOf(d, times, now)...)
	if undoing, found := times[store.StepUndoing]; found {
		undo := stage{Name: "undo", State: "current", from: undoing, to: now}
		if undone, found := times[store.StepUndone]; found {
			undo.State, undo.to = "done", undone
		}
		stages = append(stages, undo)
	}
	return scaled(stages)
}

// endedAs tells what broke from what somebody stopped.
func endedAs(d store.Deployment) string {
	if verdict := cmp.Or(d.Verdict, d.Pending); verdict == store.Cancelled || verdict == store.Superseded {
		return "stopped"
	}
	return "broken"
}

// workOf gives the stages from the build on. The first that has not reached its step is under way, or the one that broke.
func workOf(d store.Deployment, times map[store.Step]time.Time, now time.Time) (stages []stage) {
	before, state := d.StartedAt, "current"
	broke, undone := times[store.StepUndoing]
	if !undone {
		broke, undone = times[store.StepUndone]
	}
	if undone {
		state = endedAs(d)
	}
	for _, step := range store.StepsOf(d.Strategy)[1:] {
		next := stage{Name: stageNames[step], State: state, from: before, to: now}
		reached, found := times[step]
		switch {
		case found:
			next.State, next.to, before = "done", reached, reached
		case state == "pending":
			next.to = next.from
		case undone:
			next.to, state = broke, "pending"
		default:
			state = "pending"
		}
		stages = append(stages, next)
	}
	return stages
}

// thinnest is the width in percent that can still be seen.
const thinnest = 0.6

func scaled(stages []stage) []stage {
	begin, end := stages[0].from, stages[0].to
	for _, one := range stages {
		if one.to.After(end) {
			end = one.to
		}
	}
	whole := max(end.Sub(begin), time.Millisecond)
	for i := range stages {
		one := &stages[i]
		if one.State == "pending" {
			continue
		}
		length := one.to.Sub(one.from)
		width := max(percent(length, whole), thinnest)
		one.Took = took(length)
		one.Left = fmt.Sprintf("%.2f", min(max(percent(one.from.Sub(begin), whole), 0), 100-width))
		one.Width = fmt.Sprintf("%.2f", width)
	}
	return stages
}

func percent(part, whole time.Duration) float64 { return min(100*float64(part)/float64(whole), 100) }
