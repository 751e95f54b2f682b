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
# An engine that was killed leaves the numbers of its processes behind. Another process may have them by now, and then a new
# engine would take itself for the second one.
forget_dead() { # PIDFILE NAME
	[ -f "$1" ] || return 0
	[ "$(cat "/proc/$(cat "$1")/comm" 2>/dev/null)" = "$2" ] || rm -f "$1"
}

log=$(mktemp "${TMPDIR:-/tmp}/dockerd-XXXXXX.log")
echo "engine: starting dockerd, log in $log" >&2
deadline=$((SECONDS + 60))
while [ $SECONDS -lt $deadline ]; do
	forget_dead /var/run/docker.pid dockerd
	forget_dead /var/run/docker/containerd/containerd.pid containerd
	setsid nohup dockerd >>"$log" 2>&1 </dev/null &
	while kill -0 $! 2>/dev/null && [ $SECONDS -lt $deadline ]; do
		answers && exit 0
		sleep 0.1
	done
	sleep 1 # it ended at once: the remains of another one may still be going away
done
echo "engine: dockerd did not answer within a minute; see $log" >&2
exit 1
