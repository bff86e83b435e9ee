//! The made-up model whose operators are measured: its weights, caches and buffers.

use super::Effort;
use crate::model::{
    BoundModel, BufferRows, BufferSpec, CacheSpec, Names, Pairs, Part, Piece, RopeScaling, RopeSpec, Stored,
    WeightRole, WeightSpec,
};

/// Bytes of an element of a weight or of a KV page: bfloat16.
const STORED_BYTES: usize = 2;
/// Tokens of a KV page.
pub(super) const PAGE_TOKENS: usize = 64;
/// Rows of the embedding table.
pub(super) const VOCAB: usize = 8192;

/// Sizes of the made-up model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Width of the residual stream; of queries, too.
    pub hidden: usize,
    /// Width of the feed-forward part.
    pub ffn: usize,
    /// Heads of keys and of values.
    pub kv_heads: usize,
    /// Width of a head.
    pub head: usize,
}

impl Shape {
    /// Inputs and outputs of the products: of attention, of the feed-forward part's two halves, and of keys.
    pub fn products(self) -> [(usize, usize); 4] {
        [(self.hidden, self.hidden), (self.hidden, 2 * self.ffn), (self.ffn, self.hidden), (self.hidden, self.kv())]
    }

    /// Width of keys, and of values.
    pub fn kv(self) -> usize {
        self.kv_heads * self.head
    }

    /// Bytes that a token keeps in one layer.
    pub fn token_bytes(self) -> usize {
        2 * self.kv() * STORED_BYTES
    }
}

/// What a device must hold to be measured.
#[derive(Debug, Clone)]
pub struct Needs {
    /// Weights, a cache and a rotary table.
    pub model: BoundModel,
    /// Activations, [`BufferRows::Tokens`] all of them.
    pub buffers: Vec<BufferSpec>,
    /// Rows of a step.
    pub max_rows: usize,
    /// Longest sequence, in tokens.
    pub max_context: usize,
    /// Tokens of a KV page.
    pub page_tokens: usize,
    /// KV pages of a layer.
    pub num_pages: usize,
    /// For the weights.
    pub seed: u64,
}

/// The embedding table among the weights.
pub(super) const TABLE: u16 = 0;
/// The norm's weight.
pub(super) const NORM: u16 = 1;
/// The first of the products.
pub(super) const FIRST_PRODUCT: u16 = 2;
/// The buffer that operators write.
pub(super) const OUT: usize = 0;
/// The buffer that operators read.
pub(super) const IN: usize = 1;

impl Needs {
    /// What an effort asks for.
    pub fn of(effort: &Effort) -> Self {
        let Shape { hidden, ffn, kv_heads, head } = effort.shape;
        let pages_of = |tokens: usize| tokens.div_ceil(PAGE_TOKENS);
        // Attention over 16 of the longest sequences at a time, but all pages together no more than go round.
        let layer_tokens = (16 * effort.max_context as usize).min(effort.cycled_bytes / effort.shape.token_bytes());
        let num_pages = pages_of(layer_tokens.max(effort.max_context as usize).max(effort.max_rows as usize));
        let num_layers = copies(effort, num_pages * PAGE_TOKENS * effort.shape.token_bytes());
        let products = effort.shape.products();
        let widest = products.iter().map(|(inputs, outputs)| inputs.max(outputs)).max();
        let columns = *widest.unwrap_or(&hidden).max(&(2 * hidden)).max(&(2 * ffn)).max(&(2 * kv_heads * head));
        let matrices = products.iter().enumerate().map(|(number, size)| matrix(effort, number, *size));
        let whole = |role, tensor: &str, rows| WeightSpec {
            role,
            pieces: vec![Piece {
                tensor: tensor.to_owned(),
                tied: None,
                rows,
                columns: hidden,
                stored: Stored::default(),
            }],
            columns: hidden,
            experts: None,
            layers: None,
            part: Part::Whole,
        };
        let singles = [whole(WeightRole::Table, "table", VOCAB), whole(WeightRole::Vector, "norm", 1)];
        Self {
            model: BoundModel {
                dims: Vec::new(),
                params: Vec::new(),
                num_layers,
                vocab: VOCAB,
                weights: singles.into_iter().chain(matrices).collect(),
                caches: vec![CacheSpec {
                    name: "kv".to_owned(),
                    kv_heads,
                    head,
                    value: head,
                    layers: (0..num_layers).collect(),
                }],
                ropes: vec![RopeSpec {
                    rotary: head,
                    pairs: Pairs::Halves,
                    theta: 10000.0,
                    scaling: RopeScaling::None,
                }],
                blocks: vec![0; num_layers],
                context: None,
                names: Names::PLAIN,
            },
            buffers: vec![BufferSpec { rows: BufferRows::Tokens, columns }; 2],
            max_rows: effort.max_rows as usize,
            max_context: effort.max_context.max(effort.max_rows) as usize,
            page_tokens: PAGE_TOKENS,
            num_pages,
            seed: effort.seed,
        }
    }

    /// Copies of each product's weight.
    pub(super) fn copies(&self, product: u16) -> usize {
        let spec = &self.model.weights[usize::from(FIRST_PRODUCT + product)];
        spec.layers.as_ref().map_or(1, Vec::len)
    }

    /// About how many bytes that is.
    pub fn bytes(&self) -> usize {
        let weight = |spec: &WeightSpec| {
            let rows: usize = spec.pieces.iter().map(|piece| piece.rows).sum();
            spec.layers.as_ref().map_or(1, Vec::len) * rows * spec.columns * STORED_BYTES
        };
        let cache = |spec: &CacheSpec| spec.layers.len() * spec.kv_heads * (spec.head + spec.value) * STORED_BYTES;
        let buffer = |spec: &BufferSpec| self.max_rows * spec.columns * size_of::<f32>();
        let token: usize = self.model.caches.iter().map(cache).sum();
        self.model.weights.iter().map(weight).sum::<usize>()
            + self.num_pages * self.page_tokens * token
            + self.buffers.iter().map(buffer).sum::<usize>()
    }
}

fn matrix(effort: &Effort, number: usize, (inputs, outputs): (usize, usize)) -> WeightSpec {
    WeightSpec {
        role: WeightRole::Matrix,
        pieces: vec![Piece {
            tensor: format!("{{layer}}.product{number}"),
            tied: None,
            rows: outputs,
            columns: inputs,
            stored: Stored::default(),
        }],
        columns: inputs,
        experts: None,
        layers: Some((0..copies(effort, inputs * outputs * STORED_BYTES)).collect()),
        part: Part::Whole,
    }
}

/// How many of `bytes` each it takes to go round.
fn copies(effort: &Effort, bytes: usize) -> usize {
    effort.cycled_bytes.div_ceil(bytes.max(1)).max(1)
}
