#!/usr/bin/env bash
# One run on a Cloud TPU slice: asks for it, installs genjax on its hosts, and trains on
# all of them. If the slice is taken away, it is asked for again and the run goes on.
#
#     NAME=mine ZONE=us-central2-b TYPE=v4-32 VERSION=tpu-ubuntu2204-base \
#         launch/tpu_vm.sh --config=ddpm_cifar --workdir=/mnt/shared/ddpm_cifar
#
# Needs gcloud, logged in, with a project. The workdir must be one that all hosts share.
# SPOT=1 asks for a cheaper slice that may be taken away. SETUP='command' runs on each
# host after the install, say to mount the shared disk. KEEP=1 leaves the slice at the
# end; else it is deleted. DRY_RUN=1 prints the commands. POLL=60 are the seconds between
# two looks at a slice that is not there yet, MAX_RESTARTS=100 a bound.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${NAME:?a name for the slice}" "${ZONE:?like us-central2-b}" "${TYPE:?like v4-32}"
: "${VERSION:?the runtime of that type, like tpu-ubuntu2204-base}"

run() {
    if [[ -n ${DRY_RUN:-} ]]; then
        printf '%q ' "$@"
        echo
    else
        "$@"
    fi
}

slice() { run gcloud compute tpus queued-resources "$@" "--zone=$ZONE" --quiet; }

on() { # on all|0 COMMAND
    run gcloud compute tpus tpu-vm ssh "$NAME" "--zone=$ZONE" "--worker=$1" "--command=$2"
}

state() { # like ACTIVE; NONE if there is no such slice
    if [[ -n ${DRY_RUN:-} ]]; then
        echo ACTIVE
        return
    fi
    local said
    said=$(gcloud compute tpus queued-resources describe "$NAME" "--zone=$ZONE" \
        '--format=value(state.state)' 2>&1) || case $said in
        *NOT_FOUND*) said=NONE ;;
        *) echo "$said" >&2 && said=UNKNOWN ;; # asked again later
    esac
    echo "$said"
}

create() {
    slice create "$NAME" "--node-id=$NAME" "--accelerator-type=$TYPE" \
        "--runtime-version=$VERSION" ${SPOT:+--spot}
}

# Returns once the slice is there. Sets `fresh` if its hosts have no genjax yet.
get() {
    while true; do
        case $(state) in
            ACTIVE) return ;;
            NONE)
                create
                fresh=1
                ;;
            FAILED | SUSPENDED) slice delete "$NAME" --force ;; # taken away
            *) sleep "${POLL:-60}" ;; # waiting, or on its way in or out
        esac
    done
}

install() {
    local archive=${TMPDIR:-/tmp}/genjax-$NAME.tar.gz
    run git archive --format=tar.gz "--output=$archive" HEAD
    run gcloud compute tpus tpu-vm scp "$archive" "$NAME:genjax.tar.gz" "--zone=$ZONE" \
        --worker=all
    # uv brings a Python that is new enough.
    on all "mkdir -p genjax && tar -xzf genjax.tar.gz -C genjax && pip install --quiet \
--user uv && ~/.local/bin/uv venv --quiet --allow-existing --python=3.11 ~/env && \
~/.local/bin/uv pip install --quiet --python ~/env/bin/python -e 'genjax[tpu]'"
    if [[ -n ${SETUP:-} ]]; then on all "$SETUP"; fi
}

train() { # prints what the run prints; sets `code` to its exit code, or to "lost"
    on all "rm -f genjax.code; cd genjax && code=0; ~/env/bin/python launch.py $* || code=\$?; \
echo \$code > ~/genjax.code; exit \$code" && code=0 && return
    code=$(on 0 'cat ~/genjax.code && rm ~/genjax.code' 2>/dev/null) || code=lost
}

flags=$(printf '%q ' "$@")
fresh=
[[ -n ${DRY_RUN:-} ]] && create
for ((restart = 0; restart <= ${MAX_RESTARTS:-100}; restart++)); do
    get
    if [[ -n $fresh || $restart == 0 ]]; then install && fresh=; fi
    train "$flags"
    case $code in
        75) ;;
        lost) sleep "${POLL:-60}" ;; # until its state says that it was taken away
        *) break ;;
    esac
    echo "stopped: going on (restart $((restart + 1)))" >&2
done
if [[ -z ${KEEP:-} ]]; then slice delete "$NAME" --force; fi
[[ $code == lost ]] && exit 75
exit "$code"
