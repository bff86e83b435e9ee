#!/usr/bin/env bash
# Decode of small models with experts beside dense models whose layers read as much as one row's experts, interleaved.
# Usage: bench/moe.sh [REPEATS]       results in bench/results/moe.jsonl, a summary on standard output
#
# A decode step takes the difference of two runs' times over the difference of their steps, so that prefill and start-up
# drop out. The floor of a step is the bytes of weights it must read: of experts, those that so many rows go to if all
# are as likely, `E (1 - (1 - k/E)^rows)`.
set -euo pipefail
cd "$(dirname "$0")/.."
repeats=${1:-5}
results=bench/results/moe.jsonl
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cargo build --release --quiet
trefoil=${CARGO_TARGET_DIR:-target}/release/trefoil

python3 - "$trefoil" "$repeats" "$results" "$work" <<'PY'
import json, pathlib, statistics, subprocess, sys
trefoil, repeats, results, work = sys.argv[1], int(sys.argv[2]), sys.argv[3], pathlib.Path(sys.argv[4])
HIDDEN, LAYERS, VOCAB, KV = 1024, 8, 32000, 256
BASE = dict(vocab_size=VOCAB, hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=16,
            num_key_value_heads=4, head_dim=64, rms_norm_eps=1e-5, max_position_embeddings=2048, hidden_act="silu",
            tie_word_embeddings=False, rope_theta=10000.0, torch_dtype="bfloat16")
# name: (experts, of which a row goes to, ffn of one, config with experts, dense config)
PAIRS = {
    "mixtral": (8, 2, 1792,
                dict(architectures=["MixtralForCausalLM"], intermediate_size=1792, num_local_experts=8,
                     num_experts_per_tok=2),
                dict(architectures=["LlamaForCausalLM"], intermediate_size=2 * 1792)),
    "qwen3_moe": (64, 8, 384,
                  dict(architectures=["Qwen3MoeForCausalLM"], intermediate_size=8 * 384, moe_intermediate_size=384,
                       num_experts=64, num_experts_per_tok=8, norm_topk_prob=True),
                  dict(architectures=["Qwen3ForCausalLM"], intermediate_size=8 * 384)),
}

def seconds(folder, rows, outputs):
    out = work / "result.json"
    command = [trefoil, "bench", "throughput", str(folder), "--dummy-weights", "--num-prompts", str(rows),
               "--input-len", "16", "--output-len", str(outputs), "--output-json", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    return json.loads(out.read_text())["elapsed_time"]

def step(folder, rows):
    return (seconds(folder, rows, 112) - seconds(folder, rows, 16)) / 96

def gigabytes(experts_read, ffn):
    layer = HIDDEN * (2 * HIDDEN + 2 * KV) + experts_read * 3 * HIDDEN * ffn
    return 2 * (LAYERS * layer + HIDDEN * VOCAB) / 1e9

lines = []
for name, (experts, chosen, ffn, sparse, dense) in PAIRS.items():
    folders = {}
    for kind, config in (("sparse", sparse), ("dense", dense)):
        folders[kind] = work / f"{name}-{kind}"
        folders[kind].mkdir()
        (folders[kind] / "config.json").write_text(json.dumps({**BASE, **config}))
    for rows in (1, 8, 16):
        times = {"sparse": [], "dense": []}
        for _ in range(repeats):
            for kind in times:
                times[kind].append(step(folders[kind], rows))
        read = experts * (1 - (1 - chosen / experts) ** rows)
        floors = {"sparse": gigabytes(read, ffn), "dense": gigabytes(chosen, ffn)}
        middle = {kind: statistics.median(own) for kind, own in times.items()}
        lines.append(dict(model=name, rows=rows, experts_read=round(read, 1), seconds=times))
        rates = {kind: floors[kind] / middle[kind] for kind in middle}
        print(f"{name:10} {rows:3} rows: {1e3 * middle['sparse']:6.2f} ms, dense {1e3 * middle['dense']:6.2f} ms; "
              f"{read:4.1f} of {experts} experts read, {rates['sparse']:5.1f} GB/s, dense {rates['dense']:5.1f} GB/s, "
              f"{rates['sparse'] / rates['dense']:.2f} of dense", flush=True)
pathlib.Path(results).write_text("".join(json.dumps(line) + "\n" for line in lines))
PY
