#!/usr/bin/env bash
# Prints the path of act, which runs workflows on this machine, for the tests of the action.
set -euo pipefail
exec "$(dirname "$0")/built.sh" act github.com/nektos/act v0.2.89 github.com/nektos/act
