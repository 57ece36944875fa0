#!/usr/bin/env bash
# One run in two processes of this machine, on CPUs: what two machines do, tried at home.
#
#     launch/local_two_processes.sh --config=ddpm_toy2d:tiny --workdir=runs/two
#
# PROCESSES=2 and DEVICES=2, of each, are changed by the environment. DRY_RUN=1 prints the
# commands. Ctrl-C stops all processes, which save first.
set -euo pipefail
cd "$(dirname "$0")/.."

processes=${PROCESSES:-2}
export JAX_PLATFORMS=${JAX_PLATFORMS:-cpu}
export XLA_FLAGS="${XLA_FLAGS:-} --xla_force_host_platform_device_count=${DEVICES:-2}"
free='import socket; s = socket.socket(); s.bind(("localhost", 0)); print(s.getsockname()[1])'
port=$(python -c "$free")

started=()
for ((i = 0; i < processes; i++)); do
    command=(python launch.py "$@" "--coordinator=localhost:$port"
        "--num_processes=$processes" "--process_id=$i")
    if [[ -n ${DRY_RUN:-} ]]; then
        printf '%q ' "${command[@]}"
        echo
    else
        "${command[@]}" &
        started+=($!)
    fi
done

trap 'kill -TERM "${started[@]}" 2>/dev/null || true' INT TERM HUP
worst=0
for process in "${started[@]}"; do
    code=0
    wait "$process" || code=$?
    while kill -0 "$process" 2>/dev/null; do # the wait ended by a signal to us
        code=0
        wait "$process" || code=$?
    done
    ((code > worst)) && worst=$code
done
exit "$worst"
