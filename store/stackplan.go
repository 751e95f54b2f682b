package store

// StackPlan is what a compose file asks for, once it was found to be allowed.
type StackPlan struct {
	Routed   string         // the service that gets the app's requests
	Port     int            // where it listens; 0: where its image says
	Services []StackService // by name
	Notes    []string       // what is done otherwise than the file says
}

// StackService is one service of a StackPlan: an image to get, or one to build.
type StackService struct {
	Name  string
	Image string
	Pull  bool        // the image is got anew even when it is here
	Build *StackBuild // nil: the image is got
}

// StackBuild says how the image of a service is built. Paths are relative to the repository.
type StackBuild struct {
	Context    string
	Dockerfile string // relative to the context; default Dockerfile
	Text       string // a Dockerfile inside the compose file
	Target     string
	Args       map[string]string
}

// Names inside a release's folder of a stack.
const (
	StackCheckout = "files"      // the commit's files
	StackImages   = "stack.json" // a BuiltStack
)

// BuiltStack is what the build of a stack found out and made.
type BuiltStack struct {
	Routed string            `json:"routed"`
	Port   int               `json:"port"`
	Images map[string]string `json:"images"` // image id of each service
}
