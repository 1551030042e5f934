#!/usr/bin/env bash
# Lint, types and tests in .venv. Arguments go to pytest instead of the default selection.
#
#   SEGTRAIN_TEST_DATA   folder of the real data sets (default ../shared/data); tests that need it skip without it
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
install_environment dev
cd "$root"
export SEGTRAIN_TEST_DATA="${SEGTRAIN_TEST_DATA:-$root/../shared/data}"
bin="$venv/bin"

"$bin/ruff" check .
"$bin/ruff" format --check .
"$bin/mypy"
if [ "$#" -gt 0 ]; then
    exec "$bin/python" -m pytest "$@"
fi
# two processes of one thread each: the tests start many short runs, which wait more than they compute
OMP_NUM_THREADS=1 "$bin/python" -m pytest -m "not slow" --durations=10 -n 2 --dist loadfile
OMP_NUM_THREADS=1 "$bin/python" -m pytest -m slow --durations=0 -rP -n 2 --dist loadfile
