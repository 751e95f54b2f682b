package githubtest

import (
	"bytes"
	_ "embed"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
)

//go:embed openapi.json
var description []byte

// rules are one description that requests are held to.
type rules struct {
	router routers.Router
	whole  bool // what it does not describe may not be asked
}

func describedBy(text []byte) (rules, error) {
	document, err := openapi3.NewLoader().LoadFromData(text)
	if err != nil {
		return rules{}, fmt.Errorf("read description: %w", err)
	}
	document.Servers = nil
	router, err := gorillamux.NewRouter(document)
	if err != nil {
		return rules{}, fmt.Errorf("use description: %w", err)
	}
	return rules{router, true}, nil
}

// HoldTo holds requests to one more description, as far as that describes them.
func (f *Fake) HoldTo(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read description: %w", err)
	}
	more, err := describedBy(text)
	more.whole = false
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = append(f.rules, more)
	return err
}

func (f *Fake) validate(r *http.Request) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return fmt.Errorf("read body: %w", err)
	}
	f.mu.Lock()
	all := f.rules
	f.mu.Unlock()
	for _, rules := range all {
		if err := rules.check(r, body); err != nil {
			return err
		}
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if r.Header.Get("User-Agent") != "shipgate" {
		return fmt.Errorf("user agent is %q", r.Header.Get("User-Agent"))
	}
	return nil
}

func (rules rules) check(r *http.Request, body []byte) error {
	bare := r.Clone(r.Context())
	bare.URL.Path = strings.TrimPrefix(r.URL.Path, apiPath)
	bare.URL.RawPath = ""
	bare.Body = io.NopCloser(bytes.NewReader(body))
	route, parameters, err := rules.router.FindRoute(bare)
	if err != nil {
		if rules.whole {
			return fmt.Errorf("find in description: %w", err)
		}
		return nil
	}
	return openapi3filter.ValidateRequest(r.Context(), &openapi3filter.RequestValidationInput{
		Request: bare, PathParams: parameters, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
	})
}
