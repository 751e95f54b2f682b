#!/usr/bin/env bash
# Makes sure that a Docker engine answers. As root on Debian or Ubuntu it installs docker.io and starts dockerd;
# anywhere else it says in one line what is missing. It leaves the engine running.
set -euo pipefail

answers() { docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

if command -v docker >/dev/null && answers; then
	exit 0
fi
if [ -n "${DOCKER_HOST:-}" ]; then
	echo "engine: no Docker engine answers at $DOCKER_HOST; start it, or unset DOCKER_HOST" >&2
	exit 1
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "engine: no Docker engine answers; install and start one (Debian: sudo apt-get install docker.io)" >&2
	exit 1
fi
if ! command -v dockerd >/dev/null; then
	echo "engine: installing docker.io" >&2
	apt-get update -qq >/dev/null
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends docker.io iptables >/dev/null
fi
log=$(mktemp /tmp/dockerd-XXXXXX.log)
echo "engine: starting dockerd, log in $log" >&2
setsid nohup dockerd >"$log" 2>&1 </dev/null &
for _ in $(seq 300); do
	answers && exit 0
	sleep 0.1
done
echo "engine: dockerd did not answer within 30 s; see $log" >&2
exit 1
