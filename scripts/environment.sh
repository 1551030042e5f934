# Sourced by demo.sh and test.sh: make .venv beside this checkout with the pinned set, once.
#
#   install_environment EXTRA     EXTRA is empty or the name of an extra, such as dev
#
# Set PYTHON to choose the interpreter. After the first run nothing is downloaded until the pins change.

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
venv="$root/.venv"
needed_gib=9   # what the virtual environment and its download need

die() { printf 'segtrain: %s\n' "$*" >&2; exit 1; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python}; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            command -v "$candidate"
            return
        fi
    done
    die "Python 3.11 or newer is needed (found: $(${PYTHON:-python3} --version 2>&1 || true)); install it, or set PYTHON=/path/to/python3.11"
}

install_environment() {
    local extra="$1" spec="$root" stamp wanted free
    [ -n "$extra" ] && spec="${root}[${extra}]"
    stamp="$venv/.installed${extra:+-$extra}"
    wanted="$(cat "$root/pyproject.toml" "$root/constraints.txt" | cksum) $root"
    if [ -x "$venv/bin/segtrain" ] && grep -qsxF "$wanted" "$stamp" "$venv/.installed-dev"; then
        return
    fi
    if [ ! -x "$venv/bin/segtrain" ]; then
        free="$(df -Pk "$root" | awk 'NR == 2 { print int($4 / 1048576) }')"
        [ "$free" -ge "$needed_gib" ] ||
            die "the disk of $root has $free GiB free and the installation needs $needed_gib; free some space"
    fi
    local python
    python="$(find_python)" || exit 1
    echo "segtrain: installing into $venv (once; about 6 GB with the GPU libraries)"
    if command -v uv >/dev/null 2>&1; then
        [ -x "$venv/bin/python" ] || uv venv --quiet --python "$python" "$venv" || die "uv could not make $venv"
        uv pip install --quiet --python "$venv/bin/python" --constraint "$root/constraints.txt" --editable "$spec" ||
            die "the installation failed; uv's message is above (no network, or the disk is full?). Run this again"
    else
        [ -x "$venv/bin/pip" ] || "$python" -m venv "$venv" ||
            die "$python could not make $venv; on Debian and Ubuntu: apt-get install python3-venv"
        "$venv/bin/python" -m pip install --quiet --constraint "$root/constraints.txt" --editable "$spec" ||
            die "the installation failed; pip's message is above (no network, or the disk is full?). Run this again"
    fi
    printf '%s\n' "$wanted" >"$stamp" || die "cannot write $stamp; is the disk full?"
}
