#!/usr/bin/env bash
# Shows the product on this machine: a server on loopback, two apps, six pushes, requests all the while. It counts what
# was lost, and cleans up after itself. Needs a Docker engine, git and Go; pulls nothing.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
export SHIPGATE_DATA=$work/data
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
export GIT_AUTHOR_NAME=demo GIT_AUTHOR_EMAIL=demo@localhost GIT_COMMITTER_NAME=demo GIT_COMMITTER_EMAIL=demo@localhost
shipgate=$root/bin/shipgate
server='' proxy='' loads=()

title() { printf '\n\033[1m── %s\033[0m\n' "$*"; }
show() { printf '$ %s\n' "$*"; "$@"; }

cleanup() {
	status=$?
	trap - EXIT
	stop_load >/dev/null 2>&1 || true
	if [ -n "$server" ] && kill -0 "$server" 2>/dev/null; then
		"$shipgate" app destroy hello --yes --with-data >/dev/null 2>&1 || true
		"$shipgate" app destroy site --yes --with-data >/dev/null 2>&1 || true
		kill "$server" && wait "$server" 2>/dev/null || true
	fi
	[ -z "$proxy" ] || kill "$proxy" 2>/dev/null || true
	if [ -n "${id:-}" ]; then
		docker image ls -q --filter "label=dev.shipgate.data=$id" | sort -u | xargs -r docker image rm -f >/dev/null 2>&1 || true
		docker network ls -q --filter "label=dev.shipgate.data=$id" | xargs -r docker network rm >/dev/null 2>&1 || true
	fi
	rm -rf "$work"
	exit $status
}
trap cleanup EXIT

start_load() { # HOST METHOD: requests until stop_load
	"$work/load" -url "$public/" -host "$1" -method "$2" >"$work/load-$1.out" &
	loads+=("$1 $!")
}

stop_load() {
	for entry in "${loads[@]}"; do
		read -r host pid <<<"$entry"
		kill "$pid"
		wait "$pid" || true
		printf '%-18s %s\n' "$host" "$(cat "$work/load-$host.out")"
		grep -q ' failed=0$' "$work/load-$host.out" || lost=1
	done
	loads=()
}

commit_and_push() { # DIRECTORY MESSAGE
	git -C "$1" add -A
	git -C "$1" commit -qm "$2"
	printf '$ git push shipgate main\n'
	git -C "$1" push shipgate main
}

title "A server on loopback"
go build -o "$work/load" "$root/examples/load"
"$shipgate" serve --listen 127.0.0.1:0 --public-addr 127.0.0.1:0 2>"$work/serve.log" &
server=$!
for _ in $(seq 100); do
	grep -q '^ready ' "$work/serve.log" && break
	kill -0 "$server" 2>/dev/null || { cat "$work/serve.log"; exit 1; }
	sleep 0.1
done
ready=$(grep '^ready ' "$work/serve.log")
echo "$ready"
public=$(sed -E 's/.*public=([^ ]+).*/\1/' <<<"$ready")
status=$("$shipgate" doctor --json)
proxy=$(sed -nE 's/.*"proxy_pid": *([0-9]+).*/\1/p' <<<"$status" | head -n 1)
id=$(sed -nE 's/.*"server_id": *"([0-9a-f]+)".*/\1/p' <<<"$status" | head -n 1)

title "Two apps, deployed by git push"
cp -r "$root/examples/hello" "$work/hello"
cp -r "$root/examples/site" "$work/site"
(cd "$root" && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$work/hello/hello" ./examples/hello)
rm "$work/hello/main.go" "$work/hello/.gitignore"
for app in hello site; do git init -q -b main "$work/$app"; done
remote() { sed -nE 's/.*git remote add shipgate ([^ ]+).*/\1/p'; }
git -C "$work/hello" remote add shipgate "$("$shipgate" app create hello --source dockerfile --host hello.localhost --health /healthz --health-timeout 5s | remote)"
git -C "$work/site" remote add shipgate "$("$shipgate" app create site --source static --publish-dir public --host site.localhost | remote)"
show "$shipgate" plan hello
commit_and_push "$work/hello" "Say hello"
commit_and_push "$work/site" "Publish the site"

title "Version 2 of both, blue-green, while requests run that no client may repeat"
start_load hello.localhost POST
start_load site.localhost GET
echo "hello, version 2" >"$work/hello/message.txt"
sed -i 's/version 1/version 2/' "$work/site/public/index.html"
commit_and_push "$work/hello" "Say it better"
commit_and_push "$work/site" "Publish it better"

title "A version that fails its health check"
echo "broken" >"$work/hello/message.txt"
refused=0
commit_and_push "$work/hello" "Break it" || refused=1
[ $refused = 1 ] || { echo "the broken version was taken"; exit 1; }

title "What happened"
lost=0
stop_load
show "$shipgate" deployments hello
printf '%s still answers: ' hello.localhost
exec 3<>"/dev/tcp/127.0.0.1/${public##*:}"
printf 'GET / HTTP/1.0\r\nHost: hello.localhost\r\n\r\n' >&3
tail -n 1 <&3 | grep 'version 2' || { echo nothing; exit 1; }
[ $lost = 0 ] || { echo "requests were lost"; exit 1; }
printf '\nNo request was lost, and the broken push was refused.\n'
