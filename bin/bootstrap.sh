# Sourced by ./start and ./check, from the project's folder: finds uv, or installs it where it disturbs nobody.
# shellcheck shell=bash

BOOTSTRAP=.mlops/bootstrap

die() {
    printf '\nERROR: %s\n' "$1" >&2
    shift
    for line in "$@"; do printf '  %s\n' "$line" >&2; done
    exit 1
}

# A python3 that this project runs on (3.11 to 3.13). Prints its path.
find_python() {
    local candidate
    for candidate in python3.11 python3.12 python3.13 python3; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

# Sets UV to a uv that works, and puts it on PATH: `crewai run` calls it by name.
need_uv() {
    if uv --version >/dev/null 2>&1; then
        UV=uv
        return
    fi
    UV=$PWD/$BOOTSTRAP/bin/uv
    if ! "$UV" --version >/dev/null 2>&1; then
        local python log
        python=$(find_python) || die "neither uv nor a Python of 3.11 to 3.13 was found" \
            "Install one of them, for example: apt-get install python3 python3-venv" \
            "or uv: https://docs.astral.sh/uv/getting-started/installation/"
        echo "uv is not installed: installing it into $BOOTSTRAP"
        mkdir -p .mlops || die "cannot write to $PWD"
        log=.mlops/bootstrap.log
        "$python" -m venv --clear "$BOOTSTRAP" >"$log" 2>&1 || die "$python cannot make a virtual environment" \
            "$(tail -n 1 "$log")" "On Debian or Ubuntu: apt-get install python3-venv"
        "$BOOTSTRAP/bin/python" -m pip install --quiet --disable-pip-version-check uv >"$log" 2>&1 ||
            die "pip cannot install uv" "$(tail -n 1 "$log")" "The whole output is in $log."
    fi
    PATH=$PWD/$BOOTSTRAP/bin:$PATH
    export PATH
}
