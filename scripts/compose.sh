#!/usr/bin/env bash
# Prints the path of a Docker Compose plugin for the tests: the one of this version in the user's cache, which Go builds
# there once from the module proxy, in a module of its own. It fails with one line when that cannot be had.
set -euo pipefail

version=v2.40.3

cache=${XDG_CACHE_HOME:-$HOME/.cache}/shipgate
binary=$cache/compose-$version
if [ ! -x "$binary" ]; then
	mkdir -p "$cache"
	work=$(mktemp -d "$cache/compose.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	echo "compose: building docker compose $version, which takes a few minutes once" >&2
	cd "$work"
	export GOWORK=off GOFLAGS= CGO_ENABLED=0
	{
		go mod init compose-for-tests &&
			go get "github.com/docker/compose/v2@$version" &&
			go build -trimpath -mod=mod -ldflags "-s -w -X github.com/docker/compose/v2/internal.Version=$version" \
				-o compose github.com/docker/compose/v2/cmd
	} >build.log 2>&1 || {
		echo "compose: docker compose $version cannot be built: $(tail -n 1 build.log)" >&2
		exit 1
	}
	mv compose "$binary" # whole or not there, also when two scripts do this at once
fi
echo "$binary"
