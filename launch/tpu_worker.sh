#!/usr/bin/env bash
# What tpu_pod.sh does on each worker of a slice.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source-path=SCRIPTDIR source=run.sh
. "$root/launch/run.sh"

usage() {
    cat <<'EOF'
usage: launch/tpu_worker.sh [--dry-run] COMMAND

Runs on a worker of a TPU slice; tpu_pod.sh calls it there. mdp is a transient systemd service: it outlives the ssh
connection, gets SIGTERM when the machine is taken away, and is started again when it fails (20 times in 6 hours).

  install [SOURCE]        installs this folder, mounts SERVER:/SHARE or gs://BUCKET on /mnt/mdp
  start PART ARGUMENTS    starts the service, unless it runs already
  stop                    stops it: SIGTERM, a checkpoint, 120 seconds at most
  follow                  shows its log
EOF
}

install() {
    if [ "$dry_run" = 0 ] && [[ ${1:-} = gs://* ]] && ! command -v gcsfuse >/dev/null; then
        die "$1: gcsfuse is not installed on $(hostname)"
    fi
    # uv brings a Python: that of the TPU images is 3.10.
    run python3 -m pip install --quiet --user uv
    if [ "$dry_run" = 1 ] || [ ! -x "$root/.venv/bin/python" ]; then
        run python3 -m uv venv --quiet --python 3.12 "$root/.venv"
    fi
    run python3 -m uv pip install --quiet --python "$root/.venv/bin/python" --editable "${root}[tpu,gcs,s3]"
    if [ $# -eq 0 ] || { [ "$dry_run" = 0 ] && mountpoint -q /mnt/mdp; }; then return; fi
    run sudo mkdir -p /mnt/mdp
    case $1 in
    gs://*)
        run sudo chown "$user" /mnt/mdp
        run gcsfuse --implicit-dirs "${1#gs://}" /mnt/mdp
        ;;
    *)
        run sudo apt-get -o DPkg::Lock::Timeout=600 install --yes --quiet nfs-common
        run sudo mount -t nfs "$1" /mnt/mdp
        run sudo chmod a+rwx /mnt/mdp
        ;;
    esac
}

start() {
    local compiled=$root/.compiled # of this worker, where nothing is shared
    ! needs_mount "$@" || compiled=/mnt/mdp/compiled
    if [ "$dry_run" = 0 ]; then
        ! needs_mount "$@" || mountpoint -q /mnt/mdp || die "/mnt/mdp is not mounted on $(hostname); run install with --mount first"
        case $(systemctl show --property=ActiveState --value mdp) in active | activating) return ;; esac
        sudo systemctl reset-failed mdp 2>/dev/null || true # the name of a service that failed is taken
    fi
    run sudo systemd-run --unit=mdp --uid="$user" --working-directory="$root" \
        --property=KillMode=mixed --property=TimeoutStopSec=120 \
        --property=Restart=on-failure --property=RestartSec=30 '--property=RestartPreventExitStatus=2 3' \
        --property=StartLimitIntervalSec=21600 --property=StartLimitBurst=20 --property=LimitMEMLOCK=infinity \
        --setenv=JAX_COMPILATION_CACHE_DIR="$compiled" \
        "$root/.venv/bin/mdp" "$1" --platform tpu "${@:2}"
}

user=$(id -un)
[ "${1:-}" != --dry-run ] || { dry_run=1 && shift; }
command=${1:-}
case $command in
--help) usage && exit 0 ;;
install)
    [[ $# -eq 1 || ($# -eq 2 && $2 =~ ^(gs://[a-z0-9._-]+|[A-Za-z0-9.-]+:/[A-Za-z0-9._-][A-Za-z0-9._/-]*)$) ]] ||
        die "install ${2:-}: expected SERVER:/SHARE or gs://BUCKET"
    ;;
start) case ${2:-} in pretrain | finetune) ;; *) die "start: expected pretrain or finetune" ;; esac ;;
stop | follow) [ $# -eq 1 ] || die "$command: expected nothing after it" ;;
*) die "${command:-no command}: expected install, start, stop or follow" ;;
esac
case $command in
stop) run sudo systemctl stop mdp ;;
follow) run sudo journalctl --unit=mdp --output=cat --lines=100 --follow ;;
*) "$@" ;;
esac
