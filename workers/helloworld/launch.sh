#!/usr/bin/env bash
# Starts the backend that this file lies beside: launch.sh [CLONE] [BACKEND].
#
# CLONE is where start_server.sh is, two folders up unless given; BACKEND is this folder's own name unless given.
set -euo pipefail

# start_server CLONE BACKEND, as in the classic guide; but nothing is downloaded where the clone is not there.
start_server() {
    if [ ! -f "$1/start_server.sh" ]; then
        echo "launch.sh: there is no start_server.sh in $1: give the path of the clone as the first argument" >&2
        exit 1
    fi
    exec bash "$1/start_server.sh" "$2"
}

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
clone=$here/../..
backend=$(basename -- "$here")
for argument in "$@"; do
    case $argument in
        *[!A-Za-z0-9_]*) clone=$argument ;; # a path: no backend has a slash or a dot in its name
        *) backend=$argument ;;
    esac
done
start_server "$clone" "$backend"
