// A legal graph with its schedule.
graph tiny scheduled
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
schedule of 4 events
  buffer m0 = tokens[hidden]
  buffer m1 = tokens[head * heads, hidden]
  buffer m2 = tokens[head * heads]
  buffer m3 = seqs[hidden]
  buffer m4 = seqs[vocab]
  homes
    v2 = m0 columns [0, hidden]
    v3 = m1 columns [0, head * heads]
    v4 = m2 columns [0, head * heads]
    v5 = m1 columns [0, hidden]
    v6 = m0 columns [0, hidden]
    v7 = m0 columns [0, hidden]
    v8 = m0 columns [0, hidden]
    v9 = m3 columns [0, hidden]
    v10 = m4 columns [0, vocab]
  once
    launch emb 0: v7 = Embed(ids: ids, weight: w2) @ 0..2 on compute
  repeat layers
    block decoder
      launch x 0: v3 = Linear(x: h, weight: w0) @ 0..1 on compute
      launch attn_write 0: KvWrite(k: x, v: x, cache: kv) @ 0..1 on compute
      record e0 on compute
      launch x 1: v3 = Linear(x: h, weight: w0) @ 1..2 on compute
      wait e0 on memory
      launch attn_decode 0: v4 = DecodeAttention(q: x, cache: kv, mask: Causal) @ 0..1 on memory
      record e1 on memory
      launch attn_write 1: KvWrite(k: x, v: x, cache: kv) @ 1..2 on compute
      record e2 on compute
      wait e2 on memory
      launch attn_decode 1: v4 = DecodeAttention(q: x, cache: kv, mask: Causal) @ 1..2 on memory
      record e3 on memory
      launch attn_prefill 0: v4 = PrefillAttention(q: x, cache: kv, mask: Causal) @ 0..1 on compute
      wait e1 on compute
      launch o 0: v5 = Linear(x: attn, weight: w1) @ 0..1 on compute
      launch h1 0: v6 = Add(a: h, b: o) @ 0..1 on compute
      launch attn_prefill 1: v4 = PrefillAttention(q: x, cache: kv, mask: Causal) @ 1..2 on compute
      wait e3 on compute
      launch o 1: v5 = Linear(x: attn, weight: w1) @ 1..2 on compute
      launch h1 1: v6 = Add(a: h, b: o) @ 1..2 on compute
  once
    launch rows 0: v9 = Rows(x: deep, at: last) @ 0..2 on compute
    launch logits 0: v10 = Linear(x: rows, weight: w3) @ 0..2 on compute
