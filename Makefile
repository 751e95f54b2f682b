# Everything a developer types. `make test` sets up what it needs; see README.md.
SHELL := /bin/bash
.DEFAULT_GOAL := build

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0
FUZZ_TIME ?= 3s
# SQLite translated to Go is some twenty times slower under the race detector, and its inside is not what is tested.
FAST_SQLITE := -gcflags=modernc.org/sqlite/lib=-race=false
# BuildKit v0.34 sets one flag from several goroutines, always to the same value (withResolveCache.ResolveImageConfig).
KNOWN_RACE := -gcflags=github.com/moby/buildkit/frontend/dockerfile/builder=-race=false

export CGO_ENABLED ?= 0

.PHONY: build test unit lint fuzz bench demo clean

build: ## the one static binary, in bin/
	go build -trimpath -ldflags '-s -w' -o bin/shipgate ./cmd/shipgate

test: lint unit fuzz ## everything, against the real engine

unit: ## all packages with the race detector, real engine and real git
	scripts/packages.sh
	scripts/engine.sh
	scripts/tools.sh
	go test -parallel 8 -shuffle=on -timeout 20m ./deploy # every crash schedule; the race detector below gets a sample
	go test -run '^TestPackBombs$$' ./gitserver # bounds of memory and CPU, which the race detector would distort
	CGO_ENABLED=1 SHIPGATE_TEST_ENGINE=required go test -race $(FAST_SQLITE) $(KNOWN_RACE) -parallel 4 -shuffle=on -timeout 50m ./...

lint: ## formatting, vet, staticcheck, known vulnerabilities
	@test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	go vet ./...
	go run $(STATICCHECK) ./...
	scripts/vulnerabilities.sh $(GOVULNCHECK)

fuzz: ## each fuzz target for FUZZ_TIME
	scripts/fuzz.sh $(FUZZ_TIME)

bench: build ## the speed goals, as ratios measured side by side
	scripts/packages.sh
	scripts/engine.sh
	go run ./scripts/bench
	go test ./web -run '^$$' -bench Pages -benchtime 100x

demo: build ## two apps deployed by git push, in front of your eyes
	scripts/engine.sh
	scripts/demo.sh

clean: ## what make has made
	rm -rf bin
