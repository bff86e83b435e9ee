// A product over more experts than its router chooses among, and a weight of experts that does not count them.
graph tiny loaded
dim vocab = config.vocab_size
dim hidden = config.hidden_size
dim layers = config.num_hidden_layers
dim experts = config.experts
dim others = config.others
dim top_k = config.top_k
dim tokens = step
dim seqs = step
weight w0 = Matrix[hidden] of decoder from "layers.{layer}.router.weight"[experts]
weight w1 = Experts[others, hidden] of decoder from "layers.{layer}.{expert}.up.weight"[hidden]
weight w2 = Experts[hidden] of decoder from "layers.{layer}.{expert}.down.weight"[hidden] //~ T2016 the weight, Experts, does not count its experts
weight w3 = Table[hidden] from "embed.weight"[vocab]
weight w4 = Matrix[hidden] from "head.weight"[vocab]
input ids: v0[tokens] i32
input last: v1[seqs] i32
block decoder: "layers.{layer}"
  takes v2 h[tokens, hidden]
  router: v3[tokens, experts] = Linear(x: h, weight: w0)
  route: v4 route.experts[tokens, top_k] i32, v5 route.shares[tokens, top_k] = Route(x: router, top_k: top_k, scoring: Softmax, renormalize: true)
  up: v6[tokens, hidden * top_k] = ExpertLinear(x: h, experts: route.experts, weight: w1) //~ T2016 `up` has others experts and reads a choice among experts
  down: v7[tokens, hidden * top_k] = ExpertLinear(x: up, experts: route.experts, weight: w2) //~ T2016 `down` has unknown experts and reads a choice among experts
  moe: v8[tokens, hidden] = Combine(x: down, shares: route.shares)
  h1: v9[tokens, hidden] = Add(a: h, b: moe)
  gives h1
main
  emb: v10[tokens, hidden] = Embed(ids: ids, weight: w3)
  deep: v11[tokens, hidden] = Repeat(blocks: [decoder], times: layers, with: emb)
  rows: v12[seqs, hidden] = Rows(x: deep, at: last)
  logits: v13[seqs, vocab] = Linear(x: rows, weight: w4)
  gives logits
