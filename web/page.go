package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/shipgate/shipgate/store"
)

//go:embed pages assets
var files embed.FS

const (
	sessionKey = "session"
	pageKey    = "page"
)

// contentPolicy lets a page load what this server has made itself, and nothing else; %s is where its forms may go.
const contentPolicy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action %s; frame-ancestors 'none'; base-uri 'none'"

// page makes a route one of the pages: for browsers, by session.
func (s *server) page(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		pageHeaders(c)
		session, err := s.session(c)
		if err != nil {
			return err
		}
		c.Set(sessionKey, session)
		return next(c)
	}
}

func sessionOf(c echo.Context) *store.Token {
	session, _ := c.Get(sessionKey).(*store.Token)
	return session
}

func pageHeaders(c echo.Context) {
	c.Set(pageKey, true)
	header := c.Response().Header()
	header.Set("Cache-Control", "no-store")
	header.Set("Referrer-Policy", "same-origin") // with less, forms would come without their origin
	header.Set("X-Content-Type-Options", "nosniff")
	allowForm(c, "'self'")
}

func allowForm(c echo.Context, target string) {
	c.Response().Header().Set("Content-Security-Policy", fmt.Sprintf(contentPolicy, target))
}

// view is what every page has.
type view struct {
	Title   string
	Session *store.Token
	Refresh bool // the page changes, and a browser without JavaScript should ask again
	Body    any
}

var layouts = parsePages()

func parsePages() map[string]*template.Template {
	base := template.Must(template.New("").Funcs(template.FuncMap{
		"asset": assetPath, "instant": instant, "moment": moment, "took": took, "icon": icon,
	}).ParseFS(files, "pages/layout.html", "pages/parts.html"))
	pages := map[string]*template.Template{}
	for _, name := range []string{"overview", "deployment", "login", "setup", "connected", "error"} {
		pages[name] = template.Must(template.Must(base.Clone()).ParseFS(files, "pages/"+name+".html"))
	}
	return pages
}

// render writes a whole page, or nothing.
func (s *server) render(c echo.Context, status int, name string, v view) error {
	if v.Session == nil {
		v.Session = sessionOf(c)
	}
	return s.execute(c, status, name, "layout", v)
}

func (s *server) execute(c echo.Context, status int, name, part string, data any) error {
	var out bytes.Buffer
	if err := layouts[name].ExecuteTemplate(&out, part, data); err != nil {
		return fmt.Errorf("render page: %w", err)
	}
	return c.HTMLBlob(status, out.Bytes())
}

// isPage says whether an error is to be read by people.
func isPage(c echo.Context) bool {
	if c.Get(pageKey) != nil {
		return true
	}
	return !strings.HasPrefix(c.Request().URL.Path, "/api/") && strings.Contains(c.Request().Header.Get("Accept"), "text/html")
}

func (s *server) answerErrorPage(c echo.Context, problem *store.Problem, status int) {
	if c.Get(pageKey) == nil {
		pageHeaders(c)
	}
	title := http.StatusText(status)
	if err := s.render(c, status, "error", view{Title: title, Body: problem}); err != nil {
		s.Logger.Debug("client left before its answer", "path", c.Path(), "error", err)
	}
}

// assets are the files that pages load. The hash of its content is part of a file's name, so that it can be kept for good.
var assets, assetNames = readAssets()

func readAssets() (byPath map[string][]byte, names map[string]string) {
	byPath, names = map[string][]byte{}, map[string]string{}
	found, err := fs.Glob(files, "assets/*")
	if err != nil {
		panic(err)
	}
	for _, file := range found {
		content, err := files.ReadFile(file)
		if err != nil {
			panic(err)
		}
		sum := sha256.Sum256(content)
		extension := path.Ext(file)
		hashed := strings.TrimSuffix(path.Base(file), extension) + "." + hex.EncodeToString(sum[:6]) + extension
		byPath[hashed], names[path.Base(file)] = content, hashed
	}
	return byPath, names
}

func assetPath(name string) string { return "/assets/" + assetNames[name] }

func asset(c echo.Context) error {
	name := c.Param("asset")
	content, found := assets[name]
	if !found {
		return echo.ErrNotFound
	}
	header := c.Response().Header()
	header.Set("Cache-Control", "public, max-age=31536000, immutable")
	header.Set("X-Content-Type-Options", "nosniff")
	return c.Blob(http.StatusOK, mime.TypeByExtension(path.Ext(name)), content)
}
