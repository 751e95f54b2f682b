package web

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/labstack/echo/v4"
)

// The document is a valid one and lists exactly what is routed, beside the pages.
func TestOpenAPIListsEveryRoute(t *testing.T) {
	l := newLab(t)
	document, err := openapi3.NewLoader().LoadFromData(openAPIDocument)
	if err != nil {
		t.Fatal(err)
	}
	if err := document.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	var described []string
	for path, item := range document.Paths.Map() {
		for method := range item.Operations() {
			described = append(described, method+" "+path)
		}
	}
	pages := map[string]bool{}
	onlyPages := echo.New()
	(&server{}).routePages(onlyPages)
	for _, route := range onlyPages.Routes() {
		pages[route.Method+" "+route.Path] = true
	}
	var routed []string
	parameter := regexp.MustCompile(`:(\w+)`)
	for _, route := range (&server{Options{Store: l.store, GitHub: l.github}}).router().Routes() {
		if !strings.HasPrefix(route.Method, "echo_") && !pages[route.Method+" "+route.Path] {
			routed = append(routed, route.Method+" "+parameter.ReplaceAllString(route.Path, "{$1}"))
		}
	}
	slices.Sort(described)
	slices.Sort(routed)
	if !slices.Equal(described, routed) {
		t.Errorf("described:\n%s\nrouted:\n%s", strings.Join(described, "\n"), strings.Join(routed, "\n"))
	}
}

func TestOpenAPIIsServed(t *testing.T) {
	l := newLab(t)
	got := l.ask("GET", "/api/v1/openapi.json", "").must(t, http.StatusOK)
	if got.body != string(openAPIDocument) {
		t.Error("another document is served")
	}
}
