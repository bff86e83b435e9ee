#!/usr/bin/env bash
# Every plan beside `sequential`, interleaved, on 1.1 B random weights: tokens per second and the overlap in a trace.
# Usage: bench/plans.sh [REPEATS]       results in bench/results/plans.jsonl, a summary on standard output
set -euo pipefail
cd "$(dirname "$0")/.."
repeats=${1:-3}
results=bench/results/plans.jsonl
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cargo build --release --quiet
trefoil=${CARGO_TARGET_DIR:-target}/release/trefoil

# measure PLAN REQUESTS PROMPT_TOKENS OUTPUT_TOKENS [FLAG...]
measure() {
    "$trefoil" bench throughput bench/configs/tinyllama-1.1b --dummy-weights --plan "$1" \
        --num-prompts "$2" --input-len "$3" --output-len "$4" \
        --output-json "$work/result.json" "${@:5}" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
    tr -d '\n' <"$work/result.json"
    echo
}

: >"$results"
# Mostly decode with short contexts, and mostly prefill with longer ones.
for workload in "32 32 32" "16 192 8"; do
    for _ in $(seq "$repeats"); do
        for plan in sequential overlap-2; do
            # shellcheck disable=SC2086
            measure "$plan" $workload >>"$results"
        done
    done
done
# Traces cost a little; they are taken apart from the timing.
for plan in sequential overlap-2; do
    measure "$plan" 16 192 8 --trace "$work/$plan.json" >>"$results"
done

python3 - "$results" <<'PY'
import json, statistics, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
for prompt, output in sorted({(r["prompt_tokens"], r["output_tokens"]) for r in rows if "overlap" not in r}):
    speeds = {}
    for r in rows:
        if (r["prompt_tokens"], r["output_tokens"]) == (prompt, output) and "overlap" not in r:
            speeds.setdefault(r["plan"], []).append(r["tokens_per_second"])
    base = statistics.median(speeds["sequential"])
    for plan, values in speeds.items():
        middle = statistics.median(values)
        print(f"{prompt:6} prompt + {output:5} output tokens  {plan:12} {middle:7.1f} tok/s "
              f"(from {min(values):.1f} to {max(values):.1f}), {middle / base:.3f} of sequential")
for r in rows:
    if "overlap" in r:
        print(f"trace: {r['plan']:12} more than one stream busy in {100 * r['overlap']:.1f} % of the busy time")
PY
