// A legal graph whose nodes have streams.
graph tiny grouped
dim vocab = config.vocab_size
dim hidden = config.hidden_size
dim layers = config.num_hidden_layers
dim heads = config.num_attention_heads
dim head = config.head_dim
dim tokens = step
dim seqs = step
cache c0 kv of decoder = [heads, head]
weight w0 = Matrix[hidden] of decoder from "layers.{layer}.qkv.weight"[head * heads]
weight w1 = Matrix[head * heads] of decoder from "layers.{layer}.o.weight"[hidden]
weight w2 = Table[hidden] from "embed.weight"[vocab]
weight w3 = Matrix[hidden] from "head.weight"[vocab]
split multiple of 1 at [share 0.5]
streams
  compute = Compute 1
  memory = Memory 1
input ids: v0[tokens] i32
input last: v1[seqs] i32
block decoder: "layers.{layer}"
  takes v2 h[tokens, hidden]
  x: v3[tokens, head * heads] = Linear(x: h, weight: w0) @ 0..1 on compute
  x: v3 = Linear(x: h, weight: w0) @ 1..2 on compute
  attn_write: KvWrite(k: x, v: x, cache: kv) @ 0..1 on compute
  attn_write: KvWrite(k: x, v: x, cache: kv) @ 1..2 on compute
  attn_decode: v4 attn[tokens, head * heads] = DecodeAttention(q: x, cache: kv, mask: Causal) @ 0..1 on memory
  attn_decode: v4 = DecodeAttention(q: x, cache: kv, mask: Causal) @ 1..2 on memory
  attn_prefill: v4 = PrefillAttention(q: x, cache: kv, mask: Causal) @ 0..1 on compute
  attn_prefill: v4 = PrefillAttention(q: x, cache: kv, mask: Causal) @ 1..2 on compute
  o: v5[tokens, hidden] = Linear(x: attn, weight: w1) @ 0..1 on compute
  o: v5 = Linear(x: attn, weight: w1) @ 1..2 on compute
  h1: v6[tokens, hidden] = Add(a: h, b: o) @ 0..1 on compute
  h1: v6 = Add(a: h, b: o) @ 1..2 on compute
  gives h1
main
  emb: v7[tokens, hidden] = Embed(ids: ids, weight: w2) @ 0..2 on compute
  deep: v8[tokens, hidden] = Repeat(blocks: [decoder], times: layers, with: emb) @ 0..2 on compute
  rows: v9[seqs, hidden] = Rows(x: deep, at: last) @ 0..2 on compute
  logits: v10[seqs, vocab] = Linear(x: rows, weight: w3) @ 0..2 on compute
  gives logits
