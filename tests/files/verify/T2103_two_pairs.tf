// Two pairs of attentions read one cache.
graph tiny lowered
dim vocab = config.vocab_size
dim hidden = config.hidden_size
dim layers = config.num_hidden_layers
dim heads = config.num_attention_heads
dim head = config.head_dim
dim tokens = step
dim seqs = step
cache c0 kv of decoder = [heads, head] //~ T2103 2 attentions read the cache `kv`
weight w0 = Matrix[hidden] of decoder from "layers.{layer}.qkv.weight"[head * heads]
weight w1 = Matrix[head * heads] of decoder from "layers.{layer}.o.weight"[hidden]
weight w2 = Table[hidden] from "embed.weight"[vocab]
weight w3 = Matrix[hidden] from "head.weight"[vocab]
input ids: v0[tokens] i32
input last: v1[seqs] i32
block decoder: "layers.{layer}"
  takes v2 h[tokens, hidden]
  x: v3[tokens, head * heads] = Linear(x: h, weight: w0)
  attn_write: KvWrite(k: x, v: x, cache: kv)
  attn_decode: v4 attn[tokens, head * heads] = DecodeAttention(q: x, cache: kv, mask: Causal)
  attn_prefill: v4 = PrefillAttention(q: x, cache: kv, mask: Causal)
  more_decode: v11 more[tokens, head * heads] = DecodeAttention(q: attn, cache: kv, mask: Causal)
  more_prefill: v11 = PrefillAttention(q: attn, cache: kv, mask: Causal)
  o: v5[tokens, hidden] = Linear(x: attn, weight: w1)
  h1: v6[tokens, hidden] = Add(a: h, b: o)
  gives h1
main
  emb: v7[tokens, hidden] = Embed(ids: ids, weight: w2)
  deep: v8[tokens, hidden] = Repeat(blocks: [decoder], times: layers, with: emb)
  rows: v9[seqs, hidden] = Rows(x: deep, at: last)
  logits: v10[seqs, vocab] = Linear(x: rows, weight: w3)
  gives logits
