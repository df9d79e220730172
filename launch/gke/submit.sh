#!/usr/bin/env bash
# Fills in a JobSet manifest and applies it.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source-path=SCRIPTDIR source=../run.sh
. "$root/launch/run.sh"

usage() {
    cat <<'EOF'
usage: launch/gke/submit.sh tpu --image IMAGE [--topology 4x4] [options] -- mdp arguments
       launch/gke/submit.sh gpu --image IMAGE [--nodes 2] [--gpus 8] [options] -- mdp arguments

Starts one run on GKE as a JobSet, from tpu.yaml or gpu.yaml. A preempted run goes on by itself; `kubectl delete jobset
NAME` saves a checkpoint and stops it, and the same line goes on from there.

  --image IMAGE       built from launch/gke/Dockerfile
  --name NAME         of the JobSet (default mdp)
  --claim NAME        PersistentVolumeClaim of the folder /mnt/mdp, which all pods share (default mdp: workdir.yaml);
                      mounted where the mdp arguments name that folder, and not where all paths are gs://BUCKET/...
  --accelerator NAME  node label (default tpu-v5-lite-podslice, which is v5e, or nvidia-h100-80gb)
  --topology AxB      tpu: 1x1, 2x2, 2x4, 4x4, 4x8, 8x8, 8x16 or 16x16, four chips a host (default 4x4)
  --nodes N           gpu: number of nodes (default 2)
  --gpus N            gpu: GPUs of each node (default 8)
  --dry-run           print the command with the manifest, run nothing
  -- ...              as in -- pretrain --config configs/quickstart/pretrain.py --workdir gs://BUCKET/runs/quickstart
EOF
}

kind=${1:-}
case $kind in
--help) usage && exit 0 ;;
tpu) accelerator=tpu-v5-lite-podslice && shift ;;
gpu) accelerator=nvidia-h100-80gb && shift ;;
*) die "${kind:-no kind}: expected tpu or gpu" ;;
esac
image='' name=mdp claim=mdp topology=4x4 nodes=2 gpus=8
while [ $# -gt 0 ]; do
    case $kind$1 in
    *--help) usage && exit 0 ;;
    *--dry-run) dry_run=1 && shift && continue ;;
    ???--) shift && break ;;
    *--image | *--name | *--claim | *--accelerator | tpu--topology | gpu--nodes | gpu--gpus) [ $# -ge 2 ] || die "$1: expected a value" ;;
    *) die "unknown argument of $kind: $1" ;;
    esac
    printf -v "${1#--}" %s "$2" # the variable has the name of the option
    shift 2
done
case $image in '' | *[!A-Za-z0-9._:/@-]*) die "--image $image: expected the name of an image" ;; esac
for label in "$name" "$claim" "$accelerator"; do
    case $label in '' | [!a-z0-9]* | *[!a-z0-9-]* | *-) die "$label: expected a name of a-z, 0-9 and -" ;; esac
done
for number in "$nodes" "$gpus"; do
    case $number in '' | 0* | *[!0-9]*) die "$number: expected a number" ;; esac
done
case $topology in
1x1) hosts=1 chips=1 ;;
2x2 | 2x4 | 4x4 | 4x8 | 8x8 | 8x16 | 16x16) chips=4 hosts=$((${topology%x*} * ${topology#*x} / 4)) ;;
*) die "--topology $topology: expected 1x1, 2x2, 2x4, 4x4, 4x8, 8x8, 8x16 or 16x16" ;;
esac
[ "$kind" = tpu ] || hosts=$nodes chips=$gpus
case ${1:-} in pretrain | finetune) ;; *) die "expected -- pretrain ... or -- finetune ..." ;; esac
require_lasting_workdir "$@"

arguments=''
for word in "$1" --platform "$kind" "${@:2}"; do # on a node without its chips mdp ends, instead of going on on the CPU
    word=${word//\\/\\\\}
    arguments+=", \"${word//\"/\\\"}\""
done
manifest=$(<"$root/launch/gke/$kind.yaml")
needs_mount "$@" || manifest=$(grep --invert-match ' #mount$' <<<"$manifest")
manifest=${manifest//' #mount'/}
manifest=${manifest//__NAME__/"$name"}
manifest=${manifest//__IMAGE__/"$image"}
manifest=${manifest//__CLAIM__/"$claim"}
manifest=${manifest//__ACCELERATOR__/"$accelerator"}
manifest=${manifest//__TOPOLOGY__/"$topology"}
manifest=${manifest//__HOSTS__/"$hosts"}
manifest=${manifest//__CHIPS__/"$chips"}
manifest=${manifest//__ARGUMENTS__/"[${arguments#, }]"}
if [ "$dry_run" = 1 ]; then
    echo "kubectl apply --filename=- <<'EOF'"
    echo "$manifest"
    echo EOF
else
    kubectl apply --filename=- <<<"$manifest"
fi
