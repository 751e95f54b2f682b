#!/usr/bin/env bash
# Prints the path of a Deno binary for Linux with glibc, for the tests: the one of this version in the user's cache,
# which npm brings there once. It fails with one line when npm or its registry cannot be had.
set -euo pipefail

version=2.9.6 # of the npm package

case "$(uname -s)-$(uname -m)" in
Linux-x86_64) package=@deno/linux-x64-glibc ;;
Linux-aarch64) package=@deno/linux-arm64-glibc ;;
*)
	echo "deno: the npm package has no Deno for $(uname -sm)" >&2
	exit 1
	;;
esac

cache=${XDG_CACHE_HOME:-$HOME/.cache}/shipgate
binary=$cache/deno-$version
if [ ! -x "$binary" ]; then
	if ! command -v npm >/dev/null; then
		echo "deno: npm brings it and is not here (Debian: sudo apt-get install npm)" >&2
		exit 1
	fi
	mkdir -p "$cache"
	work=$(mktemp -d "$cache/deno.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	(cd "$work" && npm pack --silent --loglevel=error "$package@$version" >/dev/null) || {
		echo "deno: npm cannot fetch $package@$version" >&2
		exit 1
	}
	tar -xzf "$work"/*.tgz -C "$work" package/deno
	chmod 755 "$work/package/deno"
	mv "$work/package/deno" "$binary" # whole or not there, also when two scripts do this at once
fi
echo "$binary"
