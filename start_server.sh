#!/usr/bin/env bash
# Starts a worker: BACKEND=null ./start_server.sh, or ./start_server.sh null.
#
# BACKEND is a folder in workers/: one with a worker.py runs on Vast's worker framework, one with a backend.py as a
# backend of the classic guide. Missing Python packages are installed first, into ENV_PATH (.venv beside this file unless
# set). With USE_SSL=true a key is made, and the engine signs a certificate for PUBLIC_IPADDR.
#
# CONTAINER_ID, REPORT_ADDR, PUBLIC_IPADDR and VAST_TCP_PORT_<WORKER_PORT> are set on a Vast instance, as is MASTER_TOKEN.
# WORKER_PORT is 3000 unless set. PYWORKER_LOG names a file that gets a copy of the output. PYTHON is the interpreter
# with which a new environment is made. Piped into bash without its repository, the script clones PYWORKER_REPO first.
#
# An error prints one sentence, is reported to the engine if there is one, and ends with exit code 1.
set -Eeuo pipefail

here=""
python=""

say() { printf 'start_server: %s\n' "$*" >&2; }

fail() {
    trap - ERR
    say "$*"
    if [ -n "$here" ] && [ -n "$python" ]; then
        PYTHONPATH="$here" "$python" -m nullworker.wire.worker_side.failure_report "$*" || true
    fi
    exit 1
}

# Finds an interpreter that is new enough, whether or not it has the packages.
find_python() {
    local candidate
    for candidate in "${PYTHON:-}" "${ENV_PATH:-$here/.venv}/bin/python" python3 python; do
        if [ -n "$candidate" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            python="$candidate"
            return
        fi
    done
    python="$(command -v python3 || true)" # an older one can still send the report
    fail "There is no Python 3.10 or later; install one, or set PYTHON to its path."
}

find_repository() {
    local script="${BASH_SOURCE[0]:-}" directory
    if [ -n "$script" ] && [ -f "$(dirname -- "$script")/requirements.txt" ]; then
        here="$(cd -- "$(dirname -- "$script")" && pwd)"
        return
    fi
    [ -n "${PYWORKER_REPO:-}" ] || fail "PYWORKER_REPO is not set; without a repository beside it, this script clones that one."
    directory="${SERVER_DIR:-${WORKSPACE:-$HOME}/nullworker}"
    if [ ! -d "$directory" ]; then
        git clone --quiet -- "$PYWORKER_REPO" "$directory" || fail "PYWORKER_REPO could not be cloned; is its URL right?"
        if [ -n "${PYWORKER_REF:-}" ]; then
            git -C "$directory" checkout --quiet "$PYWORKER_REF" || fail "The repository has no $PYWORKER_REF; correct PYWORKER_REF."
        fi
    fi
    here="$directory"
}

find_backend() {
    local folder names=""
    [ -n "$backend" ] || fail "BACKEND is not set; set it to the name of a folder in workers/, such as null."
    case "$backend" in
        *[!A-Za-z0-9_]*) fail "BACKEND is '$backend', which is no name of a folder in workers/." ;;
    esac
    if [ -f "workers/$backend/worker.py" ]; then
        command=(-m "workers.$backend.worker")
        modules=(vastai aiohttp Crypto jwt setuptools)
        packages=(-r requirements.txt)
    elif [ -f "workers/$backend/backend.py" ]; then
        command=(-m nullworker.classic "$backend")
        modules=(flask waitress requests Crypto jwt)
        packages=("${here}[classic]")
    else
        for folder in workers/*/; do
            [ ! -f "$folder/worker.py" ] && [ ! -f "$folder/backend.py" ] || names="$names $(basename "$folder")"
        done
        fail "There is no backend '$backend': workers/$backend has neither worker.py nor backend.py; there are:${names:- none}."
    fi
}

check_variables() {
    local name
    for name in CONTAINER_ID REPORT_ADDR PUBLIC_IPADDR "VAST_TCP_PORT_$WORKER_PORT"; do
        [ -n "${!name:-}" ] || fail "$name is not set; a Vast instance has it, elsewhere set it before starting the worker."
    done
}

has_packages() {
    "$python" - "${modules[@]}" <<'PY' 2>/dev/null
import importlib.util
import sys

sys.exit(any(importlib.util.find_spec(name) is None for name in sys.argv[1:]))
PY
}

# Keeps the interpreter if it has the packages, and makes an environment if it does not.
find_packages() {
    local environment="${ENV_PATH:-$here/.venv}"
    if has_packages; then
        return
    fi
    if [ ! -x "$environment/bin/python" ]; then
        say "making a Python environment in $environment"
        "$python" -m venv "$environment" || fail "No Python environment could be made in $environment; is there room, and python3-venv?"
    fi
    python="$environment/bin/python"
    if ! has_packages; then
        say "installing ${packages[*]}"
        "$python" -m pip install --quiet --disable-pip-version-check "${packages[@]}" \
            || fail "The packages could not be installed (pip install ${packages[*]}); the reason is above."
    fi
    has_packages || fail "The packages were installed, but $python does not find all of: ${modules[*]}."
}

# Makes a key and has its certificate signed: by the engine, or by Vast's console if the engine is Vast's.
make_certificate() {
    local directory name
    command -v openssl >/dev/null || fail "USE_SSL is true, but there is no openssl; install it, or set USE_SSL=false."
    case "$PUBLIC_IPADDR" in
        *[!0-9.:a-fA-F]*) name="DNS:$PUBLIC_IPADDR" ;;
        *) name="IP:$PUBLIC_IPADDR" ;;
    esac
    umask 077
    directory="$(mktemp -d)"
    # shellcheck disable=SC2064 # expanded now
    trap "rm -rf -- '$directory'" EXIT
    openssl req -new -newkey rsa:2048 -nodes -keyout "$directory/key" -out "$directory/request" \
        -subj "/CN=${PUBLIC_IPADDR:0:64}" -addext "subjectAltName=$name" 2>"$directory/problem" \
        || fail "openssl made no signing request for PUBLIC_IPADDR $PUBLIC_IPADDR: $(tail -n 1 "$directory/problem")"
    sign_request "$directory/request" "$directory/certificate" 2>"$directory/problem" \
        || fail "The engine signed no certificate ($(tail -n 1 "$directory/problem")); are CONTAINER_ID and MASTER_TOKEN right?"
    { openssl x509 -in "$directory/certificate" -noout -pubkey -out "$directory/signed" \
        && openssl pkey -in "$directory/key" -pubout -out "$directory/own" \
        && cmp -s "$directory/signed" "$directory/own"; } 2>/dev/null \
        || fail "What the engine sent is no certificate for this worker's key."
    { mv -f "$directory/key" /etc/instance.key && mv -f "$directory/certificate" /etc/instance.crt; } 2>/dev/null \
        || fail "/etc/instance.key and /etc/instance.crt, where the framework looks, cannot be written; run as root, or set USE_SSL=false."
    rm -rf -- "$directory"
    trap - EXIT
}

sign_request() {
    "$python" - "$1" "$2" <<'PY'
import os
import sys
import urllib.request
from http.client import HTTPException
from pathlib import Path
from urllib.parse import quote, urlsplit

problem = "REPORT_ADDR is empty"
for address in os.environ["REPORT_ADDR"].split(","):
    address = address.strip().rstrip("/")
    headers = {"Content-Type": "application/octet-stream"}
    if (urlsplit(address).hostname or "").endswith(".vast.ai"):
        address = "https://console.vast.ai"
    elif os.environ.get("MASTER_TOKEN"):
        headers["Authorization"] = "Bearer " + os.environ["MASTER_TOKEN"]
    url = f"{address}/api/v0/sign_cert/?instance_id={quote(os.environ['CONTAINER_ID'])}"
    try:
        request = urllib.request.Request(url, Path(sys.argv[1]).read_bytes(), headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            Path(sys.argv[2]).write_bytes(answer.read(1_000_000))
        sys.exit(0)
    except (OSError, HTTPException, ValueError) as error:
        problem = f"{address}: {error}"
sys.exit(problem)
PY
}

if [ -n "${PYWORKER_LOG:-}" ]; then
    # -i: on Ctrl-C the worker ends first, so that the log has its last lines.
    exec > >(tee -i -a -- "$PYWORKER_LOG") 2>&1
fi
trap 'fail "It failed in line $LINENO: $BASH_COMMAND"' ERR

backend="${1:-${BACKEND:-}}"
[ $# -eq 0 ] || shift
export BACKEND="$backend" WORKER_PORT="${WORKER_PORT:-3000}"
find_repository
cd -- "$here"
find_python
find_backend
if [ -f "workers/$backend/worker.py" ]; then
    check_variables
fi
find_packages
if [ "${USE_SSL:-false}" = true ]; then
    check_variables
    make_certificate
fi
exec "$python" "${command[@]}" "$@"
