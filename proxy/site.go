package proxy

import (
	"io"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"
)

// siteCaching lets caches keep files but ask each time: a new version is seen at once, and costs a 304 otherwise.
const siteCaching = "public, max-age=0, must-revalidate"

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
	if rule, values, found := s.redirectFor(r.URL, true); found {
		s.follow(w, r, rule, values)
		return nil
	}
	name := strings.TrimPrefix(r.URL.Path, "/")
	if found, ok := s.resolveExact(name); ok {
		s.answer(w, r, found)
		return nil
	}
	if rule, values, found := s.redirectFor(r.URL, false); found {
		s.follow(w, r, rule, values)
		return nil
	}
	if before := s.before(name); before != nil {
		s.serveFile(w, r, before, name, http.StatusOK)
		return nil
	}
	if s.spa && s.has("index.html") && (acceptsHTML(r.Header) || path.Ext(name) == "") && !hidden(name) {
		s.serveFile(w, r, s.published, "index.html", http.StatusOK)
		return nil
	}
	s.serveMissing(w, r)
	return nil
}

func (s *site) answer(w http.ResponseWriter, r *http.Request, found resolution) {
	if found.redirect != "" {
		redirect(w, r, found.redirect)
		return
	}
	s.serveFile(w, r, s.published, found.name, http.StatusOK)
}

// follow does what a rule of _redirects says.
func (s *site) follow(w http.ResponseWriter, r *http.Request, rule redirectRule, values map[string]string) {
	if rule.status >= 300 && rule.status < 400 {
		w.Header().Set("Cache-Control", siteCaching)
		w.Header().Set("Location", rule.location(values, r.URL.RawQuery))
		w.WriteHeader(rule.status)
		return
	}
	found, ok := s.resolveExact(strings.TrimPrefix(rule.path(values), "/"))
	switch {
	case !ok && rule.status >= 400:
		page(w, r, rule.status, "a rule of this site says so")
	case !ok:
		s.serveMissing(w, r)
	case found.redirect != "" && rule.status == http.StatusOK:
		redirect(w, r, found.redirect)
	case found.redirect != "":
		page(w, r, rule.status, "a rule of this site says so")
	default:
		s.serveFile(w, r, s.published, found.name, rule.status)
	}
}

// before finds the earlier release that still has a file which this one has no more. Pages are not among them: what was
// taken away is to be gone.
func (s *site) before(name string) *published {
	for _, one := range s.earlier {
		file, found := one.files[name]
		if found && !strings.HasPrefix(file.kind, "text/html") && time.Now().Before(one.until) {
			return one.published
		}
	}
	return nil
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

func redirect(w http.ResponseWriter, r *http.Request, to string) {
	w.Header().Set("Cache-Control", siteCaching)
	http.Redirect(w, r, (&url.URL{Path: to, RawQuery: r.URL.RawQuery}).String(), http.StatusMovedPermanently)
}

func acceptsHTML(header http.Header) bool { return strings.Contains(header.Get("Accept"), "text/html") }

// serveFile answers with a file of this or an earlier release, in the best form the client takes. net/http does conditions
// and ranges.
func (s *site) serveFile(w http.ResponseWriter, r *http.Request, from *published, name string, status int) {
	form := from.files[name].bestForm(name, r.Header)
	if status == http.StatusOK && r.Header.Get("If-None-Match") == form.etag { // the usual question, answered without the file
		form.describe(w.Header())
		w.Header().Del("Content-Length")
		w.Header().Del("Content-Type")
		s.putHeaders(w.Header(), r.URL.Path)
		w.WriteHeader(http.StatusNotModified)
		return
	}
	content, err := from.contents.open(form)
	if err != nil {
		page(w, r, http.StatusInternalServerError, "the file cannot be read")
		return
	}
	defer content.Close()
	form.describe(w.Header())
	s.putHeaders(w.Header(), r.URL.Path)
	if status == http.StatusOK {
		http.ServeContent(w, r, "", time.Time{}, content)
		return
	}
	w.Header().Del("Etag") // it would be taken for one of the path that was asked for
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = io.Copy(w, content) // a client that has gone is nothing to report
	}
}

// serveMissing answers with the site's own 404.html, if there is one.
func (s *site) serveMissing(w http.ResponseWriter, r *http.Request) {
	if !s.has("404.html") {
		page(w, r, http.StatusNotFound, "no such page")
		return
	}
	s.serveFile(w, r, s.published, "404.html", http.StatusNotFound)
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
