#!/usr/bin/env bash
# Installs the Debian packages that the tests use and that are missing, where that is possible.
set -euo pipefail

missing=()
[ -x /bin/busybox ] || missing+=(busybox-static)
command -v git >/dev/null || missing+=(git)
command -v curl >/dev/null || missing+=(curl)
command -v gcc >/dev/null || missing+=(gcc libc6-dev) # for the race detector
command -v chromium >/dev/null || missing+=(chromium) # for the pages
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "packages: install ${missing[*]}" >&2
	exit 1
fi
echo "packages: installing ${missing[*]}" >&2
apt-get update -qq >/dev/null
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
