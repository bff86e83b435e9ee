//! Linear layers: rows of activations times a packed weight.
//!
//! An item is two panels (64 outputs) for up to [`GROUP_ROWS`] rows. Few rows (decode) stream each panel from memory
//! once, at full rate; many rows (prefill) cut depth into blocks, so that a block of a panel stays in the first-level
//! cache while the group's row blocks pass over it, and the group's activations stay in the second level from item to
//! item.
#![allow(unsafe_code, reason = "tiles address raw rows and panels")]

use std::ops::Range;

use super::element::ElementType;
use super::isa::{Kernel, dispatch};
use super::packed::{PANEL, PackedMatrix};
use super::tile::{Tile, multiply};
use super::vector::Vector;
use super::view::{MatMut, MatRef, check_items, check_shape};

/// Most rows of an item: their activations fit the second-level cache beside a panel.
pub(crate) const GROUP_ROWS: usize = 48;
/// Panels of an item.
const ITEM_PANELS: usize = 2;
/// Outputs of an item.
pub(crate) const STRIP_OUTPUTS: usize = ITEM_PANELS * PANEL;
/// Depth steps of a block when several row blocks share a panel.
const BLOCK_DEPTH: usize = 256;
/// How far ahead of its reading a panel is fetched when it is read once, in bytes.
const AHEAD_BYTES: usize = 16384;

/// Number of work items of a product of `rows` rows with `weight`.
pub fn linear_items(rows: usize, weight: &PackedMatrix) -> usize {
    num_groups(rows) * num_strips(weight)
}

/// `out[rows, outputs] = x[rows, inputs] . weight^T (+ bias)`, for some items of [`linear_items`].
///
/// Each output element is one f32 accumulator over ascending inputs, one fused multiply-add each; `bias` of `outputs`
/// elements is added last. `out` must not overlap `x`.
///
/// # Panics
/// If the shapes do not agree or `items` leaves the item count.
pub fn linear(x: MatRef<'_>, weight: &PackedMatrix, bias: Option<&[f32]>, out: MatMut<'_>, items: Range<usize>) {
    check_shape("x", (x.rows(), x.columns()), (x.rows(), weight.inputs()));
    check_shape("out", (out.rows(), out.columns()), (x.rows(), weight.outputs()));
    check_shape("bias", (1, bias.map_or(weight.outputs(), <[f32]>::len)), (1, weight.outputs()));
    check_items(&items, linear_items(x.rows(), weight));
    dispatch(Linear { x, weight, bias, out, first_output: 0, items });
}

/// Strip `strip` of the outputs of a product of at most [`GROUP_ROWS`] rows; `out` has the columns of this strip alone.
///
/// # Panics
/// If the shapes do not agree or there is no such strip.
pub(crate) fn linear_strip(x: MatRef<'_>, weight: &PackedMatrix, bias: Option<&[f32]>, strip: usize, out: MatMut<'_>) {
    let first_output = strip * STRIP_OUTPUTS;
    let columns = weight.outputs().saturating_sub(first_output).min(STRIP_OUTPUTS);
    check_shape("x", (x.rows(), x.columns()), (x.rows().clamp(1, GROUP_ROWS), weight.inputs()));
    check_shape("out", (out.rows(), out.columns()), (x.rows(), columns.max(1)));
    check_shape("bias", (1, bias.map_or(weight.outputs(), <[f32]>::len)), (1, weight.outputs()));
    dispatch(Linear { x, weight, bias, out, first_output, items: strip..strip + 1 });
}

/// Equal groups of at most [`GROUP_ROWS`] rows.
pub(crate) fn num_groups(rows: usize) -> usize {
    rows.div_ceil(GROUP_ROWS)
}

/// Part `index` of `count` nearly equal parts of some rows.
#[inline(always)]
pub(crate) fn part(rows: Range<usize>, index: usize, count: usize) -> Range<usize> {
    let cut = |index| rows.start + rows.len() * index / count;
    cut(index)..cut(index + 1)
}

/// How many items the outputs are cut into.
pub(crate) fn num_strips(weight: &PackedMatrix) -> usize {
    weight.num_panels().div_ceil(ITEM_PANELS)
}

struct Linear<'a> {
    x: MatRef<'a>,
    weight: &'a PackedMatrix,
    bias: Option<&'a [f32]>,
    out: MatMut<'a>,
    /// The output that the first column of `out` is.
    first_output: usize,
    items: Range<usize>,
}

/// One panel, or two side by side, for one group of rows.
struct Strip {
    rows: Range<usize>,
    first_panel: usize,
    num_panels: usize,
}

impl Kernel for Linear<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let (num_groups, columns) = (num_groups(self.x.rows()), num_strips(self.weight));
        for item in self.items.clone() {
            let rows = part(0..self.x.rows(), item / columns, num_groups);
            let first_panel = item % columns * ITEM_PANELS;
            let panels = first_panel..self.weight.num_panels().min(first_panel + ITEM_PANELS);
            let wide = panels.len() == 2 && block_rows::<V>(rows.len()) <= V::WIDE_TILE_ROWS;
            let num_panels = if wide { 2 } else { 1 };
            for first_panel in panels.step_by(num_panels) {
                self.strip::<V>(&Strip { rows: rows.clone(), first_panel, num_panels });
            }
        }
    }
}

/// Rows of the tallest of the equal blocks that a group is cut into.
#[inline(always)]
fn block_rows<V: Vector>(rows: usize) -> usize {
    rows.div_ceil(rows.div_ceil(V::TILE_ROWS))
}

impl Linear<'_> {
    #[inline(always)]
    fn strip<V: Vector>(&self, strip: &Strip) {
        let inputs = self.weight.inputs();
        let num_blocks = strip.rows.len().div_ceil(V::TILE_ROWS);
        let depth = if num_blocks == 1 { inputs } else { BLOCK_DEPTH };
        // A product over no inputs still writes its zeros.
        for first in (0..inputs.max(1)).step_by(depth.max(1)) {
            for block in 0..num_blocks {
                self.tile::<V>(strip, first..inputs.min(first + depth), block, num_blocks);
            }
        }
        self.add_bias(strip);
    }

    /// One row block over one depth block.
    #[inline(always)]
    fn tile<V: Vector>(&self, strip: &Strip, depth: Range<usize>, block: usize, num_blocks: usize) {
        let line_bytes = self.weight.element().line_bytes();
        let rows = part(strip.rows.clone(), block, num_blocks);
        let b = self.weight.panel(strip.first_panel).wrapping_add(depth.start * line_bytes);
        let (ahead, ahead_step) = fetch_ahead(self.weight.element(), b, depth.len(), block, num_blocks);
        let first_column = strip.first_panel * PANEL;
        let tile = Tile {
            a: self.x.row(rows.start).wrapping_add(depth.start),
            a_stride: self.x.stride(),
            depth: depth.len(),
            b,
            panel_bytes: self.weight.panel_bytes(),
            c: self.out.row(rows.start).wrapping_add(first_column - self.first_output),
            c_stride: self.out.stride(),
            columns: (self.weight.outputs() - first_column).min(strip.num_panels * PANEL),
            accumulate: depth.start > 0,
            ahead,
            ahead_step,
        };
        // SAFETY: `linear` checked that x and out have these rows and columns; the panels have `inputs` lines each;
        // `run` chose a shape that the path has, and the path was entered by `dispatch`.
        unsafe { multiply::<V>(self.weight.element(), rows.len(), strip.num_panels, &tile) }
    }

    #[inline(always)]
    fn add_bias(&self, strip: &Strip) {
        let Some(bias) = self.bias else { return };
        let first = strip.first_panel * PANEL;
        let bias = &bias[first..self.weight.outputs().min(first + strip.num_panels * PANEL)];
        for row in strip.rows.clone() {
            let out = self.out.row(row).wrapping_add(first - self.first_output);
            for (index, bias) in bias.iter().enumerate() {
                // SAFETY: `out` has `outputs` columns, and this item owns these.
                unsafe { *out.add(index) += bias };
            }
        }
    }
}

/// What a tile fetches while it computes: what follows in its panel if each line is read once, else its share of the
/// next depth block.
#[inline(always)]
fn fetch_ahead(
    element: ElementType,
    b: *const u8,
    depth: usize,
    block: usize,
    num_blocks: usize,
) -> (*const u8, usize) {
    if num_blocks == 1 {
        return (b.wrapping_add(AHEAD_BYTES), element.line_bytes());
    }
    let step = element.line_bytes() / num_blocks;
    (b.wrapping_add(depth * element.line_bytes() + block * depth * step), step)
}
