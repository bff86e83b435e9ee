//! What keys of `config.json` usually mean, in a phrase each.

/// Keys with the same meaning, and it.
const MEANINGS: &[(&[&str], &str)] = &[
    (&["hidden_size", "n_embd", "d_model"], "the width between layers"),
    (&["intermediate_size", "ffn_hidden_size", "n_inner", "ffn_dim"], "the inner width of the feed-forward part"),
    (&["num_hidden_layers", "n_layer", "n_layers", "num_layers"], "how many layers there are"),
    (&["num_attention_heads", "n_head", "n_heads", "num_heads"], "heads of the queries"),
    (&["num_key_value_heads", "num_kv_heads", "multi_query"], "heads of keys and values"),
    (&["head_dim", "v_head_dim"], "the width of a head"),
    (&["vocab_size"], "rows of the table of embeddings"),
    (
        &["rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "layernorm_epsilon", "norm_epsilon", "norm_eps"],
        "`eps` of the norms",
    ),
    (
        &["hidden_act", "hidden_activation", "activation_function", "activation", "mlp_hidden_act"],
        "the function of the feed-forward part: `by` of `GatedMul` or `Apply`",
    ),
    (
        &["attention_bias", "qkv_bias", "use_qkv_bias", "add_qkv_bias", "attention_out_bias", "o_bias"],
        "`bias: true` on products of the attention",
    ),
    (&["mlp_bias", "add_bias_linear"], "`bias: true` on products of the feed-forward part"),
    (&["use_bias", "bias", "enable_bias", "no_bias"], "`bias: true` on products, or none"),
    (&["lm_head_bias"], "`bias: true` on the output layer"),
    (&["layer_norm_bias"], "`bias: true` on the norms"),
    (
        &["qk_layernorm", "qk_ln", "use_qk_norm", "qk_norm", "use_qk_layernorm"],
        "norms of queries and keys before they turn",
    ),
    (&["sliding_window", "window_size"], "`window` of `Attention`"),
    (
        &[
            "use_sliding_window",
            "max_window_layers",
            "sliding_window_pattern",
            "_sliding_window_pattern",
            "global_attn_every_n_layers",
            "layer_types",
            "layers_block_type",
            "attention_layers",
            "attention_types",
        ],
        "which layers are of which kind: blocks of `Repeat`, and its `kinds`",
    ),
    (&["attn_logit_softcapping"], "`softcap` of `Attention`"),
    (&["final_logit_softcapping", "logits_soft_cap"], "`Apply` by `SoftCap` on the logits"),
    (
        &["query_pre_attn_scalar", "attention_multiplier", "softmax_scale", "scale_attn_weights"],
        "`scale` of `Attention`",
    ),
    (&["clip_qkv"], "`Apply` by `Clamp` on queries, keys and values"),
    (&["alibi", "use_alibi"], "`alibi: true` of `Attention`"),
    (
        &["rope_theta", "rotary_emb_base", "global_rope_theta", "local_rope_theta", "rope_local_base_freq"],
        "`theta` of `Rope`",
    ),
    (&["partial_rotary_factor", "rotary_pct", "rotary_dim"], "how much of a head turns: `rotary` of `Rope`"),
    (&["rope_interleave", "rope_interleaved"], "`pairs: Adjacent` of `Rope`"),
    (&["no_rope_layers", "no_rope_layer_interval", "nope_layer_interval"], "layers whose queries and keys do not turn"),
    (&["rope_type", "type"], "`scaling` of `Rope`"),
    (
        &["factor", "low_freq_factor", "high_freq_factor", "beta_fast", "beta_slow", "attention_factor", "truncate"],
        "a number of the `scaling` of `Rope`",
    ),
    (&["original_max_position_embeddings"], "`original_context` of the `scaling` of `Rope`"),
    (
        &["use_parallel_residual", "parallel_attn", "parallel_residual", "num_ln_in_parallel_attn"],
        "attention and feed-forward side by side, both from the layer's input",
    ),
    (&["do_layer_norm_before", "apply_residual_connection_post_layernorm"], "where norms and residuals stand"),
    (&["zero_centered_gamma", "add_unit_offset"], "norms stored less one: `plus: 1.0`"),
    (&["logit_scale", "logits_scaling", "lm_head_multiplier"], "`Apply` by `Scale` on the logits"),
    (
        &["embedding_multiplier", "scale_emb", "scale_embedding", "mup_embedding_multiplier"],
        "`Apply` by `Scale` on the embeddings",
    ),
    (&["residual_multiplier", "residual_scale", "scale_depth"], "`Apply` by `Scale` on what is added to the residual"),
    (&["swiglu_limit"], "`limit` of `GatedMul`"),
    (
        &["num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"],
        "how many experts there are: `Route` and `ExpertLinear`",
    ),
    (
        &["num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_topk", "moe_top_k"],
        "`top_k` of `Route`",
    ),
    (
        &[
            "n_shared_experts",
            "num_shared_experts",
            "moe_num_shared_experts",
            "shared_expert_intermediate_size",
            "shared_intermediate_size",
        ],
        "an expert that all rows go to",
    ),
    (&["moe_intermediate_size"], "the inner width of an expert"),
    (&["norm_topk_prob"], "`renormalize` of `Route`"),
    (&["routed_scaling_factor", "moe_router_topk_scaling_factor"], "`Apply` by `Scale` on what the experts give"),
    (&["scoring_func"], "`scoring` of `Route`"),
    (&["moe_use_expert_bias", "use_expert_bias"], "`bias` of `Route`"),
    (
        &[
            "first_k_dense_replace",
            "decoder_sparse_step",
            "mlp_only_layers",
            "moe_layer_freq",
            "moe_layer_interval",
            "moe_layer_start_index",
            "interleave_moe_layer_step",
        ],
        "which layers have experts: two blocks",
    ),
    (&["n_group", "topk_group"], "experts chosen group by group, which no operator does"),
    (
        &["q_lora_rank", "kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim"],
        "latent attention, which no operator does",
    ),
    (&["attention_chunk_size"], "attention within chunks, which no operator does"),
    (&["is_encoder_decoder", "add_cross_attention"], "an encoder, which no operator does"),
    (&["quantization_config", "compression_config", "weight_block_size"], "quantised weights, which cannot be loaded"),
];

/// What a key usually means, by the last part of its path; `None` where the table does not say.
pub fn meaning(path: &str) -> Option<&'static str> {
    let key = path.rsplit('.').next().unwrap_or(path);
    MEANINGS.iter().find(|(keys, _)| keys.contains(&key)).map(|(_, meaning)| *meaning)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_key_has_one_meaning() {
        let all: Vec<_> = MEANINGS.iter().flat_map(|(keys, _)| *keys).collect();
        assert_eq!(all.len(), all.iter().collect::<BTreeSet<_>>().len());
        assert_eq!(meaning("rope_parameters.rope_theta"), meaning("rope_theta"));
        assert!(meaning("no_such_key").is_none());
    }
}
