#!/usr/bin/env bash
# One command for whoever has a GPU: installs, tests, trains a little, measures, and leaves a folder to look at.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source-path=SCRIPTDIR source=run.sh
. "$root/launch/run.sh"
# shellcheck source-path=SCRIPTDIR source=gpu_minutes.sh
. "$root/launch/gpu_minutes.sh"

usage() {
    cat <<'EOF'
usage: launch/gpu_smoke.sh [options]

Creates .venv, runs the tests, pretrains for a few steps on the built-in drawn sets, on the GPU and on the CPU, runs
`mdp bench`, and writes report.md with the outcome of each step beside their logs. Without a GPU everything runs on the
CPU, and the report says so. Exit status 1 when a step failed.

  --extra EXTRA   cuda12, cuda13 or none (default: cuda12 where nvidia-smi finds a GPU, else none)
  --report DIR    new folder of the report (default runs/gpu_smoke/DATE_TIME)
  --tests PATH    what pytest runs (default tests: all, some minutes; with --minutes none); none: no tests
  --steps N       of the pretraining (default 60)
  --minutes N     everything that is worth knowing of a GPU in at most N minutes: also a profile, whether two runs are
                  equal, memory of the presets, ResNet-50 at 224 and 512 pixels in three precisions, and PyTorch beside
                  it, as it is and compiled. A step that takes too long is ended, and what there is no time for is
                  left out. Results go into performance.md too.
  --dry-run       print the commands, run none
EOF
}

extra='' report='' tests='' steps=60 minutes=''
while [ $# -gt 0 ]; do
    case $1 in
    --help) usage && exit 0 ;;
    --dry-run) dry_run=1 && shift && continue ;;
    --extra | --report | --tests | --steps | --minutes) [ $# -ge 2 ] || die "$1: expected a value" ;;
    *) die "unknown argument: $1" ;;
    esac
    printf -v "${1#--}" %s "$2" # the variable has the name of the option
    shift 2
done
gpu=$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null) || gpu=''
[ -n "$extra" ] || extra=$([ -n "$gpu" ] && echo cuda12 || echo none)
case $extra in cuda12 | cuda13 | none) ;; *) die "--extra $extra: expected cuda12, cuda13 or none" ;; esac
case $steps in '' | 0* | *[!0-9]*) die "--steps $steps: expected a number" ;; esac
case $minutes in '' | [1-9] | [1-9][0-9] | [1-9][0-9][0-9]) ;; *) die "--minutes $minutes: expected a whole number from 1 to 999" ;; esac
tests=${tests:-$([ -n "$minutes" ] && echo none || echo tests)}
report=${report:-$root/runs/gpu_smoke/$(date +%Y%m%d_%H%M%S)}
[ ! -e "$report" ] || die "--report $report: exists already"
[ "$dry_run" = 1 ] || { mkdir -p "$report" && report=$(cd "$report" && pwd); }
cd "$root"
[ "$tests" = none ] || [ -e "$tests" ] || die "--tests $tests: no such file or folder"

# Runs one step with its output in a log; a failure is noted, and the next steps run all the same. Where minutes are
# given, a step gets those that are left.
failed=0
step() {
    local name=$1 status=0 began=$SECONDS outcome=passed left limit=()
    shift
    if [ "$dry_run" = 1 ]; then
        run "$@"
        return
    fi
    if [ -n "$minutes" ]; then
        left=$((minutes * 60 - SECONDS - 20)) # for what ends late, and for the report
        if [ "$left" -lt 15 ]; then
            echo "| $name | left out, no time | | |" >>"$report/steps.md"
            return
        fi
        limit=(timeout --kill-after=5 "$left")
    fi
    echo "gpu_smoke.sh: $name" >&2
    ${limit[@]+"${limit[@]}"} "$@" >"$report/$name.log" 2>&1 || status=$?
    [ "$status" = 0 ] || { failed=1 && outcome="failed, exit status $status"; }
    [ "$status" = 0 ] || [ $((SECONDS - began)) -lt "${left:-999999}" ] || outcome="ended, no time"
    echo "| $name | $outcome | $((SECONDS - began)) s | [$name.log]($name.log) |" >>"$report/steps.md"
}

# Step and loss of each logged step of a workdir.
losses() {
    sed -n 's/.*"step": \([0-9]*\),.* "loss": \([^,}]*\).*/\1 \2/p' "$1/metrics.jsonl" 2>/dev/null || true
}

write_report() {
    echo "# mdp_jax on $(uname -sm), $(date -u '+%Y-%m-%d %H:%M UTC')"
    echo
    if [ "$extra" = none ]; then
        echo "**No GPU was used: everything ran on the CPU, and nothing here says how this runs on a GPU.**"
    else
        echo "GPU (name, driver, memory): $gpu"
    fi
    printf '\n%s\n%s\n' '| step | outcome | time | output |' '|---|---|---|---|'
    cat "$report/steps.md"
    cat <<'EOF'

The tests themselves always run on the CPU. Also here: `versions.txt`, `pretrain/metrics.jsonl`, `pretrain/report.html`;
with a GPU `nvidia-smi.txt` and `gpu_use.csv` (a line every two seconds after the tests).

## Losses (step, loss; on the right the same steps on the CPU)

```
EOF
    paste <(losses "$report/pretrain") <(losses "$report/pretrain_cpu")
    echo '```'
}

platform=$([ "$extra" = none ] && echo cpu || echo gpu)
train=(.venv/bin/mdp pretrain --config configs/quickstart/pretrain.py "--config.steps=$steps" --config.log_every=5)
if [ "$extra" = none ]; then
    step install make venv
else
    step install make venv "EXTRA=$extra"
fi
step devices .venv/bin/python -c "import jax; print(jax.devices()); assert jax.default_backend() == '$([ "$extra" = none ] && echo cpu || echo gpu)'"
[ "$tests" = none ] || step tests .venv/bin/python -m pytest -q "$tests"
if [ "$dry_run" = 0 ] && [ -n "$gpu" ]; then
    nvidia-smi >"$report/nvidia-smi.txt" || true
    nvidia-smi --query-gpu=timestamp,index,utilization.gpu,memory.used --format=csv --loop=2 >"$report/gpu_use.csv" &
    sampler=$!
    trap 'kill "$sampler" 2>/dev/null || true' EXIT # one that has ended by itself is no step that failed
fi
[ -z "$minutes" ] || train+=(--profile "$(((steps + 1) / 2)):$steps")
step pretrain "${train[@]}" --platform "$platform" --workdir "$report/pretrain"
if [ -n "$minutes" ]; then
    measure
else
    [ "$extra" = none ] || step pretrain_cpu env JAX_PLATFORMS=cpu "${train[@]}" --platform cpu --workdir "$report/pretrain_cpu"
    if [ "$dry_run" = 1 ] || .venv/bin/mdp --help | grep '^ *bench ' >/dev/null; then
        step bench .venv/bin/mdp bench --json "$report/bench.json"
    fi
fi
[ "$dry_run" = 0 ] || exit 0
.venv/bin/python -m pip list >"$report/versions.txt" 2>&1 || true
write_report >"$report/report.md"
[ -z "$minutes" ] || write_performance >"$report/performance.md" 2>&1 || failed=1 # as where nothing is installed
rm "$report/steps.md"
cat "$report/report.md"
exit "$failed"
