#!/usr/bin/env bash
# Serves the shipped model on a free loopback port and runs the `openai` Python client against it.
# Usage: tests/http/run.sh [path of the trefoil binary]
set -euo pipefail
cd "$(dirname "$0")/../.."
binary=${1:-target/release/trefoil}
work=$(mktemp -d)
server=

finish() {
    if [ -n "$server" ] && kill -0 "$server" 2>/dev/null; then
        kill -KILL "$server"
    fi
    rm -rf "$work"
}
trap finish EXIT

python3 -m venv .venv/http
.venv/http/bin/pip install --quiet --requirement tests/http/requirements.txt

"$binary" serve --port 0 >"$work/out" 2>"$work/log" &
server=$!
url=
for _ in $(seq 200); do
    url=$(sed -n 's/.*listening on \(http:[^ ]*\).*/\1/p' "$work/out" | head -n 1)
    [ -n "$url" ] && break
    kill -0 "$server" 2>/dev/null || { cat "$work/log" >&2; exit 1; }
    sleep 0.05
done
[ -n "$url" ] || { echo "the server did not say where it listens:" >&2; cat "$work/log" >&2; exit 1; }

status=0
timeout 300 .venv/http/bin/python tests/http/openai_client.py "$url" || status=$?
[ "$status" = 0 ] || cat "$work/log" >&2

# A drained server ends by itself, with exit code 0.
kill -TERM "$server"
drained=0
wait "$server" || drained=$?
server=
[ "$drained" = 0 ] || { echo "after SIGTERM the server ended with code $drained" >&2; cat "$work/log" >&2; exit 1; }
exit "$status"
