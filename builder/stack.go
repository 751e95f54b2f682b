package builder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/shipgate/shipgate/store"
)

// StackPlanner reads the compose file of a checkout. The env is the app's.
type StackPlanner func(ctx context.Context, app, checkout string, config *store.ComposeConfig, env map[string]string) (store.StackPlan, error)

// unfinished begins the name of a release's folder until it is whole, and of one that is being replaced.
const unfinished = ".making-"

// buildStack puts the commit's files where Compose finds them and builds or gets the images of its services.
func (b *Builder) buildStack(ctx context.Context, request store.BuildRequest, config *store.ComposeConfig, snapshot Snapshot, log func(string)) (store.Artefact, error) {
	parent := filepath.Join(b.stacksDir, request.App)
	making, err := newStackFolder(parent)
	if err != nil {
		return store.Artefact{}, diskProblem(b.stacksDir, err)
	}
	defer os.RemoveAll(making)
	files, err := newTree(snapshot)
	if err != nil {
		return store.Artefact{}, err
	}
	checkout := filepath.Join(making, store.StackCheckout)
	if err := files.checkOut(ctx, checkout); err != nil {
		return store.Artefact{}, diskProblem(b.stacksDir, err)
	}
	plan, err := b.planStack(ctx, request.App, checkout, config, request.Env)
	if err != nil {
		return store.Artefact{}, err
	}
	for _, note := range plan.Notes {
		log(note)
	}
	built, err := b.stackImages(ctx, request, plan, snapshot, log)
	if err != nil {
		return store.Artefact{}, err
	}
	if err := installStack(making, filepath.Join(parent, strconv.FormatInt(request.Deployment, 10)), built); err != nil {
		return store.Artefact{}, diskProblem(b.stacksDir, err)
	}
	return store.Artefact{Stack: path.Join(request.App, strconv.FormatInt(request.Deployment, 10)), Port: built.Port}, nil
}

// newStackFolder removes what a crash left of other builds of the app, which builds one release at a time.
func newStackFolder(parent string) (string, error) {
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", err
	}
	left, err := filepath.Glob(filepath.Join(parent, unfinished+"*"))
	if err != nil {
		return "", err
	}
	for _, folder := range left {
		if err := os.RemoveAll(folder); err != nil {
			return "", err
		}
	}
	making, err := os.MkdirTemp(parent, unfinished)
	if err != nil {
		return "", err
	}
	return making, os.Chmod(making, 0o755)
}

// checkOut writes all files of the commit below a folder that is not there yet.
func (t *tree) checkOut(ctx context.Context, folder string) error {
	whole, err := newBuildContext(t, "")
	if err != nil {
		return err
	}
	if err := whole.check("", true); err != nil {
		return err
	}
	var all []*node
	t.root.files(func(n *node) { all = append(all, n) })
	made := map[string]bool{}
	if err := makeFolders(folder, ".", made); err != nil {
		return err
	}
	for _, n := range all {
		if !filepath.IsLocal(filepath.FromSlash(n.Path)) {
			return store.Problemf(store.CodeFailed, "the commit has a file %q, which leaves the repository", n.Path)
		}
		if err := makeFolders(folder, path.Dir(n.Path), made); err != nil {
			return err
		}
	}
	return parallel(ctx, len(all), func(i int) error {
		return t.write(all[i], filepath.Join(folder, filepath.FromSlash(all[i].Path)))
	})
}

// makeFolders makes a folder of the checkout and those above it, open to whoever a container runs as.
func makeFolders(top, name string, made map[string]bool) error {
	if made[name] {
		return nil
	}
	if name != "." {
		if err := makeFolders(top, path.Dir(name), made); err != nil {
			return err
		}
	}
	made[name] = true
	folder := filepath.Join(top, filepath.FromSlash(name))
	return errors.Join(os.Mkdir(folder, 0o755), os.Chmod(folder, 0o755)) // the umask may have taken something away
}

// write makes one file by its git mode.
func (t *tree) write(n *node, to string) error {
	if n.Mode == store.ModeSymlink {
		return t.writeLink(n, to)
	}
	content, err := t.snapshot.Open(n.Path)
	if err != nil {
		return fmt.Errorf("open %s of the commit: %w", n.Path, err)
	}
	defer content.Close()
	mode := fs.FileMode(0o644)
	if n.Mode == store.ModeExecutable {
		mode = 0o755
	}
	file, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	written, err := file.ReadFrom(content)
	if err == nil && written != n.Size {
		err = fmt.Errorf("read %s of the commit: %d bytes in place of %d", n.Path, written, n.Size)
	}
	return errors.Join(err, file.Chmod(mode), file.Close())
}

// writeLink makes a symlink that stays inside the commit. What it points to may be missing.
func (t *tree) writeLink(n *node, to string) error {
	if _, err := t.resolve(n.Path); err != nil && !errors.Is(err, errNothing) {
		return store.Problemf(store.CodeFailed, "the symlink %s cannot be followed: %w", n.Path, err).
			WithHint("git rm %s", n.Path)
	}
	target, err := t.linkTarget(n)
	if err != nil {
		return err
	}
	return os.Symlink(filepath.FromSlash(target), to)
}

// stackImages builds the images of the services that say how, and gets the others. A service may run what another builds.
func (b *Builder) stackImages(ctx context.Context, request store.BuildRequest, plan store.StackPlan, snapshot Snapshot, log func(string)) (store.BuiltStack, error) {
	built := store.BuiltStack{Routed: plan.Routed, Port: plan.Port, Images: map[string]string{}}
	byName := map[string]string{}
	for _, service := range plan.Services {
		if service.Build == nil {
			continue
		}
		log("build " + service.Name)
		artefact, err := b.build(ctx, request, b.serviceRecipe(request, plan, service), snapshot, log)
		if err != nil {
			return built, err
		}
		built.Images[service.Name] = artefact.Image
		if service.Image != "" {
			byName[service.Image] = artefact.Image
		}
		if service.Name == plan.Routed {
			built.Port = artefact.Port
		}
	}
	for _, service := range plan.Services {
		if service.Build != nil {
			continue
		}
		image, found := byName[service.Image]
		if !found {
			var err error
			if image, err = b.serviceImage(ctx, request.App, service, log); err != nil {
				return built, err
			}
		}
		built.Images[service.Name] = image
	}
	if built.Port != 0 {
		return built, nil
	}
	inspected, err := b.docker.ImageInspect(ctx, built.Images[plan.Routed])
	if err != nil {
		return built, b.engineProblem("look at the image of "+plan.Routed, err)
	}
	exposed := map[string]struct{}{}
	if inspected.Config != nil {
		exposed = inspected.Config.ExposedPorts
	}
	built.Port, err = choosePort(request.App, 0, exposed)
	return built, err
}

func (b *Builder) serviceRecipe(request store.BuildRequest, plan store.StackPlan, service store.StackService) recipe {
	r := recipe{
		context: service.Build.Context, dockerfile: service.Build.Dockerfile, text: service.Build.Text,
		target: service.Build.Target, args: service.Build.Args, tag: b.tagOf(request, strings.ToLower(service.Name)),
		portless: true,
	}
	if service.Name == plan.Routed {
		r.port, r.portless = plan.Port, false
	}
	return r
}

// serviceImage gives the id of an image, which is got when the engine does not have it, as Compose does.
func (b *Builder) serviceImage(ctx context.Context, app string, service store.StackService, log func(string)) (string, error) {
	if service.Image == "" {
		return "", store.Problemf(store.CodeFailed, "service %s has neither an image nor a build", service.Name).
			WithHint("write image: or build: in its part of the compose file")
	}
	named, err := parseReference(service.Image)
	if err != nil {
		return "", err
	}
	local, err := b.checkImage(ctx, app, named)
	if err != nil {
		return "", inService(service.Name, err)
	}
	if local != nil && !service.Pull {
		return local.ID, nil
	}
	log("get " + service.Image + " for " + service.Name)
	if err := b.pull(ctx, app, named, log); err != nil {
		return "", err
	}
	if local, err = b.checkImage(ctx, app, named); err != nil {
		return "", inService(service.Name, err)
	}
	if local == nil {
		return "", store.Problemf(store.CodeErrored, "image %s of service %s was removed while it was got", service.Image, service.Name).
			WithHint("shipgate deploy %s", app)
	}
	return local.ID, nil
}

// inService says which service a problem with an image is about.
func inService(service string, err error) error {
	problem, ok := store.AsProblem(err)
	if !ok {
		return err
	}
	found := *problem
	found.Message = "service " + service + ": " + problem.Message
	return &found
}

// installStack makes the folder durable and puts it in its place, whole.
func installStack(making, final string, built store.BuiltStack) error {
	text, err := json.MarshalIndent(built, "", "  ")
	if err != nil {
		return fmt.Errorf("describe the stack: %w", err)
	}
	if err := os.WriteFile(filepath.Join(making, store.StackImages), text, 0o644); err != nil {
		return err
	}
	if err := syncTree(making); err != nil {
		return err
	}
	replaced := filepath.Join(filepath.Dir(final), unfinished+"replaced")
	if err := os.Rename(final, replaced); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("replace stack of the same deployment: %w", err)
	}
	if err := os.Rename(making, final); err != nil {
		return err
	}
	return errors.Join(syncFile(filepath.Dir(final)), os.RemoveAll(replaced))
}

func syncTree(folder string) error {
	if syncFileSystem(folder) {
		return nil
	}
	return filepath.WalkDir(folder, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Type()&fs.ModeSymlink != 0 {
			return err
		}
		return syncFile(name)
	})
}

// stackPresent says whether a stack's files and images are there.
func (b *Builder) stackPresent(ctx context.Context, stack string) (bool, error) {
	content, err := os.ReadFile(filepath.Join(b.stacksDir, filepath.FromSlash(stack), store.StackImages))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	var built store.BuiltStack
	if err == nil {
		err = json.Unmarshal(content, &built)
	}
	if err != nil {
		return false, fmt.Errorf("read the stack's images: %w", err)
	}
	images := []string{}
	for _, image := range built.Images {
		images = append(images, image)
	}
	slices.Sort(images)
	for _, image := range slices.Compact(images) {
		if present, err := b.ImagePresent(ctx, image); err != nil || !present {
			return false, err
		}
	}
	return true, nil
}
