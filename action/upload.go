package action

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
)

// directory is what the input path means.
func (r *run) directory() string {
	if filepath.IsAbs(r.inputs.path) {
		return r.inputs.path
	}
	return filepath.Join(r.out.getenv("GITHUB_WORKSPACE"), r.inputs.path)
}

// upload sends a directory of the workspace, without git's own files, and gives the commit that it becomes.
func (r *run) upload(ctx context.Context) (sha string, err error) {
	dir, err := filepath.EvalSymlinks(r.directory()) // a build may give a link to where its result is
	if info, failed := os.Stat(dir); err != nil || failed != nil || !info.IsDir() {
		return "", usage("path: dist", "input path is no directory: %s", r.inputs.path)
	}
	err = patiently(ctx, func() (again bool, err error) {
		sha, again, err = r.uploadOnce(ctx, dir)
		return again, err
	})
	return sha, err
}

func (r *run) uploadOnce(ctx context.Context, dir string) (sha string, again bool, err error) {
	reader, writer := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := pack(writer, dir)
		writer.CloseWithError(err)
		packed <- err
	}()
	subject := fmt.Sprintf("Built by run %s of %s", r.place.run, cut(r.place.sha, 7))
	header := http.Header{"Content-Type": {"application/gzip"}}
	path := "/api/v1/apps/" + url.PathEscape(r.inputs.app) + "/uploads?subject=" + url.QueryEscape(subject)
	response, again, err := r.server.send(ctx, http.MethodPost, path, header, reader)
	reader.CloseWithError(io.ErrClosedPipe)
	if failed := <-packed; failed != nil && failed != io.ErrClosedPipe {
		return "", false, usage("look at the files below path", "input path cannot be packed: %v", failed)
	}
	if err != nil {
		return "", again, err
	}
	defer response.Body.Close()
	var made struct {
		SHA   string `json:"sha"`
		Tree  string `json:"tree"`
		Files int    `json:"files"`
		Bytes int64  `json:"bytes"`
	}
	if err := json.NewDecoder(response.Body).Decode(&made); err != nil {
		return "", true, r.server.unreachable(err)
	}
	r.out.say(fmt.Sprintf("upload  %d files, %d bytes as commit %s", made.Files, made.Bytes, cut(made.SHA, 7)))
	r.inputs.content = made.Tree
	return made.SHA, false, nil
}

// pack writes a compressed tar stream of a directory.
func pack(to io.Writer, dir string) error {
	compressed, err := gzip.NewWriterLevel(to, gzip.BestSpeed)
	if err != nil {
		return err
	}
	out := tar.NewWriter(compressed)
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.Name() == ".git" {
			if entry.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		name, err := filepath.Rel(dir, path)
		if err != nil || name == "." || entry.IsDir() {
			return err // folders come with their files
		}
		return packFile(out, path, filepath.ToSlash(name))
	})
	if err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	return compressed.Close()
}

func packFile(out *tar.Writer, path, name string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	target := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if target, err = os.Readlink(path); err != nil {
			return err
		}
	} else if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is neither a file nor a symbolic link", name)
	}
	header, err := tar.FileInfoHeader(info, filepath.ToSlash(target))
	if err != nil {
		return err
	}
	header.Name, header.Uname, header.Gname, header.Uid, header.Gid = name, "", "", 0, 0
	if err := out.WriteHeader(header); err != nil || target != "" {
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = io.Copy(out, file)
	return err
}
