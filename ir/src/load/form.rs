//! What may stand where in a graph file: the shapes that serde reads, their leaves left as places in the source.

use serde::Deserialize;

use super::source::Raw;
use crate::op::{Mask, Pairs, Scoring};
use crate::types::Element;

#[derive(Deserialize)]
#[serde(rename = "Model", deny_unknown_fields)]
pub(super) struct ModelForm<'a> {
    #[serde(borrow)]
    pub(super) serves: Vec<Raw<'a>>,
    #[serde(default)]
    pub(super) expects: Option<Raw<'a>>,
    #[serde(default)]
    pub(super) prefixes: Option<Vec<Raw<'a>>>,
    #[serde(default)]
    pub(super) ignores: Option<Vec<Raw<'a>>>,
    #[serde(default)]
    pub(super) context: Option<Raw<'a>>,
    pub(super) dims: Raw<'a>,
    #[serde(default)]
    pub(super) params: Option<Raw<'a>>,
    pub(super) inputs: Raw<'a>,
    pub(super) blocks: Raw<'a>,
    pub(super) nodes: Raw<'a>,
    pub(super) gives: Raw<'a>,
}

#[derive(Deserialize, Clone)]
#[serde(rename = "Block", deny_unknown_fields)]
pub(super) struct BlockForm<'a> {
    #[serde(borrow)]
    pub(super) weights: Raw<'a>,
    pub(super) takes: Raw<'a>,
    #[serde(default)]
    pub(super) keeps: Option<Raw<'a>>,
    pub(super) nodes: Raw<'a>,
    pub(super) gives: Raw<'a>,
}

/// A block with the text of another, and other sizes and settings in some places.
#[derive(Deserialize)]
#[serde(rename = "Variant", deny_unknown_fields)]
pub(super) struct VariantForm<'a> {
    #[serde(borrow)]
    pub(super) of: Raw<'a>,
    pub(super) with: Raw<'a>,
}

/// A tensor by its exact name, and how it is stored.
#[derive(Deserialize)]
#[serde(rename = "Stored", deny_unknown_fields)]
pub(super) struct StoredForm<'a> {
    #[serde(borrow)]
    pub(super) tensor: Raw<'a>,
    #[serde(default)]
    pub(super) transposed: bool,
    #[serde(default)]
    pub(super) rows: Option<Raw<'a>>,
    #[serde(default)]
    pub(super) plus: f32,
}

/// Rows of a larger tensor.
#[derive(Deserialize)]
#[serde(rename = "Slice", deny_unknown_fields)]
pub(super) struct SliceForm<'a> {
    #[serde(borrow)]
    pub(super) of: Raw<'a>,
    pub(super) from: Raw<'a>,
    #[serde(default)]
    pub(super) take: Option<Raw<'a>>,
    #[serde(default)]
    pub(super) every: Option<Raw<'a>>,
}

/// Where the config lists the layers' kinds, and the block of each kind.
#[derive(Deserialize)]
#[serde(rename = "Kinds", deny_unknown_fields)]
pub(super) struct KindsForm<'a> {
    #[serde(borrow)]
    pub(super) of: Raw<'a>,
    pub(super) are: Raw<'a>,
}

#[derive(Deserialize)]
#[serde(rename = "KvCache", deny_unknown_fields)]
pub(super) struct CacheForm<'a> {
    #[serde(borrow)]
    pub(super) heads: Raw<'a>,
    pub(super) head: Raw<'a>,
    #[serde(default)]
    pub(super) value: Option<Raw<'a>>,
}

#[derive(Deserialize)]
#[serde(rename = "Tensor")]
pub(super) struct TensorForm<'a>(pub(super) ElementForm, #[serde(borrow)] pub(super) Vec<Raw<'a>>);

#[derive(Deserialize, Clone, Copy)]
#[serde(rename = "element type")]
pub(super) enum ElementForm {
    #[serde(rename = "model")]
    Model,
    #[serde(rename = "i32")]
    I32,
}

impl From<ElementForm> for Element {
    fn from(form: ElementForm) -> Self {
        match form {
            ElementForm::Model => Element::Model,
            ElementForm::I32 => Element::I32,
        }
    }
}

/// Several values that will do.
#[derive(Deserialize)]
#[serde(rename = "expectation")]
pub(super) enum OneOfForm<'a> {
    OneOf(#[serde(borrow)] Vec<Raw<'a>>),
}

/// An operator as a porter writes it. Those that passes make have no form.
#[derive(Deserialize)]
#[serde(rename = "operator", deny_unknown_fields)]
pub(super) enum OpForm<'a> {
    Embed {
        #[serde(borrow)]
        ids: Raw<'a>,
        weight: Raw<'a>,
        rows: Raw<'a>,
        out: Raw<'a>,
    },
    RmsNorm {
        x: Raw<'a>,
        #[serde(default)]
        weight: Option<Raw<'a>>,
        eps: Raw<'a>,
        #[serde(default)]
        group: Option<Raw<'a>>,
    },
    LayerNorm {
        x: Raw<'a>,
        #[serde(default)]
        weight: Option<Raw<'a>>,
        #[serde(default)]
        bias: Option<Raw<'a>>,
        eps: Raw<'a>,
        #[serde(default)]
        group: Option<Raw<'a>>,
    },
    Linear {
        x: Raw<'a>,
        weight: Raw<'a>,
        out: Raw<'a>,
        #[serde(default)]
        bias: Option<Raw<'a>>,
        #[serde(default)]
        tied: Option<Raw<'a>>,
    },
    Rope {
        x: Raw<'a>,
        pos: Raw<'a>,
        head: Raw<'a>,
        theta: Raw<'a>,
        #[serde(default)]
        rotary: Option<Raw<'a>>,
        #[serde(default)]
        pairs: PairsForm,
        #[serde(default)]
        scaling: Option<ScalingForm<'a>>,
    },
    Attention {
        q: Raw<'a>,
        k: Raw<'a>,
        v: Raw<'a>,
        cache: Raw<'a>,
        mask: MaskForm,
        #[serde(default)]
        scale: Option<Raw<'a>>,
        #[serde(default)]
        softcap: Option<Raw<'a>>,
        #[serde(default)]
        window: Option<Raw<'a>>,
        #[serde(default)]
        sinks: Option<Raw<'a>>,
        #[serde(default)]
        alibi: bool,
    },
    Join {
        a: Raw<'a>,
        b: Raw<'a>,
        heads: Raw<'a>,
    },
    Add {
        a: Raw<'a>,
        b: Raw<'a>,
    },
    GatedMul {
        gate: Raw<'a>,
        up: Raw<'a>,
        by: Raw<'a>,
        #[serde(default)]
        limit: Option<Raw<'a>>,
        #[serde(default)]
        shift: Option<Raw<'a>>,
    },
    Apply {
        x: Raw<'a>,
        by: Raw<'a>,
    },
    Route {
        x: Raw<'a>,
        top_k: Raw<'a>,
        scoring: ScoringForm,
        renormalize: Raw<'a>,
        #[serde(default)]
        bias: Option<Raw<'a>>,
        #[serde(default)]
        groups: Option<GroupsForm<'a>>,
    },
    ExpertLinear {
        x: Raw<'a>,
        experts: Raw<'a>,
        weight: Raw<'a>,
        num_experts: Raw<'a>,
        out: Raw<'a>,
        #[serde(default)]
        bias: Option<Raw<'a>>,
    },
    Combine {
        x: Raw<'a>,
        shares: Raw<'a>,
    },
    Rows {
        x: Raw<'a>,
        at: Raw<'a>,
    },
    Repeat {
        blocks: Raw<'a>,
        times: Raw<'a>,
        with: Raw<'a>,
        #[serde(default)]
        kinds: Option<Raw<'a>>,
    },
}

impl OpForm<'_> {
    /// What the values are called that a node gives, behind its own name and a dot; nothing where it gives one, which
    /// has the name of the node.
    pub(super) fn parts(&self) -> &'static [&'static str] {
        match self {
            OpForm::Route { .. } => &["experts", "shares"],
            OpForm::Embed { .. }
            | OpForm::RmsNorm { .. }
            | OpForm::LayerNorm { .. }
            | OpForm::Linear { .. }
            | OpForm::Rope { .. }
            | OpForm::Attention { .. }
            | OpForm::Join { .. }
            | OpForm::Add { .. }
            | OpForm::GatedMul { .. }
            | OpForm::Apply { .. }
            | OpForm::ExpertLinear { .. }
            | OpForm::Combine { .. }
            | OpForm::Rows { .. }
            | OpForm::Repeat { .. } => &[],
        }
    }
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename = "scoring")]
pub(super) enum ScoringForm {
    Softmax,
    Sigmoid,
}

impl From<ScoringForm> for Scoring {
    fn from(form: ScoringForm) -> Self {
        match form {
            ScoringForm::Softmax => Scoring::Softmax,
            ScoringForm::Sigmoid => Scoring::Sigmoid,
        }
    }
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename = "groups of experts", deny_unknown_fields)]
pub(super) enum GroupsForm<'a> {
    Best {
        #[serde(borrow)]
        of: Raw<'a>,
        top: Raw<'a>,
    },
    BestTwo {
        of: Raw<'a>,
        top: Raw<'a>,
    },
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename = "rope scaling", deny_unknown_fields)]
pub(super) enum ScalingForm<'a> {
    Linear {
        #[serde(borrow)]
        factor: Raw<'a>,
    },
    Llama3 {
        factor: Raw<'a>,
        low_freq_factor: Raw<'a>,
        high_freq_factor: Raw<'a>,
        original_context: Raw<'a>,
    },
    Yarn {
        factor: Raw<'a>,
        beta_fast: Raw<'a>,
        beta_slow: Raw<'a>,
        original_context: Raw<'a>,
        attention: Raw<'a>,
        truncate: Raw<'a>,
    },
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename = "mask")]
pub(super) enum MaskForm {
    Causal,
}

impl From<MaskForm> for Mask {
    fn from(form: MaskForm) -> Self {
        match form {
            MaskForm::Causal => Mask::Causal,
        }
    }
}

#[derive(Deserialize, Clone, Copy, Default)]
#[serde(rename = "kind of pairs")]
pub(super) enum PairsForm {
    #[default]
    Halves,
    Adjacent,
}

impl From<PairsForm> for Pairs {
    fn from(form: PairsForm) -> Self {
        match form {
            PairsForm::Halves => Pairs::Halves,
            PairsForm::Adjacent => Pairs::Adjacent,
        }
    }
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename = "function")]
pub(super) enum FunctionForm<'a> {
    Identity,
    Silu,
    Gelu,
    GeluTanh,
    Relu,
    ReluSquared,
    Sigmoid,
    Tanh,
    Swish(#[serde(borrow)] Raw<'a>),
    Scale(Raw<'a>),
    SoftCap(Raw<'a>),
    Clamp(Raw<'a>),
}
