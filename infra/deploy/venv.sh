#!/bin/sh
# Makes .venv from a lock file, or brings it up to date; does nothing when it is current.
#   infra/deploy/venv.sh requirements.lock [requirements-test.lock]
# uv installs (from .tools, outside the environment it fills) and plain pip where uv cannot be had. torch comes first and
# alone: from pip's own find-links where there are any, the CPU build from PyTorch's index where there is no GPU,
# the CUDA build from PyPI where there is one.
set -eu
cd "$(dirname "$0")/../.."

say() { printf '%s\n' "$*" >&2; }

python=${PYTHON:-}
if [ -z "$python" ]; then
    for python in python3.11 python3; do command -v "$python" >/dev/null 2>&1 && break; done
fi
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || {
    say "Roadworthy needs Python 3.11; '$python' is $("$python" --version 2>&1 || echo missing)."
    say "Install it (Debian 12: apt-get install python3 python3-venv make git), or name it: make PYTHON=/path/to/python3.11 demo"
    exit 1
}

stamp=$(cat pyproject.toml "$@" infra/deploy/venv.sh | sha256sum | cut -d' ' -f1)
name=$(echo "$*" | tr -c 'a-z\n' '_')
[ -x .venv/bin/python ] && [ "$(cat ".venv/.$name" 2>/dev/null)" = "$stamp" ] && exit 0

say "Installing $* into .venv (once; a few minutes at most)"
[ -x .venv/bin/python ] || "$python" -m venv .venv
torch=$(sed -n 's/^ *"\(torch==[0-9.]*\)".*/\1/p' pyproject.toml)
links=$("$python" -m pip config get global.find-links 2>/dev/null || true)
links=${PIP_FIND_LINKS:-$links}
index=$("$python" -m pip config get global.index-url 2>/dev/null || true)
index=${PIP_INDEX_URL:-$index}

if command -v uv >/dev/null 2>&1; then
    uv=uv
else
    [ -x .tools/bin/uv ] || { "$python" -m venv .tools && .tools/bin/python -m pip install -q uv==0.13.9 || true; }
    uv=.tools/bin/uv
fi

install() {
    if [ -x "$(command -v $uv)" ]; then
        set -- --quiet --python .venv/bin/python "$@"
        for folder in $links; do [ -d "$folder" ] && set -- "$@" --find-links "$folder"; done
        [ -z "$index" ] || set -- "$@" --default-index "$index"
        "$uv" pip install "$@"
    else
        .venv/bin/python -m pip install -q "$@"
    fi
}

has_local_torch() {
    for folder in $links; do ls "$folder"/torch-"${torch#torch==}"*cp311* >/dev/null 2>&1 && return 0; done
    return 1
}

if ! .venv/bin/python -c "import importlib.metadata as m; assert m.version('torch').split('+')[0] == '${torch#torch==}'" 2>/dev/null; then
    if command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L >/dev/null 2>&1; then
        install "$torch"
    elif has_local_torch; then
        install --no-deps "$torch"
    else
        install --no-deps --index "${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}" "$torch+cpu" 2>/dev/null || install "$torch"
    fi
fi
for lock in "$@"; do install --no-deps -r "$lock"; done
install --no-deps --no-build-isolation -e .
# Bytecode, or the first start of everything pays for it (importing MLflow takes twice as long without).
env -u PYTHONDONTWRITEBYTECODE .venv/bin/python -m compileall -q -j 0 -x '/(tests?|testing|sumo)/' .venv/lib >/dev/null 2>&1 || true
rm -f .venv/.requirements*
echo "$stamp" >".venv/.$name"
