//! The goldens of `tests/parity/`: checkpoints and what Hugging Face transformers computes for them.

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::Value;
use trefoil_ir::graph::Graph;

/// The folders with a checkpoint of their own and goldens for it.
pub const MODELS: &[&str] = &[
    "llama2",
    "llama3",
    "llama3_1",
    "llama3_2",
    "qwen2",
    "mixtral",
    "mistral",
    "qwen3",
    "gemma2",
    "gemma3",
    "gemma3_older",
    "phi3",
    "gpt2",
    "gpt2_prefixed",
    "qwen3_moe",
    "gpt_oss",
    "gemma",
    "olmo",
    "olmo2",
    "olmo3",
    "stablelm",
    "gpt_neox",
    "phi",
    "gptj",
    "codegen",
    "gpt_bigcode",
    "gpt_neo",
    "starcoder2",
    "cohere",
    "cohere2",
    "granite",
    "glm",
    "glm4",
    "nemotron",
    "opt",
    "bloom",
    "falcon",
    "smollm3",
    "qwen2_moe",
    "olmoe",
    "granitemoe",
    "seed_oss",
    "ernie4_5",
    "exaone4",
    "arcee",
    "persimmon",
    "dots1",
    "glm4_moe",
    "minimax_m2",
    "mpt",
    "hunyuan_v1_dense",
    "helium",
    "nanochat",
    "jais2",
    "cwm",
    "ministral",
    "vaultgemma",
    "granitemoeshared",
    "flex_olmo",
    "solar_open",
    "hyperclovax",
    "deepseek_v2",
    "deepseek_v3",
];

/// A sequence with the logits of each of its positions.
pub struct Sequence {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// `[tokens, vocab]`, row by row.
    pub logits: Vec<f32>,
}

impl Sequence {
    /// Rows of the output.
    pub fn vocab(&self) -> usize {
        self.logits.len() / self.tokens.len()
    }

    /// Logits after position `position`.
    pub fn row(&self, position: usize) -> &[f32] {
        &self.logits[position * self.vocab()..(position + 1) * self.vocab()]
    }
}

/// The folder of a model.
pub fn folder(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("parity").join(model)
}

/// A checkpoint's `config.json`.
///
/// # Panics
/// If there is none, or it is not JSON.
pub fn config(folder: &Path) -> Value {
    let text = std::fs::read_to_string(folder.join("config.json")).expect("a config.json");
    serde_json::from_str(&text).expect("JSON")
}

/// The shipped graph that serves a model.
///
/// # Panics
/// If none does, or it does not load.
pub fn graph(model: &str) -> Graph {
    graph_for(&folder(model))
}

/// The shipped graph that serves the configuration in a folder.
///
/// # Panics
/// If none does, or it does not load.
pub fn graph_for(folder: &Path) -> Graph {
    let architecture = config(folder)["architectures"][0].as_str().expect("an architecture").to_owned();
    let graphs = trefoil::graphs::GRAPH_SOURCES.iter();
    let mut loaded = graphs.map(|(name, text)| trefoil_ir::load::load(name, text).expect("a graph that loads"));
    loaded.find(|graph| graph.serves.contains(&architecture)).expect("a graph that serves the model")
}

/// The sequences of a model with the logits called `kind` (`logits`, `logits_bf16_weights`).
///
/// # Panics
/// If the file is not there or not as `tests/parity/README.md` describes it.
pub fn sequences(model: &str, kind: &str) -> Vec<Sequence> {
    let path = folder(model).join("golden.safetensors");
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let words = |name: String| -> Option<Vec<[u8; 4]>> {
        let view = file.tensor(&name).ok()?;
        Some(view.data().chunks_exact(4).map(|word| [word[0], word[1], word[2], word[3]]).collect())
    };
    let sequence = |number: usize| {
        let logits = words(format!("{kind}.{number}"))?.into_iter().map(f32::from_le_bytes).collect();
        let tokens = words(format!("tokens.{number}"))?.into_iter().map(u32::from_le_bytes).collect();
        Some(Sequence { tokens, logits })
    };
    let sequences: Vec<_> = (0..).map_while(sequence).collect();
    assert!(!sequences.is_empty(), "{} holds no {kind}", path.display());
    sequences
}

/// The largest difference of two rows, relative to the largest logit of the golden one.
pub fn relative_difference(found: &[f32], golden: &[f32]) -> f32 {
    assert_eq!(found.len(), golden.len());
    if found.iter().any(|logit| !logit.is_finite()) {
        return f32::INFINITY;
    }
    let most = golden.iter().fold(0f32, |most, logit| most.max(logit.abs()));
    let difference = found.iter().zip(golden).fold(0f32, |most, (a, b)| most.max((a - b).abs()));
    difference / most
}
