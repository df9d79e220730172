#!/usr/bin/env bash
# Pretrains, fine-tunes and evaluates on one GPU.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source-path=SCRIPTDIR source=run.sh
. "$root/launch/run.sh"

usage() {
    cat <<'EOF'
usage: launch/single_gpu.sh [options] [-- --config.key=value ...]

Creates .venv, then pretrains, fine-tunes and evaluates on one GPU. A part that exits 143 (stopped by SIGTERM after a
checkpoint) or 75 (a disk failed for a moment) is started again by itself. Ctrl-C, or SIGTERM to this script, saves a
checkpoint and stops; the same line goes on from there.

  --extra EXTRA      cuda12 (default), cuda13, or none for a machine without a GPU
  --gpu INDEX        which GPU (default 0)
  --pretrain FILE    config of the pretraining (default configs/quickstart/pretrain.py)
  --finetune FILE    config of the fine-tuning (default configs/quickstart/finetune.py)
  --workdir DIR      gets pretrain/ and finetune/ (default runs/single_gpu)
  --restarts N       how often one part may be started again (default 20)
  --dry-run          print the commands, run none
  -- ...             values for both configs, as in -- --config.data_dir=data
EOF
}

extra=cuda12 gpu=0 restarts=20
pretrain=configs/quickstart/pretrain.py finetune=configs/quickstart/finetune.py workdir=runs/single_gpu
while [ $# -gt 0 ]; do
    case $1 in
    --help) usage && exit 0 ;;
    --dry-run) dry_run=1 && shift && continue ;;
    --) shift && break ;;
    --extra | --gpu | --pretrain | --finetune | --workdir | --restarts) [ $# -ge 2 ] || die "$1: expected a value" ;;
    *) die "unknown argument: $1" ;;
    esac
    printf -v "${1#--}" %s "$2" # the variable has the name of the option
    shift 2
done
case $extra in cuda12 | cuda13 | none) ;; *) die "--extra $extra: expected cuda12, cuda13 or none" ;; esac
case $gpu in '' | *[!0-9]*) die "--gpu $gpu: expected a number" ;; esac
case $restarts in '' | *[!0-9]*) die "--restarts $restarts: expected a number" ;; esac
for file in "$pretrain" "$finetune"; do
    [ -f "$file" ] || [ -f "$root/$file" ] || die "$file: no such config"
done
for value in "$@"; do
    case $value in --config.*=*) ;; *) die "$value: expected --config.key=value after --" ;; esac
done

child='' stopping=0
stop() {
    stopping=1
    [ -z "$child" ] || kill -TERM "$child" 2>/dev/null || true
}
trap stop INT TERM

# Runs one part of mdp, again as long as it was stopped by a SIGTERM that was not meant for this script, or by a disk
# that failed for a moment.
part() {
    local status reason starts=0
    while [ "$stopping" = 0 ]; do
        if [ "$dry_run" = 1 ]; then
            run "$root/.venv/bin/mdp" "$@"
            return
        fi
        # In the background: a trap runs only after a command in the foreground has ended.
        "$root/.venv/bin/mdp" "$@" &
        child=$!
        status=0 && wait "$child" || status=$?
        while kill -0 "$child" 2>/dev/null; do # a trapped signal ended the wait, not the child
            status=0 && wait "$child" || status=$?
        done
        child=''
        [ "$stopping" = 0 ] || break
        case $status in
        143) reason='was stopped after a checkpoint' ;;
        75) reason='met a disk that did not answer' ;;
        *) return "$status" ;;
        esac
        starts=$((starts + 1))
        [ "$starts" -le "$restarts" ] || return "$status"
        echo "single_gpu.sh: mdp $1 $reason and goes on (restart $starts of $restarts)" >&2
        if [ "$status" = 75 ]; then # in the background, as above
            sleep 30 &
            wait "$!" || true
        fi
    done
    exit 143
}

platform=gpu # on a machine whose GPU is not there mdp ends, instead of going on on the CPU
if [ "$extra" = none ]; then
    platform=cpu
    run make -C "$root" venv
else
    run make -C "$root" venv "EXTRA=$extra"
    run export "CUDA_VISIBLE_DEVICES=$gpu"
fi
part pretrain --platform "$platform" --config "$pretrain" --workdir "$workdir/pretrain" "$@"
part finetune --platform "$platform" --config "$finetune" --init "$workdir/pretrain" --workdir "$workdir/finetune" "$@"
part evaluate --platform "$platform" --checkpoint "$workdir/finetune"
