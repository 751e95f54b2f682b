#!/usr/bin/env bash
# Makes the tools ready that the tests of some sources need and that Debian does not have. One that cannot be had fails
# nothing: the tests that need it say so.
set -uo pipefail

here=$(dirname "$0")
for tool in deno compose act actionlint; do
	"$here/$tool.sh" >/dev/null || echo "tools: without $tool the tests that need it are skipped" >&2
done
