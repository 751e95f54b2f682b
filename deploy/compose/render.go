package compose

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/shipgate/shipgate/store"
)

// readBuilt reads what the build left beside the commit's files.
func readBuilt(dir string) (built store.BuiltStack, err error) {
	content, err := os.ReadFile(filepath.Join(dir, store.StackImages))
	if err == nil {
		err = json.Unmarshal(content, &built)
	}
	if err != nil {
		return built, fmt.Errorf("read the stack's images: %w", err)
	}
	return built, nil
}

// rendering turns a checked model into the one that Compose is given.
type rendering struct {
	*Model
	spec  store.StackSpec
	built store.BuiltStack
	binds *binds
	env   []string // what the plugin is to have beside its own
}

// render gives the model as JSON, which is YAML too. Nothing of it is written to the disk.
func (r *rendering) render() ([]byte, error) {
	for name, service := range r.project.Services {
		image, built := r.built.Images[name]
		if !built {
			return nil, fmt.Errorf("render the stack: service %s has no image in %s", name, store.StackImages)
		}
		service.Image = image
		if err := r.common(&service); err != nil {
			return nil, err
		}
		if name == r.built.Routed {
			r.route(&service)
		}
		r.project.Services[name] = service
	}
	r.label()
	if err := r.objects(); err != nil {
		return nil, err
	}
	rendered, err := r.project.MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("render the stack: %w", err)
	}
	return literal(rendered)
}

// common is what every service gets, and what is ours to say.
func (r *rendering) common(service *types.ServiceConfig) error {
	service.Build, service.PullPolicy, service.Develop, service.EnvFiles, service.LabelFiles = nil, "", nil, nil, nil
	service.ContainerName = ""
	service.Environment.RemoveEmpty() // the plugin would take what has no value from its own environment
	service.Labels = r.with(service.Labels)
	service.Labels[store.LabelContainer] = containerLabel(r.project.Name, service.Name)
	service.Labels[store.LabelDeployment] = "" // an image that we built has one
	if service.Logging == nil {
		service.Logging = &types.LoggingConfig{Driver: "local", Options: types.Options{"max-size": "10m", "max-file": "3"}}
	}
	r.limit(service)
	r.drop(service)
	if !r.trusted && len(service.SecurityOpt) == 0 {
		service.SecurityOpt = []string{"no-new-privileges:true"}
	}
	for i := range service.Volumes {
		if err := r.binds.place(&service.Volumes[i]); err != nil {
			return err
		}
	}
	return nil
}

// route names the container and publishes its port where the proxy dials a loopback address.
func (r *rendering) route(service *types.ServiceConfig) {
	service.ContainerName = r.spec.Container
	service.Hostname = "" // the engine makes it an alias on every network that the container is connected to
	service.Labels[store.LabelDeployment] = strconv.FormatInt(r.spec.Deployment, 10)
	service.Ports = nil
	for _, app := range r.spec.Calls {
		if service.ExtraHosts == nil {
			service.ExtraHosts = types.HostsList{}
		}
		service.ExtraHosts[store.InternalName(app)] = []string{r.spec.Gateway.String()}
	}
	if address := r.spec.Address; address.Addr().IsLoopback() {
		service.Ports = []types.ServicePortConfig{{
			Mode: "ingress", Protocol: "tcp", HostIP: address.Addr().String(),
			Target: uint32(r.spec.Port), Published: strconv.Itoa(int(address.Port())),
		}}
	}
}

func (r *rendering) with(labels types.Labels) types.Labels {
	all := types.Labels{}
	maps.Copy(all, labels)
	all[store.LabelApp], all[store.LabelData], all[store.LabelRole] = r.spec.App, r.server, string(store.RoleStack)
	return all
}

// label marks the networks and volumes as ours.
func (r *rendering) label() {
	for name, network := range r.project.Networks {
		if !network.External {
			network.Labels = r.with(network.Labels)
			r.project.Networks[name] = network
		}
	}
	for name, volume := range r.project.Volumes {
		if !volume.External {
			volume.Labels = r.with(volume.Labels)
			r.project.Volumes[name] = volume
		}
	}
}

// objects places the files of configs and secrets. A value from the env goes through the plugin's environment, under a
// name that means nothing to it: one of the app's could mean something, as DOCKER_HOST does.
func (r *rendering) objects() error {
	for _, name := range slices.Sorted(maps.Keys(r.project.Secrets)) {
		secret := r.project.Secrets[name]
		if secret.Environment != "" {
			variable, err := r.variable("secret "+name, secret.Environment)
			if err != nil {
				return err
			}
			secret.Environment, secret.Content = variable, ""
		}
		if err := r.binds.file(&secret.File); err != nil {
			return err
		}
		secret.Extensions = nil
		r.project.Secrets[name] = secret
	}
	for _, name := range slices.Sorted(maps.Keys(r.project.Configs)) {
		config := r.project.Configs[name]
		if config.Content != "" {
			config.Environment = ""
		}
		if config.Environment != "" {
			variable, err := r.variable("config "+name, config.Environment)
			if err != nil {
				return err
			}
			config.Environment = variable
		}
		if err := r.binds.file(&config.File); err != nil {
			return err
		}
		r.project.Configs[name] = config
	}
	return nil
}

// variable gives the plugin a value of the app's env, and the name that it has there.
func (r *rendering) variable(of, name string) (string, error) {
	value, set := r.spec.Env[name]
	if !set {
		return "", r.problem("%s is the variable %s, which is not in the app's env", of, name).
			WithHint("shipgate env %s set %s=VALUE", r.app, name)
	}
	variable := "SHIPGATE_SECRET_" + strconv.Itoa(len(r.env))
	r.env = append(r.env, variable+"="+value)
	return variable, nil
}

// literal keeps Compose from reading ${…} in values a second time.
func literal(rendered []byte) ([]byte, error) {
	var model any
	if err := json.Unmarshal(rendered, &model); err != nil {
		return nil, fmt.Errorf("render the stack: %w", err)
	}
	text, err := json.Marshal(escape(model))
	return printable(text), err
}

// printable writes what YAML takes in its escaped form only, and JSON in any.
func printable(text []byte) []byte {
	var out bytes.Buffer
	for _, letter := range string(text) {
		if letter >= 0x7f && letter < 0xa0 || letter == '\ufeff' || letter == '\ufffe' || letter == '\uffff' {
			fmt.Fprintf(&out, `\u%04x`, letter)
			continue
		}
		out.WriteRune(letter)
	}
	return out.Bytes()
}

func escape(value any) any {
	switch value := value.(type) {
	case string:
		return strings.ReplaceAll(value, "$", "$$")
	case []any:
		for i := range value {
			value[i] = escape(value[i])
		}
	case map[string]any:
		for key := range value {
			value[key] = escape(value[key])
		}
	}
	return value
}
