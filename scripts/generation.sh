#!/usr/bin/env bash
# generation.sh same|raise: records the sources of the proxy and of what it reads, after the decision whether running
# proxies have to be replaced when a server with them starts. "raise" means that they have to.
set -euo pipefail
cd "$(dirname "$0")/.."
case ${1:-} in
same) ;;
raise) perl -pi -e 's/^(const Generation = )(\d+)/$1.($2+1)/e' proxy/generation.go ;;
*) echo "usage: $0 same|raise: must a running proxy be replaced because of what changed?" >&2; exit 2 ;;
esac
SHIPGATE_GENERATION_SUM=write go test ./proxy -run '^TestGenerationIsDecided$' -count=1
