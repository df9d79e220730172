# shellcheck shell=bash disable=SC2154,SC2016 # variables are those of gpu_smoke.sh, which sources this; ` is Markdown's
# What gpu_smoke.sh measures with --minutes.

# The largest preset of configs/gpu for the memory of the first GPU, in MiB.
preset() {
    local memory found='' size
    memory=$(sed -n '1s/.*, \([0-9]*\) MiB$/\1/p' <<<"$gpu")
    for size in 16 24 40 80; do
        [ "${memory:-0}" -lt $((size * 950)) ] || found=${size}gb
    done
    echo "$found"
}

# ResNet-50 in one precision and size, and PyTorch beside it: measure_step NAME PRECISION CROP [more arguments]
measure_step() {
    local name=$1 precision=$2 crop=$3 as=(env) dtype=float32
    shift 3
    case $precision in
    bfloat16) dtype=bfloat16 ;;
    tf32) as+=(JAX_DEFAULT_MATMUL_PRECISION=tensorfloat32 TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1) ;;
    float32) as+=(JAX_DEFAULT_MATMUL_PRECISION=highest NVIDIA_TF32_OVERRIDE=0) ;;
    esac
    step "$name" "${as[@]}" .venv/bin/mdp bench step --platform "$platform" --seconds 3 --config.devices=1 \
        --config configs/pretrain/voc_ade.py --classes 171 "--config.data.crop=($crop,$crop)" \
        "--config.batch=$batch" "--config.model.compute_dtype=$dtype" "$@" --json "$report/$name.json"
}

measure() {
    local crop crops='224 512' batch precision own exact
    # Twice with the operations whose order of additions is fixed: the losses must be equal in every digit.
    exact=(env XLA_FLAGS=--xla_gpu_deterministic_ops=true)
    [ "$extra" != none ] || exact=(env) # a CPU does not know the flag
    exact+=(.venv/bin/mdp pretrain --config configs/quickstart/pretrain.py --config.steps=10 --config.log_every=1 --platform "$platform")
    step once "${exact[@]}" --workdir "$report/once"
    step again "${exact[@]}" --workdir "$report/again"
    if [ "$dry_run" = 0 ]; then
        losses "$report/once" >"$report/once.txt"
        losses "$report/again" >"$report/again.txt"
    fi
    step deterministic cmp "$report/once.txt" "$report/again.txt"
    if [ "$extra" = none ]; then
        crops='64' # to try the script
    else
        step torch .venv/bin/python -m pip install --quiet 'torch>=2.13,<3'
        own=$(preset)
        [ -z "$own" ] || step "preset_$own" .venv/bin/mdp bench step --platform gpu --seconds 3 --config.devices=1 \
            --config "configs/gpu/$own.py" --classes 171 --json "$report/preset_$own.json"
    fi
    for crop in $crops; do
        batch=$((crop == 224 ? 64 : crop == 512 ? 12 : 2))
        for precision in bfloat16 tf32 float32; do
            measure_step "${precision}_$crop" "$precision" "$crop"
        done
        [ "$extra" = none ] || measure_step "bfloat16_${crop}_compiled" bfloat16 "$crop" --torch_compile
    done
    step loss .venv/bin/mdp bench loss --platform "$platform" --seconds 1 --json "$report/loss.json"
}

# The page of the results, in the form of docs/performance.md.
write_performance() {
    echo "# ${gpu:-No GPU: a CPU, to try the script}, $(date -u +%Y-%m-%d)"
    printf '\n%s\n%s\n' '| run | case | a second | PyTorch | ratio | at most | peak (MiB) |' '| --- | --- | ---: | ---: | ---: | ---: | ---: |'
    .venv/bin/python - "$report" <<'EOF'
import json, pathlib, sys

for file in sorted(pathlib.Path(sys.argv[1]).glob("*.json")):
    for row in json.loads(file.read_text()):
        values = [row.get(name) for name in ("ours", "torch", "ratio", "at most", "peak (MiB)")]
        shown = ["" if value is None else f"{value:,.2f}" for value in values]
        print(f"| {file.stem} | {row['case']} | {' | '.join(shown)} |")
EOF
    printf '\nTwo runs with fixed orders of addition: '
    if [ -s "$report/once.txt" ] && cmp -s "$report/once.txt" "$report/again.txt"; then
        echo 'all losses are equal.'
    else
        echo 'see `deterministic.log`.'
    fi
    printf '\nProfile of the last steps of `pretrain`:\n\n```\n'
    grep -A 1 '^profile of steps' "$report/pretrain.log" || echo 'none'
    printf '```\n\nThe traces are in `pretrain/profile`.\n'
}
