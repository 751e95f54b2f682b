#!/usr/bin/env bash
# Prints the path of a Go program that the tests run beside ours: the one of this version in the user's cache, which Go
# builds there once from the module proxy, in a module of its own. It fails with one line when that cannot be had.
#
#   scripts/built.sh NAME MODULE VERSION PACKAGE [LDFLAGS]
set -euo pipefail

name=$1 module=$2 version=$3 package=$4 ldflags=${5:-}

cache=${XDG_CACHE_HOME:-$HOME/.cache}/shipgate
binary=$cache/$name-$version
if [ ! -x "$binary" ]; then
	mkdir -p "$cache"
	work=$(mktemp -d "$cache/$name.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	echo "$name: building $version, which takes some minutes once" >&2
	cd "$work"
	export GOWORK=off GOFLAGS= CGO_ENABLED=0
	{
		go mod init "$name-for-tests" &&
			go get "$module@$version" &&
			go build -trimpath -mod=mod -ldflags "-s -w $ldflags" -o "$name" "$package"
	} >build.log 2>&1 || {
		echo "$name: $version cannot be built: $(tail -n 1 build.log)" >&2
		exit 1
	}
	mv "$name" "$binary" # whole or not there, also when two scripts do this at once
fi
echo "$binary"
