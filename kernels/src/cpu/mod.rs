//! CPU kernels with run-time instruction set dispatch.
//!
//! Read in this order: [`isa`](self::isa()) picks a path once per process, `vector` is the 16-lane arithmetic that each
//! path implements, `tile` is the one matrix micro-kernel, and the remaining files are the operators on top of them.

mod apply;
mod attention;
mod element;
mod elementwise;
mod experts;
mod isa;
mod kv;
mod linear;
mod math;
mod norm;
mod pack;
mod packed;
mod rope;
mod route;
#[cfg(test)]
mod tests;
mod tile;
mod vector;
mod view;

pub use apply::{Function, Gate, apply, gated_mul};
pub use attention::{Scores, Span, alibi_slopes, attention, attention_items};
pub use element::{ElementType, WeightType};
pub use elementwise::{add, copy, embed, gather_rows, join};
pub use experts::{expert_linear, expert_linear_items};
pub use isa::{Isa, isa};
pub use kv::{KEY_BLOCK, KvPages, KvSlot, kv_write};
pub use linear::{linear, linear_items};
pub use norm::{add_rms_norm, layer_norm, rms_norm};
pub use pack::{PackError, RowPick, SourceType, WeightRows};
pub use packed::{PANEL, PackedMatrix, Panels};
pub use rope::{Pairs, RopeScaling, RopeTable, inverse_frequencies, rope};
pub use route::{Choice, Groups, Scoring, combine, route};
pub use view::{MatMut, MatRef};
