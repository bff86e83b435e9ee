//! The one matrix micro-kernel: `c[rows][columns] (+)= a[rows][depth] . b[depth][columns]`.
//!
//! `b` is a run of *panels*: 32 columns, one line per depth step (see `element`). Packed weights, K blocks and V blocks
//! of the KV cache all have this form, so linear layers and attention share this file.
//!
//! Every element of `c` has one accumulator, and depth runs upwards with one fused multiply-add per step. Splitting
//! depth over several calls stores and reloads that accumulator, which changes no bit.
#![allow(unsafe_code, reason = "the micro-kernel walks raw panels")]

use std::marker::PhantomData;

use super::element::{Bf16, Element, ElementType, F32, LINE_ELEMENTS};
use super::isa::Kernel;
use super::vector::{LANES, Vector};

/// Operands of one micro-kernel call. Strides of `a` and `c` are in elements.
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    pub(crate) a: *const f32,
    pub(crate) a_stride: usize,
    pub(crate) depth: usize,
    /// First line of the first panel.
    pub(crate) b: *const u8,
    pub(crate) panel_bytes: usize,
    pub(crate) c: *mut f32,
    pub(crate) c_stride: usize,
    /// Columns that exist in `c`; the panels' further columns are computed and dropped.
    pub(crate) columns: usize,
    /// Whether to add to `c` instead of overwriting it.
    pub(crate) accumulate: bool,
    /// Memory wanted soon: at depth step `k`, the bytes from `k * ahead_step` of each panel's share are fetched.
    pub(crate) ahead: *const u8,
    pub(crate) ahead_step: usize,
}

/// Computes a tile of `rows` x `panels`.
///
/// # Safety
/// `1 <= rows <= V::TILE_ROWS` and `panels == 1`, or `1 <= rows <= V::WIDE_TILE_ROWS` and `panels == 2`. `a` is
/// readable and `c` writable for `rows` rows of `depth` and `columns` elements; `b` has `depth` lines in each panel.
/// `0 < columns <= 32 * panels`. The path's instructions are available.
#[inline(always)]
pub(crate) unsafe fn multiply<V: Vector>(element: ElementType, rows: usize, panels: usize, tile: &Tile) {
    // SAFETY: passed on from the caller.
    unsafe {
        match element {
            ElementType::Bf16 => by_shape::<V, Bf16>(rows, panels, tile),
            ElementType::F32 => by_shape::<V, F32>(rows, panels, tile),
        }
    }
}

/// # Safety
/// As for [`multiply`].
#[inline(always)]
unsafe fn by_shape<V: Vector, E: Element>(rows: usize, panels: usize, tile: &Tile) {
    macro_rules! shapes {
        ($panels:literal: $($rows:literal)*) => {
            match rows {
                // SAFETY: passed on from the caller.
                $($rows => unsafe { enter::<V, E, $rows, $panels>(tile) },)*
                other => unreachable!("no tile of {other} rows"),
            }
        };
    }
    match panels {
        1 => shapes!(1: 1 2 3 4 5 6 7 8 9 10 11 12),
        _ => shapes!(2: 1 2 3 4 5 6),
    }
}

/// # Safety
/// As for [`multiply`].
#[inline(always)]
unsafe fn enter<V: Vector, E: Element, const ROWS: usize, const PANELS: usize>(tile: &Tile) {
    let limit = if PANELS == 1 { V::TILE_ROWS } else { V::WIDE_TILE_ROWS };
    if ROWS <= limit {
        // SAFETY: the caller promises the path's instructions and operands.
        unsafe { V::enter(Multiply::<E, ROWS, PANELS>(tile, PhantomData)) }
    }
}

struct Multiply<'a, E, const ROWS: usize, const PANELS: usize>(&'a Tile, PhantomData<E>);

/// One row's accumulators.
type Row<V, const PANELS: usize> = [[V; 2]; PANELS];

impl<E: Element, const ROWS: usize, const PANELS: usize> Kernel for Multiply<'_, E, ROWS, PANELS> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let Multiply(&tile, _) = self;
        let mut sums = [[[V::splat(0.0); 2]; PANELS]; ROWS];
        // SAFETY: `multiply`'s caller promises the operands that these steps read and write.
        unsafe {
            if tile.accumulate {
                load_sums(&tile, &mut sums);
            }
            let mut k = 0;
            if ROWS * PANELS <= SMALL_TILE {
                while k + UNROLL <= tile.depth {
                    for ahead in 0..UNROLL {
                        step::<V, E, ROWS, PANELS>(&tile, k + ahead, &mut sums);
                    }
                    k += UNROLL;
                }
            }
            while k < tile.depth {
                step::<V, E, ROWS, PANELS>(&tile, k, &mut sums);
                k += 1;
            }
            store_sums(&tile, &sums);
        }
    }
}

/// Depth steps per loop turn of a small tile, whose few multiply-adds would not hide the loop's own instructions. A
/// tall tile hides them, and unrolled it would tempt the compiler to load ahead and spill accumulators.
const UNROLL: usize = 4;
/// Rows times panels of the largest tile that is unrolled.
const SMALL_TILE: usize = 4;

/// Multiplies one line of each panel by one element of each row.
///
/// # Safety
/// `k < tile.depth`, and as for [`multiply`].
#[inline(always)]
unsafe fn step<V: Vector, E: Element, const ROWS: usize, const PANELS: usize>(
    tile: &Tile,
    k: usize,
    sums: &mut [Row<V, PANELS>; ROWS],
) {
    let mut lines = [[V::splat(0.0); 2]; PANELS];
    for (panel, line) in lines.iter_mut().enumerate() {
        let ahead = tile.ahead.wrapping_add(panel * tile.panel_bytes + k * tile.ahead_step);
        for offset in (0..E::LINE_BYTES).step_by(64) {
            V::prefetch(ahead.wrapping_add(offset));
        }
        // SAFETY: the panel has a line for every `k < depth`.
        *line = unsafe { E::load(tile.b.add(panel * tile.panel_bytes + k * E::LINE_BYTES)) };
    }
    for (row, sums) in sums.iter_mut().enumerate() {
        // SAFETY: `a` is readable for `ROWS` rows of `depth` elements.
        let factor = V::splat(unsafe { *tile.a.add(row * tile.a_stride + k) });
        for (line, sums) in lines.iter().zip(sums) {
            *sums = [factor.mul_add(line[0], sums[0]), factor.mul_add(line[1], sums[1])];
        }
    }
}

/// # Safety
/// As for [`multiply`].
#[inline(always)]
unsafe fn load_sums<V: Vector, const ROWS: usize, const PANELS: usize>(tile: &Tile, sums: &mut [Row<V, PANELS>; ROWS]) {
    let whole = tile.columns == PANELS * LINE_ELEMENTS;
    for (row, sums) in sums.iter_mut().enumerate() {
        for (index, sum) in sums.as_flattened_mut().iter_mut().enumerate() {
            let at = tile.c.wrapping_add(row * tile.c_stride + index * LANES);
            // SAFETY: `c` is readable for `columns` elements of each row; only that many lanes are loaded.
            *sum = unsafe { if whole { V::load(at) } else { V::load_first(at, lanes_left(tile.columns, index)) } };
        }
    }
}

/// # Safety
/// As for [`multiply`].
#[inline(always)]
unsafe fn store_sums<V: Vector, const ROWS: usize, const PANELS: usize>(tile: &Tile, sums: &[Row<V, PANELS>; ROWS]) {
    let whole = tile.columns == PANELS * LINE_ELEMENTS;
    for (row, sums) in sums.iter().enumerate() {
        for (index, sum) in sums.as_flattened().iter().enumerate() {
            let at = tile.c.wrapping_add(row * tile.c_stride + index * LANES);
            // SAFETY: `c` is writable for `columns` elements of each row; only that many lanes are stored.
            unsafe { if whole { sum.store(at) } else { sum.store_first(at, lanes_left(tile.columns, index)) } }
        }
    }
}

#[inline(always)]
fn lanes_left(columns: usize, vector: usize) -> usize {
    columns.saturating_sub(vector * LANES).min(LANES)
}
