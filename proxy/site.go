package proxy

import (
	"io"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// siteCaching lets caches keep files but ask each time: a new version is seen at once, and costs a 304 otherwise.
const siteCaching = "public, max-age=0, must-revalidate"

// immutableCaching is for files whose names change with their content.
const immutableCaching = "public, max-age=31536000, immutable"

// maxPath is how long a path may be, in bytes. No file system has longer ones, and rules have to read it.
const maxPath = 4 << 10

// site serves a release tree. What is not in its manifest does not exist, whatever lies on the disk.
type site struct {
	*published
	spa       bool
	cleanURLs bool
	earlier   []earlier // the newest first
}

func (s *site) closeIdle() {}

// serve answers in any case: there is nothing to try again.
func (s *site) serve(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		page(w, r, http.StatusMethodNotAllowed, "this is a static site")
		return nil
	}
	if len(r.URL.Path) > maxPath {
		page(w, r, http.StatusRequestURITooLong, "no path of this site is that long")
		return nil
	}
	name := strings.TrimPrefix(r.URL.Path, "/")
	found, exists := s.resolveExact(name)
	if rule, values, matched := s.redirectFor(r.URL, exists); matched {
		s.follow(w, r, rule, values)
		return nil
	}
	switch {
	case exists && found.redirect != "":
		redirect(w, r, found.redirect)
	case exists:
		s.serveFile(w, r, found.name, http.StatusOK)
	case s.serveEarlier(w, r):
	case s.spa && s.has("index.html") && (acceptsHTML(r.Header) || path.Ext(name) == "") && !hidden(name):
		s.serveFile(w, r, "index.html", http.StatusOK)
	default:
		s.serveMissing(w, r)
	}
	return nil
}

// follow does what a rule of _redirects says. A page in the place of everything that is missing is not what who asks for a
// file of an earlier release wants.
func (s *site) follow(w http.ResponseWriter, r *http.Request, rule redirectRule, values map[string]string) {
	if rule.status >= 300 && rule.status < 400 {
		w.Header().Set("Cache-Control", siteCaching)
		w.Header().Set("Location", rule.location(values, r.URL.RawQuery))
		w.WriteHeader(rule.status)
		return
	}
	name, found := s.resolveFile(strings.TrimPrefix(rule.rewritten(values), "/"))
	fallback := !rule.force && (rule.status == http.StatusOK || rule.status == http.StatusNotFound)
	switch {
	case fallback && (!found || s.files[name].isPage()) && s.serveEarlier(w, r):
	case found:
		s.serveFile(w, r, name, rule.status)
	case rule.status >= 400:
		page(w, r, rule.status, "a rule of this site says so")
	default:
		s.serveMissing(w, r)
	}
}

// serveEarlier answers from the newest earlier release that still has a file which this one has no more, for pages that were loaded
// before the cutover. Only files whose names carry a hash of their content are among them: what else was removed is gone.
func (s *site) serveEarlier(w http.ResponseWriter, r *http.Request) bool {
	name := strings.TrimPrefix(r.URL.Path, "/")
	for _, one := range s.earlier {
		file, found := one.files[name]
		if found && file.immutable && !file.isPage() && time.Now().Before(one.Until) && !one.Purged(name) && s.sendFile(w, r, one.published, name, http.StatusOK) == nil {
			return true
		}
	}
	return false
}

// resolution is what a path leads to: a file, another path, or nothing.
type resolution struct{ name, redirect string }

// resolveExact finds the file of a decoded URL path. It looks names up and never makes one from the path's parts, so that
// dots and slashes mean nothing to it.
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

// resolveFile finds the file that a rule means by a path. Nobody sees that path, so that it has no better form.
func (s *site) resolveFile(name string) (string, bool) {
	candidates := []string{name, path.Join(name, "index.html")}
	if s.cleanURLs {
		candidates = append(candidates, name+".html")
	}
	i := slices.IndexFunc(candidates, s.has)
	if i < 0 {
		return "", false
	}
	return candidates[i], true
}

// cleanName gives the path under which a page is known when its ending is not to be seen.
func (s *site) cleanName(name string) (string, bool) {
	if !s.cleanURLs {
		return "", false
	}
	if directory, isIndex := strings.CutSuffix("/"+name, "/index.html"); isIndex {
		return directory + "/", true
	}
	return strings.CutSuffix("/"+name, ".html")
}

func redirect(w http.ResponseWriter, r *http.Request, to string) {
	w.Header().Set("Cache-Control", siteCaching)
	http.Redirect(w, r, (&url.URL{Path: to, RawQuery: r.URL.RawQuery}).String(), http.StatusMovedPermanently)
}

func acceptsHTML(header http.Header) bool { return strings.Contains(header.Get("Accept"), "text/html") }

// serveFile answers with a file of this release.
func (s *site) serveFile(w http.ResponseWriter, r *http.Request, name string, status int) {
	if err := s.sendFile(w, r, s.published, name, status); err != nil {
		page(w, r, http.StatusInternalServerError, "the file cannot be read")
	}
}

// sendFile answers with a file of this or an earlier release, in the best form the client takes. net/http does conditions
// and ranges. Nothing was sent when there is an error.
func (s *site) sendFile(w http.ResponseWriter, r *http.Request, from *published, name string, status int) error {
	form := from.files[name].bestForm(name, r.Header)
	if r.URL.Path != "/"+name {
		form.caching = siteCaching // the hash is in the file's name, and not in the one that was asked for
	}
	if status == http.StatusOK && r.Header.Get("If-None-Match") == form.etag && r.Header.Get("If-Match") == "" {
		form.describe(w.Header()) // the usual question, answered without the file
		s.putHeaders(w.Header(), r.URL.Path)
		for _, name := range []string{"Content-Length", "Content-Type", "Content-Encoding"} {
			w.Header().Del(name)
		}
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	content, err := from.contents.open(form)
	if err != nil {
		return err
	}
	defer content.Close()
	form.describe(w.Header())
	s.putHeaders(w.Header(), r.URL.Path)
	if status == http.StatusOK {
		if r.Header.Get("If-Match") != "" {
			w.Header().Del("Content-Length") // a 412 has no content; net/http says the length of all others
		}
		http.ServeContent(w, r, "", time.Time{}, content)
		return nil
	}
	w.Header().Del("Etag") // it would be taken for one of the path that was asked for
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = io.Copy(w, content) // a client that has gone is nothing to report
	}
	return nil
}

// serveMissing answers with the site's own 404.html, if there is one.
func (s *site) serveMissing(w http.ResponseWriter, r *http.Request) {
	if !s.has("404.html") {
		page(w, r, http.StatusNotFound, "no such page")
		return
	}
	s.serveFile(w, r, "404.html", http.StatusNotFound)
}

// describe sets the headers that belong to the form.
func (f form) describe(header http.Header) {
	header.Set("Content-Type", f.kind)
	header.Set("Content-Length", strconv.FormatInt(f.size, 10))
	header.Set("Cache-Control", f.caching)
	header.Set("Etag", f.etag)
	if f.encoding != "" {
		header.Set("Content-Encoding", f.encoding)
	}
	if f.varies {
		header.Add("Vary", "Accept-Encoding")
	}
}
