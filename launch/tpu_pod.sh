#!/usr/bin/env bash
# One training run on a TPU slice of any size, by queued resources. Runs on your own machine; see tpu_worker.sh.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source-path=SCRIPTDIR source=run.sh
. "$root/launch/run.sh"

usage() {
    cat <<'EOF'
usage: launch/tpu_pod.sh COMMAND --name NAME --zone ZONE [options] [-- mdp arguments]

Every command takes the same options, so that one line, with another first word, does everything:

  create    asks for the slice and waits until it is there
  install   copies this folder to all workers, installs it, mounts the shared folder where --mount names one
  start     starts mdp on all workers; it is started again when it fails, not after exit 0, 2 or 3
  follow    shows the log of worker 0
  stop      saves a checkpoint and stops mdp on all workers
  resume    after a preemption: delete, create, install, start; where the slice is there: install, start
  delete    gives the slice back

  --name NAME        of the queued resource and of its node
  --zone ZONE        as in us-west4-a
  --type TYPE        accelerator type: v5litepod-N, v6e-N, v5p-N or v4-N
  --mount SOURCE     the folder /mnt/mdp of all workers, which outlives the slice: SERVER:/SHARE (Filestore or another
                     NFS server) or gs://BUCKET (needs gcsfuse on the workers); not needed where paths are gs://BUCKET/...
  --project PROJECT  default: gcloud's own
  --runtime VERSION  TPU software version (default: the one for the type)
  --spot             preemptible; --reserved: from a reservation; default: on demand
  --dry-run          print the commands, run none
  -- ...             as in -- pretrain --config configs/quickstart/pretrain.py --workdir gs://BUCKET/runs/quickstart
EOF
}

command=${1:-}
case $command in
--help) usage && exit 0 ;;
create | install | start | follow | stop | resume | delete) shift ;;
*) die "${command:-no command}: expected create, install, start, follow, stop, resume or delete" ;;
esac
name='' zone='' type='' mount='' project='' runtime='' tier=''
while [ $# -gt 0 ]; do
    case $1 in
    --help) usage && exit 0 ;;
    --dry-run) dry_run=1 && shift && continue ;;
    --spot | --reserved) tier=$1 && shift && continue ;;
    --) shift && break ;;
    --name | --zone | --type | --mount | --project | --runtime) [ $# -ge 2 ] || die "$1: expected a value" ;;
    *) die "unknown argument: $1" ;;
    esac
    printf -v "${1#--}" %s "$2" # the variable has the name of the option
    shift 2
done
[ -n "$name" ] || die "--name is required"
[ -n "$zone" ] || die "--zone is required"
case $command in create | resume)
    case $type in
    v5litepod-[0-9]*) : "${runtime:=v2-alpha-tpuv5-lite}" ;;
    v6e-[0-9]*) : "${runtime:=v2-alpha-tpuv6e}" ;;
    v5p-[0-9]*) : "${runtime:=v2-alpha-tpuv5}" ;;
    v4-[0-9]*) : "${runtime:=tpu-ubuntu2204-base}" ;;
    *) die "--type $type: expected v5litepod-N, v6e-N, v5p-N or v4-N" ;;
    esac
    ;;
esac
case $command in install | resume)
    [[ -z $mount || $mount =~ ^(gs://[a-z0-9._-]+|[A-Za-z0-9.-]+:/[A-Za-z0-9._-][A-Za-z0-9._/-]*)$ ]] ||
        die "--mount $mount: expected SERVER:/SHARE or gs://BUCKET"
    ;;
esac
case $command in start | resume)
    case ${1:-} in pretrain | finetune) ;; *) die "expected -- pretrain ... or -- finetune ..." ;; esac
    require_lasting_workdir "$@"
    [ "$command$mount" != resume ] || ! needs_mount "$@" || die "expected --mount for what is below /mnt/mdp"
    ;;
esac

queued() { run gcloud compute tpus queued-resources "$1" "$name" --zone="$zone" ${project:+"--project=$project"} "${@:2}"; }
node() { run gcloud compute tpus tpu-vm "$@" --zone="$zone" ${project:+"--project=$project"}; }
on_workers() { node ssh "$name" --worker="$1" --command="$2"; }
state() { queued describe '--format=value(state.state)'; }

create() {
    queued create --node-id="$name" --accelerator-type="$type" --runtime-version="$runtime" ${tier:+"$tier"}
}

wait_until_active() {
    local now failures=0
    if [ "$dry_run" = 1 ]; then
        echo '# every 30 seconds, until it says ACTIVE:'
        state
        return
    fi
    while :; do
        # A wait of hours does not end with the first answer that is lost.
        now=$(state) || { failures=$((failures + 1)) && [ "$failures" -lt 10 ] && sleep 30 && continue; }
        [ -n "$now" ] || die "$name: gcloud does not say how it is"
        failures=0
        echo "tpu_pod.sh: $name is $now" >&2
        case $now in
        ACTIVE) return ;;
        FAILED | SUSPENDING | SUSPENDED) exit 1 ;;
        esac
        sleep 30
    done
}

install() {
    local archive=${TMPDIR:-/tmp}/$name.tar.gz entry entries=() LC_ALL=C
    # By name: what tar's --exclude takes out below the first level differs between systems.
    for entry in "$root"/* "$root"/.[!.]*; do
        case ${entry##*/} in .venv | .git | runs | data | '*' | '.[!.]*') ;; *) entries+=("${entry##*/}") ;; esac
    done
    run tar -czf "$archive" -C "$root" "${entries[@]}"
    node scp "$archive" "$name:mdp_jax.tar.gz" --worker=all
    on_workers all "mkdir -p mdp_jax && tar -xzf mdp_jax.tar.gz -C mdp_jax && mdp_jax/launch/tpu_worker.sh install${mount:+ $(printf %q "$mount")}"
}

start() {
    on_workers all "mdp_jax/launch/tpu_worker.sh start$(printf ' %q' "$@")"
}

resume() {
    local now
    if [ "$dry_run" = 1 ]; then
        echo '# ACTIVE: goes on with install; FAILED or SUSPENDED, as after a preemption: delete and create; none: create'
        state
        now=SUSPENDED
    else
        now=$(state) || now=none
    fi
    case $now in FAILED | SUSPENDING | SUSPENDED)
        queued delete --force --quiet
        now=none
        ;;
    esac
    [ "$now" != none ] || create
    wait_until_active
    install
    start "$@"
}

case $command in
create) create && wait_until_active ;;
follow) on_workers 0 'mdp_jax/launch/tpu_worker.sh follow' ;;
stop) on_workers all 'mdp_jax/launch/tpu_worker.sh stop' ;;
delete) queued delete --force --quiet ;;
*) "$command" "$@" ;;
esac
