// A legal graph with windows of columns.
graph tiny scheduled
dim vocab = config.vocab_size
dim hidden = config.hidden_size
dim layers = config.num_hidden_layers
dim tokens = step
dim seqs = step
param eps = config.rms_norm_eps
weight w0 = Vector[hidden] of decoder from "layers.{layer}.norm.weight"[1]
weight w1 = Matrix[hidden] of decoder from "layers.{layer}.gate.weight"[hidden]
weight w2 = Matrix[hidden] of decoder from "layers.{layer}.up.weight"[hidden]
weight w3 = Table[hidden] from "embed.weight"[vocab]
weight w4 = Matrix[hidden] from "head.weight"[vocab]
weight w5 = Matrix[hidden] of decoder from "layers.{layer}.gate.weight"[hidden], "layers.{layer}.up.weight"[hidden]
split multiple of 1 at [share 0.5]
streams
  compute = Compute 1
  memory = Memory 1
input ids: v0[tokens] i32
input last: v1[seqs] i32
block decoder: "layers.{layer}"
  takes v2 h[tokens, hidden]
  n: v3[tokens, hidden] = RmsNorm(x: h, weight: w0, eps: eps) @ 0..1 on compute
  n: v3 = RmsNorm(x: h, weight: w0, eps: eps) @ 1..2 on compute
  gate_up: v12[tokens, 2 * hidden] = Linear(x: n, weight: w5) @ 0..1 on compute
  gate_up: v12 = Linear(x: n, weight: w5) @ 1..2 on compute
  gate: v4[tokens, hidden] = Columns(x: gate_up, from: 0, width: hidden) @ 0..2 on compute
  up: v5[tokens, hidden] = Columns(x: gate_up, from: hidden, width: hidden) @ 0..2 on compute
  act: v6[tokens, hidden] = GatedMul(gate: gate, up: up, by: Silu) @ 0..1 on compute
  act: v6 = GatedMul(gate: gate, up: up, by: Silu) @ 1..2 on compute
  h1: v7[tokens, hidden] = Add(a: h, b: act) @ 0..1 on compute
  h1: v7 = Add(a: h, b: act) @ 1..2 on compute
  gives h1
main
  emb: v8[tokens, hidden] = Embed(ids: ids, weight: w3) @ 0..2 on compute
  deep: v9[tokens, hidden] = Repeat(blocks: [decoder], times: layers, with: emb) @ 0..2 on compute
  rows: v10[seqs, hidden] = Rows(x: deep, at: last) @ 0..2 on compute
  logits: v11[seqs, vocab] = Linear(x: rows, weight: w4) @ 0..2 on compute
  gives logits
schedule of 0 events
  buffer m0 = tokens[hidden]
  buffer m1 = tokens[hidden]
  buffer m2 = tokens[2 * hidden]
  buffer m3 = seqs[hidden]
  buffer m4 = seqs[vocab]
  homes
    v2 = m0 columns [0, hidden]
    v3 = m1 columns [0, hidden]
    v4 = m2 columns [0, hidden]
    v5 = m2 columns [hidden, hidden]
    v6 = m1 columns [0, hidden]
    v7 = m0 columns [0, hidden]
    v8 = m0 columns [0, hidden]
    v9 = m0 columns [0, hidden]
    v10 = m3 columns [0, hidden]
    v11 = m4 columns [0, vocab]
    v12 = m2 columns [0, 2 * hidden]
  once
    launch emb 0: v8 = Embed(ids: ids, weight: w3) @ 0..2 on compute
  repeat layers
    block decoder
      launch n 0: v3 = RmsNorm(x: h, weight: w0, eps: eps) @ 0..1 on compute
      launch gate_up 0: v12 = Linear(x: n, weight: w5) @ 0..1 on compute
      launch act 0: v6 = GatedMul(gate: gate, up: up, by: Silu) @ 0..1 on compute
      launch h1 0: v7 = Add(a: h, b: act) @ 0..1 on compute
      launch n 1: v3 = RmsNorm(x: h, weight: w0, eps: eps) @ 1..2 on compute
      launch gate_up 1: v12 = Linear(x: n, weight: w5) @ 1..2 on compute
      launch act 1: v6 = GatedMul(gate: gate, up: up, by: Silu) @ 1..2 on compute
      launch h1 1: v7 = Add(a: h, b: act) @ 1..2 on compute
  once
    launch rows 0: v10 = Rows(x: deep, at: last) @ 0..2 on compute
    launch logits 0: v11 = Linear(x: rows, weight: w4) @ 0..2 on compute
