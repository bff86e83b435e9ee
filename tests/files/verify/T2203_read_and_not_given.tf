// A row is read that is not given.
graph tiny split
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
input ids: v0[tokens] i32
input last: v1[seqs] i32
block decoder: "layers.{layer}"
  takes v2 h[tokens, hidden]
  n: v3[tokens, hidden] = RmsNorm(x: h, weight: w0, eps: eps) @ 0..1
  n: v3 = RmsNorm(x: h, weight: w0, eps: eps) @ 1..2
  gate_up: v12[tokens, 2 * hidden] = Linear(x: n, weight: w5) @ 0..1
  gate_up: v12 = Linear(x: n, weight: w5) @ 1..2
  gate: v4[tokens, hidden] = Columns(x: gate_up, from: 0, width: hidden) @ 0..2
  up: v5[tokens, hidden] = Columns(x: gate_up, from: hidden, width: hidden) @ 0..2
  act: v6[tokens, hidden] = GatedMul(gate: gate, up: up, by: Silu) @ 0..1
  act: v6 = GatedMul(gate: gate, up: up, by: Silu) @ 1..2
  left: v13[tokens, hidden] = RmsNorm(x: act, weight: w0, eps: eps) @ 0..1 //~ T2203 the nodes that give `left` leave out rows of it, or give some twice
  h1: v7[tokens, hidden] = Add(a: h, b: left) @ 0..2
  gives h1
main
  emb: v8[tokens, hidden] = Embed(ids: ids, weight: w3) @ 0..2
  deep: v9[tokens, hidden] = Repeat(blocks: [decoder], times: layers, with: emb) @ 0..2
  rows: v10[seqs, hidden] = Rows(x: deep, at: last) @ 0..2
  logits: v11[seqs, vocab] = Linear(x: rows, weight: w4) @ 0..2
  gives logits
