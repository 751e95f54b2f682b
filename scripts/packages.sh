#!/usr/bin/env bash
# Installs the Debian packages that the tests use and that are missing, where that is possible.
set -euo pipefail

missing=()
[ -x /bin/busybox ] || missing+=(busybox-static)
command -v git >/dev/null || missing+=(git)
command -v curl >/dev/null || missing+=(curl)
command -v gcc >/dev/null || missing+=(gcc libc6-dev) # for the race detector

may_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

install() {
	echo "packages: installing $*" >&2
	apt-get update -qq >/dev/null 2>&1 || true # what is known already may do
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

if [ ${#missing[@]} -ne 0 ]; then
	if ! may_install; then
		echo "packages: install ${missing[*]}" >&2
		exit 1
	fi
	install "${missing[@]}"
fi

# Deno comes by npm. Without it that one mode is not tested, and the tests say so.
if ! command -v npm >/dev/null && ! { may_install && install npm 2>/dev/null; }; then
	echo "packages: no npm here, so static apps in mode deno will not be tested" >&2
fi

# The pages can be tested without a browser, if not as well: that one is missing fails nothing.
if ! command -v chromium >/dev/null && ! { may_install && install chromium 2>/dev/null; }; then
	echo "packages: no chromium here, so the pages will not be opened in a browser; install it to have them tested" >&2
fi
