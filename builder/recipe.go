package builder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	buildkit "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session"
	"github.com/tonistiigi/fsutil"
	"github.com/tonistiigi/fsutil/types"

	"github.com/shipgate/shipgate/store"
)

// recipe says what to build: a Dockerfile of the commit, or one of ours over the commit's files.
type recipe struct {
	context    string // directory of the commit
	dockerfile string // relative to the context; default Dockerfile
	text       string // a Dockerfile of ours, in place of one of the commit
	base       string // the image that the text starts from, where it was checked before
	whole      bool   // .dockerignore has no say: what a Dockerfile of the commit leaves out is not what ours does
	pulls      bool   // it only gets an image, which waits for no build slot
	target     string
	args       map[string]string
	secrets    []string             // names of env values given to RUN --mount=type=secret
	port       int                  // where the image listens, as far as it was said
	portless   bool                 // the image need not say a port
	tag        string               // of the image
	files      string               // directory to put the result's files into, in place of an image
	session    []session.Attachable // what BuildKit may ask for beside the secrets
	step       string               // what a Dockerfile of ours runs, in messages
	// explain says what went wrong where the Dockerfile is one that the user has never seen; nil: nothing better to say.
	explain func(at place, err error) error
}

// tagOf names the image of a deployment. A part tells the images of one deployment apart.
func (b *Builder) tagOf(request store.BuildRequest, part string) string {
	if part != "" {
		part = "/" + part
	}
	return fmt.Sprintf("%s%s:%d", b.repository(request.App), part, request.Deployment)
}

func (b *Builder) recipeOf(request store.BuildRequest, config *store.DockerfileConfig) recipe {
	return recipe{
		context: config.Context, dockerfile: config.Dockerfile, target: config.Target, args: config.BuildArgs,
		secrets: config.BuildSecrets, port: config.Port, tag: b.tagOf(request, ""),
	}
}

func (r recipe) export() buildkit.ExportEntry {
	if r.files != "" {
		return buildkit.ExportEntry{Type: buildkit.ExporterLocal, OutputDir: r.files}
	}
	return buildkit.ExportEntry{Type: "moby", Attrs: map[string]string{"name": r.tag}}
}

// definition gives BuildKit the Dockerfile.
func (i *imageBuild) definition() fsutil.FS {
	switch {
	case i.recipe.text == "":
		return i.context
	case i.recipe.whole:
		// The Dockerfile's own ignore file goes before the commit's.
		return ourFiles{{defaultDockerfile, i.recipe.text}, {defaultDockerfile + ".dockerignore", "# nothing"}}
	}
	return ourFiles{{defaultDockerfile, i.recipe.text}}
}

// ourFile is a file's name and its content.
type ourFile [2]string

// ourFiles is a directory of the files that we write for BuildKit, by name.
type ourFiles []ourFile

// Walk visits the files.
func (f ourFiles) Walk(_ context.Context, target string, visit fs.WalkDirFunc) error {
	clean := path.Clean("/" + target)
	for _, file := range f {
		name, content := file[0], file[1]
		if clean != "/" && clean != "/"+name {
			continue
		}
		id := sha256.Sum256([]byte(content))
		stat := &types.Stat{
			Path: name, Mode: 0o644, Size: int64(len(content)), ModTime: fileTime(hex.EncodeToString(id[:])).UnixNano(),
		}
		if err := visit(name, &fsutil.DirEntryInfo{Stat: stat}, nil); err != nil {
			return err
		}
	}
	return nil
}

// Open reads a file.
func (f ourFiles) Open(name string) (io.ReadCloser, error) {
	for _, file := range f {
		if path.Clean("/"+name) == "/"+file[0] {
			return io.NopCloser(strings.NewReader(file[1])), nil
		}
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}
