#!/usr/bin/env bash
# Makes .venv, or brings it up to date: this project in editable mode with every extra, at the versions in constraints.txt.
#   PYTHON               the interpreter to build it from (default: scripts/find_python.sh)
#   POET_REQUIRE_NATIVE  1: a failed native build is an error
#   POET_TORCH_INDEX     an index to take torch from, instead of the choice made below
set -euo pipefail
cd "$(dirname "$0")/.."

cpu_index=https://download.pytorch.org/whl/cpu

# The default index serves Linux a torch with several gigabytes of CUDA, which only a machine with a GPU can use. The
# CPU-only index is asked within a few seconds, because a machine that cannot reach it may not even say no.
torch_index() {
  if [ -n "${POET_TORCH_INDEX:-}" ]; then
    echo "$POET_TORCH_INDEX"
  elif [ "$(uname -s)" = Linux ] && ! nvidia-smi >/dev/null 2>&1 && timeout 8 .venv/bin/python -c '
import sys, urllib.request
urllib.request.urlopen(urllib.request.Request(sys.argv[1] + "/torch/", method="HEAD"), timeout=5)
' "$cpu_index" >/dev/null 2>&1; then
    echo "$cpu_index"
  fi
}

python=${PYTHON:-$(scripts/find_python.sh)}
if ! "$python" -c '' >/dev/null 2>&1; then
  echo "PYTHON=$python does not run: name a Python 3.11, 3.12 or 3.13." >&2
  exit 1
fi

# An environment whose Python has gone, or is another version now, cannot be brought up to date.
version='import sys; print(*sys.version_info[:2])'
if [ "$(.venv/bin/python -c "$version" 2>/dev/null)" != "$("$python" -c "$version")" ]; then
  "$python" -m venv --clear .venv
fi

echo "Bringing .venv up to date (the first time takes some minutes)"
pip=(.venv/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt)
index=$(torch_index)
if [ -n "$index" ]; then
  echo "torch comes from $index"
  "${pip[@]}" --extra-index-url "$index" torch
fi
"${pip[@]}" --editable '.[service,train,onnx,dev]'
