"""The rows of make_goldens.py: what each golden's model is.

A row is made by `row(classes, **config)`: the classes' common name in
transformers (`Qwen3` for Qwen3Config and Qwen3ForCausalLM, or both names) and
the arguments of the configuration. What a row says beside that:

    full      four sequences and greedy continuations (else two sequences)
    older     config.json in the keys of transformers 4: True, or a map from the
              names below (`theta`, `rotary`, `drop`) to what the family calls them
    strip     take this prefix off the tensors' names, as published files have it
    buffers   tensors that published files hold and nobody reads: name -> shape
    sharded   several files with an index
    bf16      also a checkpoint in bf16
    matters   changes of the configuration that must change the logits, so that a
              graph that forgets the feature cannot pass
"""


def row(classes, full=False, older=None, strip="", buffers=None, sharded=False, bf16=False, matters=(), **config):
    names = classes if isinstance(classes, tuple) else (classes + "Config", classes + "ForCausalLM")
    return dict(classes=names, full=full, older=older, strip=strip, buffers=buffers or {}, sharded=sharded,
                bf16=bf16, matters=matters, config={**TOKENS, **config})


TOKENS = dict(vocab_size=128, bos_token_id=1, eos_token_id=2, pad_token_id=None)
PLAIN = dict(num_hidden_layers=2, max_position_embeddings=128)
LLAMA = dict(PLAIN, intermediate_size=96, hidden_act="silu", tie_word_embeddings=False)
WIDE = dict(LLAMA, hidden_size=64, num_attention_heads=4, num_key_value_heads=2)
SMALL = dict(LLAMA, hidden_size=32, num_attention_heads=4, num_key_value_heads=2, intermediate_size=48)
WINDOW = (dict(sliding_window=4096),)


def rope(theta=10000.0, kind="default", **more):
    return dict(rope_type=kind, rope_theta=theta, **more)


def llama3(factor):
    return rope(500000.0, "llama3", factor=factor, low_freq_factor=1.0, high_freq_factor=4.0,
                original_max_position_embeddings=64)


def yarn(**more):
    return rope(1500.0, "yarn", factor=8.0, beta_fast=32.0, beta_slow=1.0, original_max_position_embeddings=64, **more)


def types(text):
    """`"ssf"`: two layers with a window, one without."""
    return [{"s": "sliding_attention", "f": "full_attention"}[letter] for letter in text]


FLAT = (dict(rope_parameters=rope(500000.0)),)
LATENT = dict(SMALL, num_key_value_heads=4, num_hidden_layers=3, max_position_embeddings=512, rms_norm_eps=1e-5,
              kv_lora_rank=16, qk_nope_head_dim=12, qk_rope_head_dim=8, moe_intermediate_size=16, n_shared_experts=2,
              n_routed_experts=6, num_experts_per_tok=2, n_group=2, topk_group=1, first_k_dense_replace=1,
              routed_scaling_factor=1.5)
GROUPS = (dict(topk_group=2), dict(rope_parameters=rope(1500.0)))
HEADS = dict(num_attention_heads=4, num_key_value_heads=2, head_dim=16)

MODELS = {
    # multi-head attention
    "llama2": row("Llama", full=True, older=True, bf16=True, **{**LLAMA, "hidden_size": 32}, num_attention_heads=2,
                  num_key_value_heads=2, rms_norm_eps=1e-6, rope_parameters=rope()),
    # grouped-query attention
    "llama3": row("Llama", full=True, sharded=True, **WIDE, rms_norm_eps=1e-5, rope_parameters=rope(500000.0)),
    # llama3 rope scaling; one kv head
    "llama3_1": row("Llama", full=True, older=True, **{**WIDE, "num_key_value_heads": 1,
                    "max_position_embeddings": 512}, rms_norm_eps=1e-5, rope_parameters=llama3(8.0), matters=FLAT),
    # tied embeddings, llama3 rope scaling, head_dim 32 where hidden / heads is 16
    "llama3_2": row("Llama", full=True, bf16=True, **{**WIDE, "tie_word_embeddings": True,
                    "max_position_embeddings": 2048}, head_dim=32, rms_norm_eps=1e-5, rope_parameters=llama3(32.0),
                    matters=FLAT),
    # a bias on queries, keys and values
    "qwen2": row("Qwen2", full=True, **WIDE, rms_norm_eps=1e-6, use_sliding_window=False,
                 rope_parameters=rope(1000000.0)),
    # five experts, two per token
    "mixtral": row("Mixtral", full=True, older=True, **{**LLAMA, "intermediate_size": 48}, hidden_size=32,
                   num_attention_heads=2, num_key_value_heads=1, rms_norm_eps=1e-5, num_local_experts=5,
                   num_experts_per_tok=2, rope_parameters=rope(1000000.0)),
    # a window in every layer
    "mistral": row("Mistral", full=True, older=True, **SMALL, rms_norm_eps=1e-5, sliding_window=24,
                   rope_parameters=rope(), matters=WINDOW),
    # norms of the heads of queries and keys; head_dim is not hidden / heads
    "qwen3": row("Qwen3", full=True, **{**WIDE, "hidden_size": 48}, head_dim=16, rms_norm_eps=1e-6,
                 rope_parameters=rope(1000000.0)),
    # soft caps, alternating windows, a scale of its own, norms after each part
    "gemma2": row("Gemma2", full=True, older=True, **PLAIN, hidden_size=48, intermediate_size=96, **HEADS,
                  sliding_window=24, query_pre_attn_scalar=9, attn_logit_softcapping=5.0, final_logit_softcapping=4.0,
                  rope_parameters=rope(),
                  matters=WINDOW + (dict(attn_logit_softcapping=50.0), dict(query_pre_attn_scalar=16))),
    # windows by a list, two rope bases, the layers without a window scaled
    "gemma3": row(("Gemma3TextConfig", "Gemma3ForCausalLM"), full=True, **{**PLAIN, "num_hidden_layers": 7},
                  hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
                  sliding_window=24, layer_types=types("sssssfs"), query_pre_attn_scalar=12,
                  rope_parameters=dict(sliding_attention=rope(), full_attention=rope(1000.0, "linear", factor=4.0)),
                  matters=WINDOW + (dict(rope_parameters=dict(sliding_attention=rope(),
                                                              full_attention=rope(1000.0))),)),
    # the same in the keys of published files: no list, the sixth layer of six has no window
    "gemma3_older": row(("Gemma3TextConfig", "Gemma3ForCausalLM"), older=True, **{**PLAIN, "num_hidden_layers": 7},
                        hidden_size=16, intermediate_size=32, num_attention_heads=2, num_key_value_heads=1,
                        head_dim=16, sliding_window=24, query_pre_attn_scalar=12,
                        rope_parameters=dict(sliding_attention=rope(),
                                             full_attention=rope(1000.0, "linear", factor=4.0)), matters=WINDOW),
    # packed matrices, a window, a part of each head turned
    "phi3": row("Phi3", full=True, older=True, **SMALL, rms_norm_eps=1e-5, sliding_window=24,
                rope_parameters=rope(partial_rotary_factor=0.75), matters=WINDOW),
    # matrices as [in, out], learned positions; no prefix and with masks, as published
    "gpt2": row(("GPT2Config", "GPT2LMHeadModel"), full=True, older=True, n_embd=32, n_head=2, n_layer=2,
                n_positions=128, strip="transformer.",
                buffers={f"h.{layer}.attn.bias": (1, 1, 128, 128) for layer in (0, 1)}),
    # as transformers writes it
    "gpt2_prefixed": row(("GPT2Config", "GPT2LMHeadModel"), n_embd=32, n_head=2, n_layer=2, n_positions=128,
                         n_inner=96),
    # six experts, two per token, and norms of heads
    "qwen3_moe": row("Qwen3Moe", full=True, older=True, **SMALL, head_dim=16, moe_intermediate_size=24,
                     num_experts=6, num_experts_per_tok=2, norm_topk_prob=True, rms_norm_eps=1e-6,
                     rope_parameters=rope(1000000.0)),
    # sinks, clamped gates, stacked experts with biases, yarn, alternating windows
    "gpt_oss": row("GptOss", full=True, **{**SMALL, "max_position_embeddings": 512}, head_dim=16,
                   num_local_experts=6, num_experts_per_tok=2, sliding_window=24, rms_norm_eps=1e-5, swiglu_limit=1.5,
                   rope_parameters=rope(1500.0, "yarn", factor=8.0, beta_fast=32.0, beta_slow=1.0, truncate=False,
                                        original_max_position_embeddings=64),
                   matters=WINDOW + (dict(swiglu_limit=7.0), dict(rope_parameters=rope(1500.0)))),
    # ---------------------------------------------------------- families beyond those that were asked for
    "gemma": row("Gemma", older=True, **PLAIN, hidden_size=32, intermediate_size=48, **{**HEADS,
                 "num_key_value_heads": 1}, rope_parameters=rope()),
    "olmo": row("Olmo", older=True, **SMALL, clip_qkv=1.5, rope_parameters=rope(), matters=(dict(clip_qkv=None),)),
    "olmo2": row("Olmo2", **SMALL, rms_norm_eps=1e-6, rope_parameters=rope(500000.0)),
    "olmo3": row("Olmo3", **{**SMALL, "num_hidden_layers": 4}, rms_norm_eps=1e-6, sliding_window=24,
                 rope_parameters=dict(sliding_attention=rope(1000.0), full_attention=rope(
                     1000.0, "yarn", factor=8.0, attention_factor=1.2, beta_fast=32.0, beta_slow=1.0,
                     original_max_position_embeddings=16)), matters=WINDOW),
    "stablelm": row("StableLm", older=True, **SMALL, use_qkv_bias=True, layer_norm_eps=1e-5,
                    rope_parameters=rope(partial_rotary_factor=0.25)),
    "gpt_neox": row("GPTNeoX", older=dict(theta="rotary_emb_base", rotary="rotary_pct"), **PLAIN, hidden_size=32,
                    num_attention_heads=2, intermediate_size=64, hidden_act="gelu",
                    rope_parameters=rope(partial_rotary_factor=0.25)),
    "phi": row("Phi", older=True, **PLAIN, hidden_size=32, num_attention_heads=2, intermediate_size=64,
               rope_parameters=rope(partial_rotary_factor=0.5)),
    "gptj": row("GPTJ", n_embd=32, n_head=2, n_layer=2, n_positions=128, rotary_dim=8),
    "codegen": row("CodeGen", n_embd=32, n_head=4, n_layer=2, n_positions=128, rotary_dim=4),
    "gpt_bigcode": row("GPTBigCode", n_embd=32, n_head=2, n_layer=2, n_positions=128),
    "gpt_neo": row("GPTNeo", hidden_size=32, num_heads=2, num_layers=2, max_position_embeddings=128, window_size=24,
                   attention_types=[[["global", "local"], 1]], matters=(dict(window_size=256),)),
    "starcoder2": row("Starcoder2", **{**SMALL, "hidden_act": "gelu_pytorch_tanh", "tie_word_embeddings": True},
                      sliding_window=24, rope_parameters=rope(), matters=WINDOW),
    "cohere": row("Cohere", older=True, **{**SMALL, "tie_word_embeddings": True}, logit_scale=0.5,
                  rope_parameters=rope()),
    "cohere2": row("Cohere2", **{**SMALL, "tie_word_embeddings": True, "num_hidden_layers": 4}, logit_scale=0.5,
                   sliding_window=24, rope_parameters=rope(), matters=WINDOW),
    "granite": row("Granite", older=True, **SMALL, embedding_multiplier=3.0, residual_multiplier=0.7,
                   attention_multiplier=0.2, logits_scaling=2.0, rms_norm_eps=1e-5, rope_parameters=rope()),
    "glm": row("Glm", older=True, **SMALL, head_dim=16, attention_bias=True, rms_norm_eps=1e-5,
               rope_parameters=rope(partial_rotary_factor=0.5)),
    "glm4": row("Glm4", **SMALL, head_dim=16, attention_bias=True, rms_norm_eps=1e-5,
                rope_parameters=rope(partial_rotary_factor=0.5)),
    "nemotron": row("Nemotron", older=True, **{**SMALL, "hidden_act": "relu2"}, norm_eps=1e-5,
                    rope_parameters=rope(partial_rotary_factor=0.5)),
    "opt": row("OPT", **PLAIN, hidden_size=32, num_attention_heads=2, ffn_dim=64),
    "bloom": row("Bloom", hidden_size=24, n_head=6, n_layer=2, strip="transformer."),
    "falcon": row("Falcon", older=True, **PLAIN, hidden_size=32, num_attention_heads=4, num_kv_heads=2,
                  new_decoder_architecture=True, rope_parameters=rope()),
    "smollm3": row("SmolLM3", older=True, **{**SMALL, "num_hidden_layers": 4, "tie_word_embeddings": True},
                   rms_norm_eps=1e-6, no_rope_layers=[1, 0, 0, 1], rope_parameters=rope()),
    "qwen2_moe": row("Qwen2Moe", older=True, **SMALL, num_experts=6, num_experts_per_tok=2, moe_intermediate_size=24,
                     shared_expert_intermediate_size=32, norm_topk_prob=False, rms_norm_eps=1e-6,
                     rope_parameters=rope()),
    "olmoe": row("Olmoe", older=True, **{**SMALL, "intermediate_size": 24}, num_experts=6, num_experts_per_tok=2,
                 rms_norm_eps=1e-5, rope_parameters=rope()),
    "granitemoe": row("GraniteMoe", older=True, **{**SMALL, "intermediate_size": 24}, num_local_experts=6,
                      num_experts_per_tok=2, embedding_multiplier=3.0, residual_multiplier=0.7,
                      attention_multiplier=0.2, logits_scaling=2.0, rms_norm_eps=1e-5, rope_parameters=rope()),
    "seed_oss": row("SeedOss", **SMALL, head_dim=16, attention_bias=True, rms_norm_eps=1e-6,
                    rope_parameters=rope()),
    "ernie4_5": row("Ernie4_5", **SMALL, head_dim=16, rms_norm_eps=1e-5, rope_parameters=rope(500000.0)),
    "exaone4": row("Exaone4", **{**SMALL, "num_hidden_layers": 4}, sliding_window=24, rms_norm_eps=1e-5,
                   rope_parameters=rope(), matters=WINDOW),
    "arcee": row("Arcee", older=True, **{**SMALL, "hidden_act": "relu2"}, rms_norm_eps=1e-5, rope_parameters=rope()),
    "persimmon": row("Persimmon", older=True, **PLAIN, hidden_size=32, num_attention_heads=2, intermediate_size=64,
                     rope_parameters=rope(partial_rotary_factor=0.5)),
    # a dense layer before those with experts; scores corrected by a bias; a shared expert
    "dots1": row("Dots1", **{**SMALL, "num_hidden_layers": 3}, head_dim=16, moe_intermediate_size=16,
                 n_shared_experts=1, n_routed_experts=5, num_experts_per_tok=2, first_k_dense_replace=1,
                 norm_topk_prob=True, routed_scaling_factor=2.5, rms_norm_eps=1e-6, sliding_window=None,
                 rope_parameters=rope()),
    "glm4_moe": row("Glm4Moe", **{**SMALL, "num_hidden_layers": 3}, head_dim=16, moe_intermediate_size=16,
                    n_shared_experts=1, n_routed_experts=5, num_experts_per_tok=2, first_k_dense_replace=1,
                    norm_topk_prob=True, routed_scaling_factor=2.5, attention_bias=True, use_qk_norm=True,
                    rms_norm_eps=1e-5, rope_parameters=rope(partial_rotary_factor=0.5)),
    "minimax_m2": row("MiniMaxM2", **{**SMALL, "intermediate_size": 24}, head_dim=16, num_local_experts=5,
                      num_experts_per_tok=2, rms_norm_eps=1e-6, rope_parameters=rope(partial_rotary_factor=0.5)),
    "mpt": row("Mpt", d_model=24, n_heads=6, n_layers=2, max_seq_len=128, attn_config=dict(clip_qkv=1.5),
               matters=(dict(attn_config=dict()),)),
    # the base of RoPE stretched by `alpha`
    "hunyuan_v1_dense": row("HunYuanDenseV1", older=True, **SMALL, head_dim=16, rms_norm_eps=1e-5,
                            rope_parameters=rope(10000.0, "dynamic", alpha=1000.0, factor=1.0),
                            matters=(dict(rope_parameters=rope(10000.0)),)),
    "helium": row("Helium", **SMALL, head_dim=8, rms_norm_eps=1e-8, rope_parameters=rope(100000.0)),
    "nanochat": row("NanoChat", **{**SMALL, "hidden_act": "relu2"}, rms_norm_eps=1e-6, final_logit_softcapping=4.0,
                    rope_parameters=rope(), matters=(dict(final_logit_softcapping=15.0),)),
    "jais2": row("Jais2", **{**SMALL, "hidden_act": "relu2"}, layer_norm_eps=1e-5, rope_parameters=rope(500000.0)),
    "cwm": row("Cwm", **{**SMALL, "num_hidden_layers": 4, "max_position_embeddings": 512}, head_dim=16,
               rms_norm_eps=1e-5, sliding_window=24, layer_types=types("fsss"), rope_parameters=llama3(8.0),
               matters=WINDOW + FLAT),
    "ministral": row("Ministral", **SMALL, head_dim=16, rms_norm_eps=1e-5, sliding_window=24, layer_types=types("fs"),
                     rope_parameters=rope(), matters=WINDOW),
    "vaultgemma": row("VaultGemma", **PLAIN, hidden_size=32, intermediate_size=48, **HEADS, sliding_window=24,
                      query_pre_attn_scalar=9, attn_logit_softcapping=5.0, final_logit_softcapping=4.0,
                      rope_parameters=rope(),
                      matters=WINDOW + (dict(attn_logit_softcapping=50.0), dict(query_pre_attn_scalar=16))),
    "granitemoeshared": row("GraniteMoeShared", older=True, **{**SMALL, "intermediate_size": 24},
                            num_local_experts=6, num_experts_per_tok=2, shared_intermediate_size=32,
                            embedding_multiplier=3.0, residual_multiplier=0.7, attention_multiplier=0.2,
                            logits_scaling=2.0, rms_norm_eps=1e-5, rope_parameters=rope()),
    "flex_olmo": row("FlexOlmo", **{**SMALL, "intermediate_size": 24}, num_experts=6, num_experts_per_tok=2,
                     rms_norm_eps=1e-6, rope_parameters=rope(500000.0)),
    "solar_open": row("SolarOpen", **{k: v for k, v in SMALL.items() if k != "intermediate_size"}, head_dim=16,
                      moe_intermediate_size=16, n_shared_experts=1, n_routed_experts=5, num_experts_per_tok=2,
                      norm_topk_prob=True, routed_scaling_factor=2.5, rms_norm_eps=1e-5, rope_parameters=rope()),
    "hyperclovax": row("HyperCLOVAX", older=True, **SMALL, embedding_multiplier=3.0, residual_multiplier=0.7,
                       attention_multiplier=0.2, logits_scaling=2.0, use_post_norm=True, rms_norm_eps=1e-5,
                       rope_parameters=rope()),
    # latent attention with values narrower than keys; the best groups of experts by their best expert
    "deepseek_v2": row("DeepseekV2", **LATENT, q_lora_rank=None, v_head_dim=14, topk_method="group_limited_greedy",
                       rope_parameters=yarn(mscale=0.7, mscale_all_dim=0.7), matters=GROUPS),
    # latent queries too, values wider than keys; groups by their two best, corrected scores, two kinds of mscale
    "deepseek_v3": row("DeepseekV3", **LATENT, q_lora_rank=24, v_head_dim=24, norm_topk_prob=True,
                       rope_parameters=yarn(mscale=0.7, mscale_all_dim=1.2), matters=GROUPS),
}
