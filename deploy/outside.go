package deploy

import (
	"context"
	"time"

	"github.com/shipgate/shipgate/store"
)

// Engine runs containers. Every verb can be repeated: after a crash the runner calls it again with the same name.
type Engine interface {
	// Start creates the container when there is none of this name, starts it when it does not run, and from then on has
	// it started again whenever it ends, should the spec say so.
	Start(ctx context.Context, spec store.ContainerSpec) error
	// Stop asks the process to end, kills it after the grace, and keeps the container. A missing one is no error.
	Stop(ctx context.Context, name string, grace time.Duration) error
	// Remove kills and removes the container. A missing one is no error.
	Remove(ctx context.Context, name string) error
	// List gives the containers of an app, or of all apps when it is empty, that carry our labels, running or not.
	List(ctx context.Context, app string) ([]store.Container, error)
	// Watch reports what happens to the container from now on, and its present state where that says it has ended.
	// It survives the loss of the engine's event stream, judging anew after reconnecting. The channel closes with ctx.
	Watch(ctx context.Context, name string) (<-chan store.ContainerEvent, error)
	// States returns the present state of each container of an app.
	States(ctx context.Context, app string) ([]store.ContainerStatus, error)
	// Changes tells when containers change, and when the engine is lost and back, until ctx ends. It carries no state.
	Changes(ctx context.Context) <-chan store.EngineChange
	// Diagnose looks at a container that did not become healthy.
	Diagnose(ctx context.Context, name string, logLines int) (store.Diagnosis, error)
}

// Commands runs what a release wants done once, before it starts.
type Commands interface {
	// Run runs the container of this name to its end and gives the exit code. It is repeatable: a container that is there
	// already is waited for, not run again, and its lines are handed on from the first. It stays until Engine.Remove.
	Run(ctx context.Context, spec store.ContainerSpec, log func(line string)) (exitCode int, err error)
}

// Stacks runs the stacks of compose apps, one for each app. Every verb can be repeated.
type Stacks interface {
	// Up makes the app's stack what the spec says and returns when each service runs and is healthy. What the compose file
	// or a service does wrong is a failed Problem.
	Up(ctx context.Context, spec store.StackSpec, log func(line string)) error
	// Running says whether the routed service of this very deployment runs.
	Running(ctx context.Context, app string, deployment int64) (bool, error)
	// Stop stops the containers of the app's stack, each with its own grace, and keeps them. A missing stack is no error.
	Stop(ctx context.Context, app string) error
	// Down removes the containers and networks of the app's stack. Volumes stay. A missing stack is no error.
	Down(ctx context.Context, app string) error
	// List gives the apps that have containers of a stack.
	List(ctx context.Context) ([]string, error)
}

// Addresses says where addresses for new containers come from.
type Addresses interface {
	Pool(ctx context.Context) (store.AddressPool, error)
}

// Router moves requests. It lives in a process of its own, and its routes outlive us.
type Router interface {
	// Apply puts the route in place of the app's present one and returns when new requests follow it. It ends a hold.
	Apply(ctx context.Context, route store.Route) error
	// Hold parks new requests of the app and returns when its present target is drained, with the requests left at the cap.
	Hold(ctx context.Context, app string, hold store.Hold) (left int, err error)
	// Release lets the parked requests go to the present target.
	Release(ctx context.Context, app string) error
	// Drain returns when the deployment's target has no request in flight, or at the cap, with the number left.
	// At the cap those left are cut. A target that is not known has none.
	Drain(ctx context.Context, app string, deployment int64, limit time.Duration) (left int, err error)
	// Remove takes the app's route away.
	Remove(ctx context.Context, app string) error
	// SetCallers says which containers may call which apps, all of them at once, and returns when that holds.
	SetCallers(ctx context.Context, table store.CallTable) error
	// Routes lists what is in place.
	Routes(ctx context.Context) ([]store.Route, error)
}

// Builder turns a commit into an artefact. Log lines are handed on as they come.
type Builder interface {
	Build(ctx context.Context, request store.BuildRequest, log func(line string)) (store.Artefact, error)
}

// Branches has the commits of an app, and keeps what its deploy branch says in step with what is live.
type Branches interface {
	// Obtain makes sure that the commit is here and stays. One that is still at the forge is fetched; a forge that cannot be
	// reached is an unreachable Problem, worth another try.
	Obtain(ctx context.Context, deployment store.Deployment) (fetched bool, err error)
	// Check says whether the deployment may still go on: its branch did not move away while it waited.
	Check(ctx context.Context, deployment store.Deployment) error
	// Advance moves the deployment's refs. It can be repeated.
	Advance(ctx context.Context, deployment store.Deployment) error
	// File gives the content of a file at the top of a commit; false when there is none.
	File(ctx context.Context, app, sha, name string) (content []byte, found bool, err error)
	// DeployBranch gives the full name of the app's deploy branch and the commit it says, empty when there is none yet.
	DeployBranch(ctx context.Context, app store.App) (name, sha string, err error)
}
