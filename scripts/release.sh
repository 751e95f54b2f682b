#!/usr/bin/env bash
# Builds what a release has, into the folder dist: the server for Linux, the client of the action for every platform of
# GitHub's runners, and their checksums. It pins the clients in action/client.pins: commit that, and tag the commit.
#
#   scripts/release.sh v1.2.3
set -euo pipefail
cd "$(dirname "$0")/.."

version=${1:-}
[[ $version =~ ^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9a-z.]+)?$ ]] || {
	echo "usage: scripts/release.sh v1.2.3" >&2
	exit 2
}
dist=${DIST:-dist}
pins=${PINS:-action/client.pins}
servers=${SERVERS-linux/amd64 linux/arm64}
clients=${CLIENTS-linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64}

rm -rf "$dist"
mkdir -p "$dist"
# The same source and the same Go give the same bytes, so that anybody can make the checksums again.
build() { # NAME PACKAGE OS/ARCH
	local suffix=
	[ "${3%/*}" = windows ] && suffix=.exe
	CGO_ENABLED=0 GOOS=${3%/*} GOARCH=${3#*/} go build -trimpath -buildvcs=false -ldflags "-s -w" -o "$dist/$1_${3%/*}_${3#*/}$suffix" "$2"
}
for platform in $servers; do build shipgate ./cmd/shipgate "$platform"; done
for platform in $clients; do build shipgate-action ./cmd/shipgate-action "$platform"; done
(cd "$dist" && sha256sum -- * >checksums.txt)

new=$(mktemp)
trap 'rm -f "$new"' EXIT
{
	grep '^#' "$pins"
	sed -nE 's/^([0-9a-f]{64})  shipgate-action_([a-z0-9]+_[a-z0-9]+)(\.exe)?$/'"$version"' \2 \1/p' "$dist/checksums.txt"
	grep -v -e '^#' -e "^$version " "$pins" || true
} >"$new"
cat "$new" >"$pins"
echo "built $(wc -l <"$dist/checksums.txt") files in $dist; commit $pins, tag $version, and publish the files under that tag"
