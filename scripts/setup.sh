#!/usr/bin/env bash
# Creates or updates .venv: scripts/setup.sh. Does nothing if pyproject.toml has not changed since the last success.
set -euo pipefail
cd "$(dirname "$0")/.."

TORCH=2.13.0
TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu
LOG=.venv/setup.log
STAMP=.venv/setup.stamp

fail() { echo "setup: $*" >&2; exit 1; }
step() { echo "setup: $*"; }
quietly() { "$@" >>"$LOG" 2>&1; }

[ "$(uname -s)" = Linux ] || fail "needs Linux: vLLM has no wheels for $(uname -s)"

find_python() {
  local candidate
  for candidate in python3.11 python3 python; do
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  return 1
}

if nvidia-smi -L >/dev/null 2>&1; then EXTRA=gpu; else EXTRA=cpu; fi
WANTED="$EXTRA $(sha256sum pyproject.toml scripts/setup.sh | sha256sum)"
[ -x .venv/bin/emotion-llama ] && [ "$(cat "$STAMP" 2>/dev/null)" = "$WANTED" ] && exit 0

PYTHON=$(find_python) || fail "needs Python 3.11 with venv (on Debian: apt install python3.11-venv)"
step "1/4 virtual environment .venv ($PYTHON)"
usable() { .venv/bin/python -c 'import pip, sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; }
usable || "$PYTHON" -m venv --clear .venv || fail "cannot create .venv with $PYTHON"
: >"$LOG"
PIP=(.venv/bin/python -m pip --disable-pip-version-check install --quiet)

installed_torch() { .venv/bin/python -c 'import importlib.metadata as m; print(m.version("torch"))' 2>/dev/null || true; }

if [ "$EXTRA" = cpu ]; then
  step "2/4 torch $TORCH+cpu"
  # The default index has only the CUDA build, with gigabytes of libraries that a CPU cannot use.
  [ "$(installed_torch)" = "$TORCH+cpu" ] ||
    quietly "${PIP[@]}" --no-deps "torch==$TORCH+cpu" ||
    quietly "${PIP[@]}" --no-deps --index-url "$TORCH_CPU_INDEX" "torch==$TORCH+cpu" ||
    fail "torch $TORCH+cpu is neither where pip is configured to look nor at $TORCH_CPU_INDEX (details: $LOG)"
else
  step "2/4 NVIDIA GPU found: torch comes with vLLM"
fi

step "3/4 the package and what it needs ($EXTRA; some minutes on a first run)"
quietly "${PIP[@]}" -e ".[$EXTRA,batch,evaluate,dev]" || fail "pip could not install the package: $(tail -n 1 "$LOG") (details: $LOG)"

step "4/4 checks"
# Their CUDA builds break every import of vLLM on a machine without CUDA. Nothing in this project imports them.
for package in torchvision torchaudio torchcodec; do
  if ! .venv/bin/python -c "import $package" >/dev/null 2>&1; then
    quietly .venv/bin/python -m pip uninstall --yes "$package" || true
  fi
done
quietly .venv/bin/emotion-llama --help || fail "the installed package does not start: $(tail -n 1 "$LOG")"
echo "$WANTED" >"$STAMP"
step "done"
