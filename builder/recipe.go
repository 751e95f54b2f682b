package builder

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"path"

	buildkit "github.com/moby/buildkit/client"
	"github.com/tonistiigi/fsutil"
	"github.com/tonistiigi/fsutil/types"

	"github.com/shipgate/shipgate/store"
)

// recipe says what to build: a Dockerfile of the commit, or one of ours over the commit's files.
type recipe struct {
	context    string // directory of the commit
	dockerfile string // relative to the context; default Dockerfile
	text       string // a Dockerfile of ours, in place of one of the commit
	target     string
	args       map[string]string
	secrets    []string // names of env values given to RUN --mount=type=secret
	port       int      // where the image listens, as far as it was said
	portless   bool     // the image need not say a port
	tag        string   // of the image
	files      string   // directory to put the result's files into, in place of an image
}

// tagOf names the image of a deployment. A part tells the images of one deployment apart.
func tagOf(request store.BuildRequest, part string) string {
	if part != "" {
		part = "/" + part
	}
	return fmt.Sprintf("shipgate/%s%s:%d", request.App, part, request.Deployment)
}

func recipeOf(request store.BuildRequest, config *store.DockerfileConfig) recipe {
	return recipe{
		context: config.Context, dockerfile: config.Dockerfile, target: config.Target, args: config.BuildArgs,
		secrets: config.BuildSecrets, port: config.Port, tag: tagOf(request, ""),
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
	if i.recipe.text != "" {
		return ourDockerfile(i.recipe.text)
	}
	return i.context
}

// ourDockerfile is a directory that has nothing but a Dockerfile.
type ourDockerfile string

// Walk visits the one file.
func (d ourDockerfile) Walk(_ context.Context, target string, visit fs.WalkDirFunc) error {
	if clean := path.Clean("/" + target); clean != "/" && clean != "/"+defaultDockerfile {
		return nil
	}
	id := sha256.Sum256([]byte(d))
	stat := &types.Stat{
		Path: defaultDockerfile, Mode: 0o644, Size: int64(len(d)), ModTime: fileTime(hex.EncodeToString(id[:])).UnixNano(),
	}
	return visit(stat.Path, &fsutil.DirEntryInfo{Stat: stat}, nil)
}

// Open reads the one file.
func (d ourDockerfile) Open(name string) (io.ReadCloser, error) {
	if path.Clean("/"+name) != "/"+defaultDockerfile {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return io.NopCloser(bytes.NewReader([]byte(d))), nil
}
