#!/usr/bin/env bash
# Install segtrain into .venv and train on the built-in images. Arguments go to `segtrain train`.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
install_environment ""
cd "$root"
exec "$venv/bin/segtrain" train "$@"
