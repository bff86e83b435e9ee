//! Sizes, settings and tables of Llama from configurations old and new.

use trefoil_runtime::checkpoint::Config;
use trefoil_runtime::model::{BoundModel, RopeScaling, WeightRole};

/// As checkpoints were written before transformers 5.
pub(crate) const OLD_STYLE: &str = r#"{
    "architectures": ["LlamaForCausalLM"], "hidden_act": "silu", "vocab_size": 100, "hidden_size": 32,
    "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "rope_scaling": null, "attention_bias": false
}"#;

/// As they are written since, with Llama 3.1's scaling and a head that is not `hidden / heads`.
const NEW_STYLE: &str = r#"{
    "hidden_act": "silu", "vocab_size": 100, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
    "num_attention_heads": 4, "head_dim": 16, "rms_norm_eps": 1e-6,
    "rope_parameters": {
        "rope_type": "llama3", "rope_theta": 20000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 4096
    }
}"#;

fn bind(text: &str) -> Result<BoundModel, Vec<String>> {
    let faults = trefoil::graphs::llama::bind(&Config::from_json(text).unwrap());
    faults.map_err(|faults| faults.iter().map(|fault| fault.to_string()).collect())
}

#[test]
fn an_old_configuration() {
    let bound = bind(OLD_STYLE).unwrap();
    assert_eq!(bound.dims, [100, 32, 48, 4, 4, 2, 8, 0, 0]);
    assert_eq!((bound.num_layers, bound.vocab), (4, 100));
    assert_eq!(bound.ropes.len(), 1);
    assert_eq!((bound.ropes[0].rotary, bound.ropes[0].theta), (8, 500000.0));
    let neutral =
        RopeScaling::Llama3 { factor: 1.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 8192.0 };
    assert_eq!(bound.ropes[0].scaling, neutral);
    assert_eq!(bound.caches.len(), 1);
    let cache = &bound.caches[0];
    assert_eq!((cache.name.as_str(), cache.kv_heads, cache.head, &cache.layers[..]), ("kv", 2, 8, &[0, 1, 2, 3][..]));
}

#[test]
fn a_new_configuration() {
    let bound = bind(NEW_STYLE).unwrap();
    assert_eq!(bound.dims, [100, 32, 48, 3, 4, 4, 16, 0, 0]);
    assert_eq!(bound.params, [1e-6, 20000.0, 8.0, 1.0, 4.0, 4096.0]);
}

#[test]
fn weights_are_stacked_from_the_checkpoints_tensors() {
    let bound = bind(OLD_STYLE).unwrap();
    let weight = |tensor: &str| {
        let made_of =
            |weight: &&trefoil_runtime::model::WeightSpec| weight.pieces.iter().any(|piece| piece.tensor == tensor);
        bound.weights.iter().find(made_of).unwrap()
    };
    let qkv = weight("model.layers.{layer}.self_attn.k_proj.weight");
    assert_eq!(qkv.role, WeightRole::Matrix);
    let pieces: Vec<_> =
        qkv.pieces.iter().map(|piece| (piece.tensor.rsplit('.').nth(1).unwrap(), piece.rows)).collect();
    assert_eq!(pieces, [("q_proj", 32), ("k_proj", 16), ("v_proj", 16)]);
    assert_eq!((qkv.columns, qkv.layers.as_deref()), (32, Some(&[0, 1, 2, 3][..])));
    let head = weight("lm_head.weight");
    assert_eq!(head.pieces[0].tied.as_deref(), Some("model.embed_tokens.weight"));
    assert_eq!((head.pieces[0].rows, head.columns, &head.layers), (100, 32, &None));
    assert_eq!(bound.weights.len(), 9, "what fusion has replaced is not loaded");
}

#[test]
fn all_that_lacks_is_told_at_once() {
    let faults = bind(r#"{"hidden_act": "silu", "hidden_size": 32, "num_attention_heads": 4}"#).unwrap_err();
    let lacking = ["vocab_size", "intermediate_size", "num_hidden_layers", "rms_norm_eps"];
    assert_eq!(faults.len(), lacking.len(), "{faults:#?}");
    for (fault, key) in faults.iter().zip(lacking) {
        assert!(fault.starts_with(&format!("config.json lacks {key} (needed for")), "{fault}");
    }
}

#[test]
fn heads_that_do_not_divide_the_width() {
    let faults = bind(&OLD_STYLE.replace("\"num_attention_heads\": 4", "\"num_attention_heads\": 5")).unwrap_err();
    assert_eq!(
        faults,
        [
            "config.json: `head` = config.head_dim ?? hidden / heads is 32 / 5, not a whole number (graph llama)",
            "config.json: `attn`: the heads of the queries must be a multiple of those of the keys (heads is 5, kv_heads \
             is 2; graph llama)"
        ]
    );
}

#[test]
fn sizes_that_are_none() {
    let faults = bind(&OLD_STYLE.replace("\"num_hidden_layers\": 4", "\"num_hidden_layers\": 0")).unwrap_err();
    assert_eq!(faults, ["config.json: `layers` = 0 is out of range (graph llama)"]);
    let faults = bind(&OLD_STYLE.replace("\"hidden_size\": 32", "\"hidden_size\": \"32\"")).unwrap_err();
    assert_eq!(faults, ["config.json: hidden_size is \"32\", graph llama needs a whole number"]);
}

#[test]
fn what_the_graph_does_not_expect_is_refused_by_its_key() {
    let other =
        OLD_STYLE.replace("\"silu\"", "\"gelu\"").replace("\"attention_bias\": false", "\"attention_bias\": true");
    assert_eq!(
        bind(&other).unwrap_err(),
        [
            "config.json: hidden_act is \"gelu\", graph llama needs \"silu\"",
            "config.json: attention_bias is true, graph llama needs absent or false",
        ]
    );
}
