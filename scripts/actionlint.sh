#!/usr/bin/env bash
# Prints the path of actionlint, which knows what is wrong with a workflow.
set -euo pipefail
exec "$(dirname "$0")/built.sh" actionlint github.com/rhysd/actionlint v1.7.12 github.com/rhysd/actionlint/cmd/actionlint
