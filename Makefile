# Everything a developer types. `make test` sets up what it needs; see README.md.
SHELL := /bin/bash
.DEFAULT_GOAL := build

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0
FUZZ_TIME ?= 3s
# What the race detector does not look into, as it slows it down some ten times: SQLite translated to Go, and compression.
# Only packages without generic code belong here: copies of it that were compiled without the detector make races of what is none.
NO_RACE := modernc.org/sqlite/lib compress/... github.com/klauspost/compress/... github.com/andybalholm/brotli
export SHIPGATE_RACE_FLAGS := -race $(NO_RACE:%=-gcflags=%=-race=false) # the tests build the program with the same
# BuildKit v0.34 sets one flag from several goroutines, always to the same value.
export GORACE := suppressions=$(CURDIR)/scripts/race.suppressions

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
	CGO_ENABLED=1 SHIPGATE_TEST_ENGINE=required go test $(SHIPGATE_RACE_FLAGS) -vet=off -parallel 4 -shuffle=on -timeout 50m ./...

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
