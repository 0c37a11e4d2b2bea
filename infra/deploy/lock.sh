#!/bin/sh
# Resolves pyproject.toml into requirements.lock and requirements-test.lock, with hashes, on CPU packages only.
# torch is left to venv.sh (its build differs by machine); traffic-anomaly is added without its dependencies,
# which ask for pandas < 3: only the Parquet file inside it is used.
set -eu
cd "$(dirname "$0")/../.."
uv=$(command -v uv || echo .tools/bin/uv)
links=${PIP_FIND_LINKS:-$(python3 -m pip config get global.find-links 2>/dev/null || true)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
grep -v '"traffic-anomaly' pyproject.toml >"$work/pyproject.toml"
pin=$(sed -n 's/^ *"\(traffic-anomaly==[0-9.]*\)".*/\1/p' pyproject.toml)
build=$(sed -n 's/^requires = \["\(.*\)"\]/\1/p' pyproject.toml)
for folder in $links; do [ -d "$folder" ] && set -- "$@" --find-links "$folder"; done

resolve() { # what goes in, what comes out
    "$uv" pip compile --quiet --python-version 3.11 --generate-hashes --no-header --no-annotate \
        "$@" --no-emit-package torch --no-emit-package triton
}
echo "$build" >"$work/build.in"
echo "$pin" >"$work/pin.in"
"$uv" pip compile --quiet --python-version 3.11 --generate-hashes --no-header --no-annotate --no-deps "$work/pin.in" >"$work/pin.lock"
{ resolve "$@" --extra services "$work/pyproject.toml" "$work/build.in"; cat "$work/pin.lock"; } | grep -vE '^--find-links|^# ' >"$work/run.lock"
{ resolve "$@" --extra test --extra sim --extra services --constraint "$work/run.lock" "$work/pyproject.toml" "$work/build.in"; cat "$work/pin.lock"; } | grep -vE '^--find-links|^# ' >"$work/all.lock"
mv "$work/run.lock" requirements.lock
python3 - "$work/all.lock" requirements.lock >requirements-test.lock <<'PY'
import re, sys
def blocks(path): return [b.strip("\n") for b in re.split(r"\n(?=\S)", open(path).read()) if b.strip()]
have = set(blocks(sys.argv[2]))
print("\n".join(b for b in blocks(sys.argv[1]) if b not in have))
PY
