#!/usr/bin/env bash
# Prints the path of a Docker Compose plugin for the tests.
set -euo pipefail
version=v2.40.3
module=github.com/docker/compose/v2
exec "$(dirname "$0")/built.sh" compose "$module" "$version" "$module/cmd" "-X $module/internal.Version=$version"
