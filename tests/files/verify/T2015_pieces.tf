// A matrix with a tensor of other columns, and vectors that end too early.
graph tiny loaded
dim vocab = config.vocab_size
dim hidden = config.hidden_size
dim layers = config.num_hidden_layers
dim tokens = step
dim seqs = step
param eps = config.rms_norm_eps
weight w0 = Vector[hidden] of decoder from "layers.{layer}.norm.weight"[1]
weight w1 = Matrix[hidden] of decoder from "layers.{layer}.gate.weight"[hidden]
weight w2 = Matrix[hidden] of decoder from "layers.{layer}.up.weight"[hidden, vocab] //~ T2015 `layers.{layer}.up.weight` is [hidden, vocab], which makes no Matrix of hidden columns
weight w3 = Table[hidden] from "embed.weight"[vocab]
weight w4 = Matrix[hidden] from "head.weight"[vocab]
weight w5 = Vector[hidden] of decoder from "layers.{layer}.a.bias"[1, vocab], "layers.{layer}.b.bias"[1, vocab] //~ T2015 makes no Vector of hidden columns
input ids: v0[tokens] i32
input last: v1[seqs] i32
block decoder: "layers.{layer}"
  takes v2 h[tokens, hidden]
  n: v3[tokens, hidden] = RmsNorm(x: h, weight: w0, eps: eps)
  gate: v4[tokens, hidden] = Linear(x: n, weight: w1, bias: w5)
  up: v5[tokens, hidden] = Linear(x: n, weight: w2)
  act: v6[tokens, hidden] = GatedMul(gate: gate, up: up, by: Silu)
  h1: v7[tokens, hidden] = Add(a: h, b: act)
  gives h1
main
  emb: v8[tokens, hidden] = Embed(ids: ids, weight: w3)
  deep: v9[tokens, hidden] = Repeat(blocks: [decoder], times: layers, with: emb)
  rows: v10[seqs, hidden] = Rows(x: deep, at: last)
  logits: v11[seqs, vocab] = Linear(x: rows, weight: w4)
  gives logits
