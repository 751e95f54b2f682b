#!/usr/bin/env bash
# Ends as the client of the action: the program that binary-path names or, without one, the release that client.pins lists
# for this platform. That is fetched once into the tool cache, and its sha256 is compared every time.
set -euo pipefail

folder=$(dirname "${BASH_SOURCE[0]}")
fetched= # a file that is not whole yet
fetcher= # the process that writes it

# fail CODE EXIT MESSAGE HINT: an input that the message repeats stays one line, and so no command.
fail() {
	echo "::error title=shipgate%3A $1::${3//[$'\r\n']/ }%0ANext: $4"
	exit "$2"
}

cancelled() {
	trap '' INT TERM
	[ -z "$fetcher" ] || kill "$fetcher" 2>/dev/null || true
	fail cancelled 130 "cancelled before anything was asked for" "run the job again"
}
trap cancelled INT TERM
trap 'rm -f "$fetched"' EXIT

if [ -n "${SHIPGATE_BINARY:-}" ]; then
	command -v "$SHIPGATE_BINARY" >/dev/null || fail usage 2 "input binary-path is no program: $SHIPGATE_BINARY" "leave binary-path out"
	exec "$SHIPGATE_BINARY" action
fi

# The names of Go's platforms, from those of the runner or else of the system.
case "${RUNNER_OS:-$(uname -s)}" in
Linux) os=linux suffix= ;;
macOS | Darwin) os=darwin suffix= ;;
Windows | MINGW* | MSYS*) os=windows suffix=.exe ;;
*) fail usage 2 "there is no client for ${RUNNER_OS:-$(uname -s)}" "build one, and name it by binary-path" ;;
esac
case "${RUNNER_ARCH:-$(uname -m)}" in
X64 | x86_64) arch=amd64 ;;
ARM64 | aarch64 | arm64) arch=arm64 ;;
*) fail usage 2 "there is no client for ${RUNNER_ARCH:-$(uname -m)}" "build one, and name it by binary-path" ;;
esac

# pinned VERSION: the sha256 of its client; an empty VERSION is the first in the file.
pinned() {
	awk -v want="$1" -v platform="${os}_$arch" '
		/^#/ || NF != 3 { next }
		want == "" { want = $1 }
		$1 == want && $2 == platform { print $1, $3; exit }' "$folder/client.pins"
}

# checksum FILE
checksum() {
	if command -v sha256sum >/dev/null; then sha256sum <"$1"; else shasum -a 256 <"$1"; fi | cut -d ' ' -f 1
}

# fetch URL FILE: in the background, so that a signal need not wait for it.
fetch() {
	if command -v curl >/dev/null; then
		curl --fail --silent --show-error --location --retry 3 --retry-connrefused --max-time 120 --output "$2" "$1" &
	else
		wget --quiet --tries=4 --retry-connrefused --timeout=30 --output-document="$2" "$1" &
	fi
	fetcher=$!
	wait "$fetcher"
}

read -r version sha256 <<<"$(pinned "${SHIPGATE_VERSION:-}")"
if [ -z "${sha256:-}" ]; then
	known=$(awk '!/^#/ && NF == 3 { print $1 }' "$folder/client.pins" | uniq | tr '\n' ' ')
	fail usage 2 "this action has no client ${SHIPGATE_VERSION:+$SHIPGATE_VERSION }for ${os}_$arch; it has: ${known:-none}" \
		"leave version out, use another version of the action, or name a shipgate that is on the runner by binary-path"
fi

cache=${RUNNER_TOOL_CACHE:-${RUNNER_TEMP:-${TMPDIR:-/tmp}}}/shipgate-action/$version/${os}_$arch
client=$cache/shipgate-action$suffix
if [ ! -f "$client" ] || [ "$(checksum "$client")" != "$sha256" ]; then
	mkdir -p "$cache"
	fetched=$(mktemp "$cache/fetched.XXXXXX")
	url=${SHIPGATE_RELEASES:-https://github.com/shipgate/shipgate/releases/download}/$version/shipgate-action_${os}_$arch$suffix
	if ! fetch "$url" "$fetched"; then
		fail unreachable 4 "the client cannot be fetched from $url" "run the job again, or name a shipgate that is on the runner by binary-path"
	fi
	if [ "$(checksum "$fetched")" != "$sha256" ]; then
		fail errored 5 "what came from $url is not the client that this action was made with; it was not run" "do not run it; tell the makers of shipgate"
	fi
	chmod 755 "$fetched"
	mv -f "$fetched" "$client" # whole or not there, also when two jobs do this at once
fi
exec "$client"
