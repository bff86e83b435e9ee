//! The table of keys behind [`super::keys`]: which do not matter, and at which values the others do not.

use std::fmt;

use serde_json::Value;

use super::keys::at;

/// A value at which a key changes nothing; an absent key and null never do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Neutral {
    /// This truth value.
    Flag(bool),
    /// This number; of a list, this number throughout.
    Number(f64),
    /// A number from this on.
    AtLeast(f64),
    /// This text; of a list, this text throughout.
    Text(&'static str),
    /// An empty list or object.
    Empty,
    /// Anything.
    Any,
}

impl Neutral {
    /// Whether `value` is that.
    pub(super) fn is(self, value: &Value) -> bool {
        if let Value::Array(items) = value {
            return match self {
                Neutral::Empty => items.is_empty(),
                _ => !items.is_empty() && items.iter().all(|item| self.is(item)),
            };
        }
        match self {
            Neutral::Flag(flag) => value.as_bool() == Some(flag),
            Neutral::Number(number) => {
                value.as_f64().is_some_and(|value| (value - number).abs() <= 1e-6 * number.abs())
            }
            Neutral::AtLeast(number) => value.as_f64().is_some_and(|value| value >= number),
            Neutral::Text(text) => value.as_str() == Some(text),
            Neutral::Empty => value.as_object().is_some_and(serde_json::Map::is_empty),
            Neutral::Any => true,
        }
    }
}

impl fmt::Display for Neutral {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Neutral::Flag(flag) => write!(f, "{flag}"),
            Neutral::Number(number) => write!(f, "{number}"),
            Neutral::AtLeast(number) => write!(f, "at least {number}"),
            Neutral::Text(text) => write!(f, "{text:?}"),
            Neutral::Empty => write!(f, "empty"),
            Neutral::Any => write!(f, "anything"),
        }
    }
}

/// Names, token ids, training, generation, precision, and what other files of the checkpoint say again.
const INERT: &[&str] = &[
    "architectures",
    "model_type",
    "auto_map",
    "_name_or_path",
    "name_or_path",
    "transformers_version",
    "dtype",
    "torch_dtype",
    "torchscript",
    "use_bfloat16",
    "use_cache",
    "return_dict",
    "return_dict_in_generate",
    "is_decoder",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "output_router_logits",
    "output_past",
    "id2label",
    "label2id",
    "num_labels",
    "problem_type",
    "finetuning_task",
    "task_specific_params",
    "prefix",
    "tokenizer_class",
    "tf_legacy_loss",
    "use_return_dict",
    "chunk_size_feed_forward",
    "gradient_checkpointing",
    "pretraining_tp",
    "tie_word_embeddings",
    "tie_encoder_decoder",
    "max_position_embeddings",
    "n_positions",
    "n_ctx",
    "max_seq_len",
    "max_sequence_length",
    "seq_length",
    "model_max_length",
    "initial_context_length",
    "num_logits_to_keep",
    "reorder_and_upcast_attn",
    "attention_softmax_in_fp32",
    "scale_attention_softmax_in_fp32",
    "fp32_residual_connection",
    "residual_in_fp32",
    "slow_but_exact",
    "_attn_implementation_autoset",
    "_attn_implementation",
    "attn_implementation",
    "_flash_attn_2_enabled",
    "use_flash_attn",
    "use_cache_quantization",
    "use_cache_kernel",
    "use_dynamic_ntk_cache",
    "router_aux_loss_coef",
    "router_z_loss_coef",
    "router_jitter_noise",
    "input_jitter_noise",
    "aux_loss_alpha",
    "seq_aux",
    "ep_size",
    "num_nextn_predict_layers",
    "cache_implementation",
    "transformers.js_config",
    "onnx",
    "layerdrop",
    "rescale_prenorm_residual",
    "temperature",
    "top_p",
    "top_k",
    "typical_p",
    "do_sample",
    "max_length",
    "min_length",
    "max_new_tokens",
    "num_beams",
    "num_beam_groups",
    "num_return_sequences",
    "repetition_penalty",
    "length_penalty",
    "diversity_penalty",
    "encoder_no_repeat_ngram_size",
    "no_repeat_ngram_size",
    "early_stopping",
    "bad_words_ids",
    "remove_invalid_values",
    "exponential_decay_length_penalty",
    "suppress_tokens",
    "begin_suppress_tokens",
    "cross_attention_hidden_size",
    "type_vocab_size",
    "special_dtypes",
    "unsloth_version",
    "unsloth_fixed",
    "init_std",
    "init_device",
    "seed",
];

/// Whether a key says nothing about the mathematics of an answer.
pub(super) fn is_inert(path: &str) -> bool {
    let key = path.rsplit('.').next().unwrap_or(path);
    let is_token = key.ends_with("_token_id") || key.ends_with("_token_index");
    let is_training =
        key.contains("dropout") || key.ends_with("_pdrop") || key.ends_with("pdrop") || key.contains("initializer");
    let is_summary = key.starts_with("summary_") || key.starts_with("forced_");
    INERT.contains(&path) || INERT.contains(&key) || is_token || is_training || is_summary
}

const F: Neutral = Neutral::Flag(false);
const T: Neutral = Neutral::Flag(true);
const ZERO: Neutral = Neutral::Number(0.0);
const ONE: Neutral = Neutral::Number(1.0);

/// Keys that change the mathematics, each with the values at which it does not.
const MATHEMATICAL: &[(&str, &[Neutral])] = &[
    // Sizes and settings without which there is no model.
    ("vocab_size", &[]),
    ("hidden_size", &[]),
    ("n_embd", &[]),
    ("d_model", &[]),
    ("intermediate_size", &[]),
    ("num_hidden_layers", &[]),
    ("n_layer", &[]),
    ("n_layers", &[]),
    ("num_layers", &[]),
    ("num_attention_heads", &[]),
    ("n_head", &[]),
    ("n_heads", &[]),
    ("num_kv_heads", &[]),
    ("rms_norm_eps", &[]),
    ("layer_norm_eps", &[]),
    ("layer_norm_epsilon", &[]),
    ("layernorm_epsilon", &[]),
    ("norm_epsilon", &[]),
    ("norm_eps", &[]),
    ("hidden_act", &[]),
    ("hidden_activation", &[]),
    ("activation_function", &[]),
    ("activation", &[]),
    ("mlp_hidden_act", &[]),
    // Biases.
    ("attention_bias", &[F]),
    ("qkv_bias", &[F]),
    ("use_qkv_bias", &[F]),
    ("add_qkv_bias", &[F]),
    ("mlp_bias", &[F]),
    ("use_bias", &[F]),
    ("bias", &[F]),
    ("add_bias_linear", &[F]),
    ("lm_head_bias", &[F]),
    ("attention_out_bias", &[F]),
    ("o_bias", &[F]),
    ("enable_bias", &[F]),
    ("no_bias", &[T]),
    ("layer_norm_bias", &[F]),
    // Attention.
    ("use_sliding_window", &[F]),
    ("sliding_window_pattern", &[]),
    ("_sliding_window_pattern", &[]),
    ("global_attn_every_n_layers", &[ONE]),
    ("layer_types", &[Neutral::Text("full_attention"), Neutral::Text("attention")]),
    ("layers_block_type", &[Neutral::Text("attention")]),
    ("attention_layers", &[Neutral::Text("global")]),
    ("attention_types", &[]),
    ("attention_chunk_size", &[]),
    ("attn_temperature_tuning", &[F]),
    ("window_size", &[]),
    ("attn_logit_softcapping", &[ZERO]),
    ("final_logit_softcapping", &[ZERO]),
    ("logits_soft_cap", &[ZERO]),
    ("clip_qkv", &[ZERO]),
    ("qk_layernorm", &[F]),
    ("qk_ln", &[F]),
    ("use_qk_norm", &[F]),
    ("qk_norm", &[F]),
    ("use_qk_layernorm", &[F]),
    ("scale_attn_weights", &[T]),
    ("scale_attn_by_inverse_layer_idx", &[F]),
    ("alibi", &[F]),
    ("use_alibi", &[F]),
    ("multi_query", &[F]),
    ("new_decoder_architecture", &[F]),
    ("softmax_scale", &[]),
    ("use_bidirectional_attention", &[F]),
    ("is_causal", &[T]),
    ("prefix_lm", &[F]),
    ("add_cross_attention", &[F]),
    ("is_encoder_decoder", &[F]),
    ("q_lora_rank", &[]),
    ("kv_lora_rank", &[]),
    ("qk_rope_head_dim", &[]),
    ("qk_nope_head_dim", &[]),
    ("attn_layer_indices", &[]),
    ("num_kv_shared_layers", &[ZERO]),
    ("pruned_heads", &[Neutral::Empty]),
    // Positions.
    ("rope_theta", &[Neutral::Number(10_000.0)]),
    ("rotary_emb_base", &[Neutral::Number(10_000.0)]),
    ("rope_ratio", &[ONE]),
    ("partial_rotary_factor", &[ONE]),
    ("rotary_pct", &[ONE]),
    ("rotary_dim", &[]),
    ("rope_interleave", &[F]),
    ("rope_interleaved", &[F]),
    ("no_rope_layers", &[ONE, Neutral::Empty]),
    ("no_rope_layer_interval", &[]),
    ("nope_layer_interval", &[]),
    ("global_rope_theta", &[]),
    ("local_rope_theta", &[]),
    ("position_embedding_type", &[Neutral::Text("rope")]),
    ("swa_rope_theta", &[]),
    // Where norms and residuals stand.
    ("use_parallel_residual", &[F]),
    ("parallel_attn", &[F]),
    ("parallel_residual", &[F]),
    ("do_layer_norm_before", &[T]),
    ("apply_residual_connection_post_layernorm", &[F]),
    ("norm_type", &[]),
    ("num_ln_in_parallel_attn", &[]),
    ("zero_centered_gamma", &[F]),
    ("add_unit_offset", &[F]),
    // Factors.
    ("logit_scale", &[ONE]),
    ("logits_scaling", &[ONE]),
    ("embedding_multiplier", &[ONE]),
    ("residual_multiplier", &[ONE]),
    ("scale_emb", &[ONE]),
    ("scale_depth", &[]),
    ("dim_model_base", &[]),
    ("scale_embedding", &[F]),
    ("use_mup", &[F]),
    ("mup_embedding_multiplier", &[ONE]),
    ("mup_attn_multiplier", &[ONE]),
    ("mup_use_scaling", &[F]),
    ("width_multiplier", &[ONE]),
    ("mup_width_multiplier", &[ONE]),
    ("key_multiplier", &[ONE]),
    ("lm_head_multiplier", &[ONE]),
    ("mlp_multipliers", &[ONE]),
    ("attention_in_multiplier", &[ONE]),
    ("attention_out_multiplier", &[ONE]),
    ("residual_scale", &[ONE]),
    ("swiglu_limit", &[]),
    // Experts.
    ("num_experts", &[ZERO]),
    ("num_local_experts", &[ZERO]),
    ("n_routed_experts", &[ZERO]),
    ("moe_num_experts", &[ZERO]),
    ("num_experts_per_tok", &[ZERO]),
    ("num_experts_per_token", &[ZERO]),
    ("moe_topk", &[ZERO]),
    ("moe_top_k", &[ZERO]),
    ("n_shared_experts", &[ZERO]),
    ("num_shared_experts", &[ZERO]),
    ("moe_num_shared_experts", &[ZERO]),
    ("shared_expert_intermediate_size", &[ZERO]),
    ("shared_intermediate_size", &[ZERO]),
    ("moe_intermediate_size", &[ZERO]),
    ("norm_topk_prob", &[F]),
    ("routed_scaling_factor", &[ONE]),
    ("moe_router_topk_scaling_factor", &[ONE]),
    ("scoring_func", &[Neutral::Text("softmax")]),
    ("topk_method", &[Neutral::Text("greedy")]),
    ("n_group", &[ONE]),
    ("topk_group", &[ONE]),
    ("first_k_dense_replace", &[ZERO]),
    ("decoder_sparse_step", &[ONE]),
    ("mlp_only_layers", &[Neutral::Empty]),
    ("moe_layer_freq", &[ONE]),
    ("moe_layer_interval", &[ONE]),
    ("moe_layer_start_index", &[ZERO]),
    ("interleave_moe_layer_step", &[ONE]),
    ("moe_normalize_expert_weights", &[]),
    ("moe_use_expert_bias", &[F]),
    ("use_expert_bias", &[F]),
    ("mlp_layer_types", &[Neutral::Text("dense")]),
    ("num_dense_layers", &[ZERO]),
    ("moe_k", &[ZERO]),
    ("moe_layers", &[Neutral::Empty]),
    ("moe_renormalize", &[F]),
    ("router_scaling_factor", &[ONE]),
    ("moe_routed_scaling_factor", &[ONE]),
    ("route_scale", &[ONE]),
    ("moe_router_logit_softcapping", &[ZERO]),
    ("moe_apply_router_weight_on_input", &[F]),
    ("intermediate_size_mlp", &[]),
    ("shared_experts_intermediate_size", &[ZERO]),
    ("expert_selection_fn", &[Neutral::Text("softmax")]),
    ("enable_moe_block", &[F]),
    // Peculiarities of single families.
    ("embedding_scale", &[ONE]),
    ("swiglu_alpha", &[]),
    ("norm_bias", &[F]),
    ("mup_enabled", &[F]),
    ("attention_k_eq_v", &[F]),
    ("hidden_size_per_layer_input", &[ZERO]),
    ("use_double_wide_mlp", &[F]),
    ("layer_rope_theta", &[Neutral::Number(10_000.0)]),
    ("attention_value_scale", &[ONE]),
    ("use_post_norm", &[F]),
    ("use_sandwich_norm", &[F]),
    ("use_attention_gate", &[F]),
    ("_remove_final_layer_norm", &[F]),
    ("layer_norm_elementwise_affine", &[T]),
    ("embedding_fraction", &[ONE]),
    ("ffn_dim", &[]),
    ("local_attention", &[]),
    ("full_attn_idxs", &[]),
    ("block_types", &[Neutral::Text("attention")]),
    ("learned_pos_emb", &[]),
    ("per_layer_config", &[Neutral::Empty]),
    ("attention_window_size", &[]),
    ("laurel_rank", &[]),
    ("altup_num_inputs", &[]),
    ("activation_sparsity_pattern", &[ZERO]),
    ("output_logit_soft_cap", &[ZERO]),
    ("gated_norm_rank", &[]),
    // Other ways to store weights.
    ("quantization_config", &[]),
    ("compression_config", &[]),
    ("weight_block_size", &[]),
];

/// The values at which a key changes nothing; `None` for a key that the table lacks.
pub(super) fn neutral(config: &Value, path: &str) -> Option<Vec<Neutral>> {
    let key = path.rsplit('.').next().unwrap_or(path);
    if path.split('.').any(|part| part == "quantization_config") {
        return Some(vec![]);
    }
    if path.contains("rope_parameters.") || path.contains("rope_scaling.") {
        return Some(rotary(config, path, key));
    }
    if let Some(own) = dependent(config, path, key) {
        return Some(own);
    }
    let known = MATHEMATICAL.iter().find(|(known, _)| *known == key);
    let is_other_layer = ["mamba_", "ssm_", "linear_", "lru_", "conv_", "index_", "swa_", "time_step_"]
        .iter()
        .any(|start| key.starts_with(start));
    known.map(|(_, neutral)| neutral.to_vec()).or(is_other_layer.then(Vec::new))
}

/// Inside an object about rotary positions: of the default type, nothing but the base counts.
fn rotary(config: &Value, path: &str, key: &str) -> Vec<Neutral> {
    let object = path.rsplit_once('.').map_or("", |(object, _)| object);
    let kind = ["rope_type", "type"].iter().find_map(|key| at(config, &format!("{object}.{key}")));
    let is_default = kind.is_none_or(|kind| kind == "default");
    match key {
        "rope_type" | "type" => vec![Neutral::Text("default")],
        "rope_theta" => vec![Neutral::Number(10_000.0)],
        "partial_rotary_factor" => vec![ONE],
        _ if is_default => vec![Neutral::Any],
        _ => vec![],
    }
}

/// Keys whose neutral value follows from other keys beside them.
fn dependent(config: &Value, path: &str, key: &str) -> Option<Vec<Neutral>> {
    let beside = |key: &str| match path.rsplit_once('.') {
        Some((object, _)) => at(config, &format!("{object}.{key}")),
        None => at(config, key),
    };
    let number = |keys: &[&str]| keys.iter().find_map(|key| beside(key)?.as_f64());
    let heads = number(&["num_attention_heads", "n_head", "n_heads"]);
    let hidden = number(&["hidden_size", "n_embd", "d_model"]);
    let even_head = hidden.zip(heads).map(|(hidden, heads)| hidden / heads);
    let head = number(&["head_dim"]).or(even_head);
    let numbers = |number: Option<f64>| number.map(Neutral::Number).into_iter().collect::<Vec<_>>();
    Some(match key {
        "num_key_value_heads" => numbers(heads),
        "head_dim" => numbers(even_head),
        "v_head_dim" | "query_pre_attn_scalar" => numbers(head),
        "attention_multiplier" => numbers(head.map(|head| 1.0 / head.sqrt())),
        "n_inner" | "ffn_hidden_size" => numbers(hidden.map(|hidden| 4.0 * hidden)),
        "word_embed_proj_dim" => numbers(hidden),
        "experts_per_token" => numbers(number(&["num_experts_per_tok"])),
        "rope_local_base_freq" => numbers(number(&["rope_theta"])),
        "original_max_position_embeddings" if beside("rope_scaling").is_none() => vec![Neutral::Any],
        "original_max_position_embeddings" => vec![],
        "sliding_window" | "max_window_layers" if beside("use_sliding_window") == Some(&Value::Bool(false)) => {
            vec![Neutral::Any]
        }
        "sliding_window" => {
            let context = number(&["max_position_embeddings"]).map(Neutral::AtLeast);
            [Neutral::Number(0.0)].into_iter().chain(context).collect()
        }
        "max_window_layers" if beside("sliding_window").is_none() => vec![Neutral::Any],
        "max_window_layers" => vec![],
        _ => return None,
    })
}
