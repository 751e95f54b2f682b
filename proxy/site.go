package proxy

import (
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/shipgate/shipgate/store"
)

// siteCaching lets caches keep files but ask each time: a new version is seen at once, and costs a 304 otherwise.
const siteCaching = "public, max-age=0, must-revalidate"

// site serves a release tree. What is not in its manifest does not exist, whatever lies on the disk.
type site struct {
	tree      string
	spa       bool
	cleanURLs bool
	files     map[string]siteFile
}

func openSite(wanted store.Target) (*site, error) {
	files, err := loadManifest(wanted.Site)
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(filepath.Join(wanted.Site, "files")); err != nil || !info.IsDir() {
		return nil, store.Problemf(store.CodeErrored, "site %s has no files directory", wanted.Site)
	}
	return &site{tree: wanted.Site, spa: wanted.SPA, cleanURLs: wanted.CleanURLs, files: files}, nil
}

func (s *site) closeIdle() {}

// serve answers in any case: there is nothing to try again.
func (s *site) serve(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		page(w, r, http.StatusMethodNotAllowed, "this is a static site")
		return nil
	}
	switch found := s.resolve(r.URL.Path, acceptsHTML(r.Header)); {
	case found.redirect != "":
		redirect(w, r, found.redirect)
	case found.name != "":
		s.serveFile(w, r, found.name)
	default:
		s.serveMissing(w, r)
	}
	return nil
}

// resolution is what a path leads to: a file, another path, or nothing.
type resolution struct{ name, redirect string }

// resolve finds the file of a decoded URL path. It looks names up and never makes one from the path's parts, so that
// dots and slashes mean nothing to it.
func (s *site) resolve(requested string, wantsHTML bool) resolution {
	name := strings.TrimPrefix(requested, "/")
	if found, ok := s.resolveExact(name); ok {
		return found
	}
	if s.spa && s.has("index.html") && (wantsHTML || path.Ext(name) == "") && !hidden(name) {
		return resolution{name: "index.html"}
	}
	return resolution{}
}

func (s *site) resolveExact(name string) (resolution, bool) {
	directory, isDirectory := strings.CutSuffix(name, "/")
	switch {
	case name == "" || isDirectory:
		if s.has(name + "index.html") {
			return resolution{name: name + "index.html"}, true
		}
		if s.cleanURLs && s.has(directory+".html") {
			return resolution{redirect: "/" + directory}, true
		}
	case s.has(name):
		if clean, ok := s.cleanName(name); ok {
			return resolution{redirect: clean}, true
		}
		return resolution{name: name}, true
	case s.cleanURLs && s.has(name+".html"):
		return resolution{name: name + ".html"}, true
	case s.has(name + "/index.html"):
		return resolution{redirect: "/" + name + "/"}, true
	}
	return resolution{}, false
}

// cleanName gives the path under which a page is known when its ending is not to be seen.
func (s *site) cleanName(name string) (string, bool) {
	if !s.cleanURLs {
		return "", false
	}
	if directory, isIndex := strings.CutSuffix("/"+name, "/index.html"); isIndex {
		return directory + "/", true
	}
	clean, isPage := strings.CutSuffix("/"+name, ".html")
	return clean, isPage && path.Base(clean) != "/"
}

func (s *site) has(name string) bool {
	_, found := s.files[name]
	return found
}

func redirect(w http.ResponseWriter, r *http.Request, to string) {
	w.Header().Set("Cache-Control", siteCaching)
	http.Redirect(w, r, (&url.URL{Path: to, RawQuery: r.URL.RawQuery}).String(), http.StatusMovedPermanently)
}

func acceptsHTML(header http.Header) bool { return strings.Contains(header.Get("Accept"), "text/html") }

// serveFile answers with the file, in the best form the client takes. net/http does conditions and ranges.
func (s *site) serveFile(w http.ResponseWriter, r *http.Request, name string) {
	form := s.files[name].bestForm(name, r.Header)
	content, err := s.open(form)
	if err != nil {
		page(w, r, http.StatusInternalServerError, "the file cannot be read")
		return
	}
	defer content.Close()
	form.describe(w.Header())
	http.ServeContent(w, r, "", time.Time{}, content)
}

// serveMissing answers with the site's own 404.html, if there is one.
func (s *site) serveMissing(w http.ResponseWriter, r *http.Request) {
	file, found := s.files["404.html"]
	if !found {
		page(w, r, http.StatusNotFound, "no such page")
		return
	}
	form := file.bestForm("404.html", r.Header)
	content, err := s.open(form)
	if err != nil {
		page(w, r, http.StatusNotFound, "no such page")
		return
	}
	defer content.Close()
	form.describe(w.Header())
	w.Header().Del("Etag") // it would be taken for one of the path that was asked for
	w.WriteHeader(http.StatusNotFound)
	if r.Method != http.MethodHead {
		_, _ = io.Copy(w, content) // a client that has gone is nothing to report
	}
}

// open gives a form's content. A symbolic link may not lead out of the tree.
func (s *site) open(form form) (*os.File, error) {
	content, err := os.OpenInRoot(s.tree, form.path)
	if err != nil {
		return nil, fmt.Errorf("open site file: %w", err)
	}
	info, err := content.Stat()
	if err == nil && (!info.Mode().IsRegular() || info.Size() != form.size) {
		err = &fs.PathError{Op: "open", Path: form.path, Err: fs.ErrInvalid}
	}
	if err != nil {
		_ = content.Close() // read only
		return nil, err
	}
	return content, nil
}

// describe sets the headers that belong to the form.
func (f form) describe(header http.Header) {
	header.Set("Content-Type", f.kind)
	header.Set("Content-Length", strconv.FormatInt(f.size, 10))
	header.Set("Cache-Control", siteCaching)
	header.Set("Etag", f.etag)
	if f.encoding != "" {
		header.Set("Content-Encoding", f.encoding)
	}
	if f.varies {
		header.Add("Vary", "Accept-Encoding")
	}
}
