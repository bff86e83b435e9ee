//! Row-wise kernels: an item is a row.
#![allow(unsafe_code, reason = "rows may alias, so they are read and written through raw pointers")]

use std::ops::Range;

use super::isa::{Kernel, dispatch};
use super::math;
use super::packed::PackedMatrix;
use super::vector::{LANES, Vector, load_at, store_at};
use super::view::{MatMut, MatRef, check_items, check_shape};

/// The function applied to the gate of a gated feed-forward layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// x / (1 + e^-x), also called swish.
    Silu,
    /// GELU by its tanh approximation (`gelu_pytorch_tanh`, `gelu_new`).
    GeluTanh,
    /// GELU by the exact normal distribution function (`gelu`).
    Gelu,
}

/// `out[row] = table[ids[row]]`, widened, for the rows `items`. An id is a row (output) of the packed table.
///
/// # Panics
/// If the shapes do not agree, `items` leaves the rows or an id leaves the table.
pub fn embed(ids: &[u32], table: &PackedMatrix, out: MatMut<'_>, items: Range<usize>) {
    check_shape("out", (out.rows(), out.columns()), (ids.len(), table.inputs()));
    check_items(&items, ids.len());
    for row in items {
        let id = ids[row] as usize;
        assert!(id < table.outputs(), "id {id} of {}", table.outputs());
        // SAFETY: the table has this row, and `out` as many columns as the table inputs.
        unsafe { table.read_row_raw(id, out.row(row)) }
    }
}

/// `out = a + b` for the rows `items`. `out` may be exactly `a` or `b`.
///
/// # Panics
/// If the shapes do not agree or `items` leaves the rows.
pub fn add(a: MatRef<'_>, b: MatRef<'_>, out: MatMut<'_>, items: Range<usize>) {
    check_shape("b", (b.rows(), b.columns()), (a.rows(), a.columns()));
    check_shape("out", (out.rows(), out.columns()), (a.rows(), a.columns()));
    check_items(&items, a.rows());
    dispatch(Add { a, b, out, items });
}

/// `out = activation(gate) * up` for the rows `items`. `out` may be exactly `gate` or `up`.
///
/// # Panics
/// If the shapes do not agree or `items` leaves the rows.
pub fn gated_mul(gate: MatRef<'_>, up: MatRef<'_>, activation: Activation, out: MatMut<'_>, items: Range<usize>) {
    check_shape("up", (up.rows(), up.columns()), (gate.rows(), gate.columns()));
    check_shape("out", (out.rows(), out.columns()), (gate.rows(), gate.columns()));
    check_items(&items, gate.rows());
    dispatch(GatedMul { gate, up, activation, out, items });
}

/// `out[i] = x[rows[i]]` for the rows `items` of `out`. `out` must not overlap `x`.
///
/// # Panics
/// If the shapes do not agree, `items` leaves the rows or a row index leaves `x`.
pub fn gather_rows(x: MatRef<'_>, rows: &[u32], out: MatMut<'_>, items: Range<usize>) {
    check_shape("out", (out.rows(), out.columns()), (rows.len(), x.columns()));
    check_items(&items, rows.len());
    for item in items {
        let row = rows[item] as usize;
        assert!(row < x.rows(), "row {row} of {}", x.rows());
        // SAFETY: both rows exist with this many columns, and do not overlap by contract.
        unsafe { std::ptr::copy(x.row(row), out.row(item), x.columns()) }
    }
}

/// `out = x` for the rows `items`.
///
/// # Panics
/// If the shapes do not agree or `items` leaves the rows.
pub fn copy(x: MatRef<'_>, out: MatMut<'_>, items: Range<usize>) {
    check_shape("out", (out.rows(), out.columns()), (x.rows(), x.columns()));
    check_items(&items, x.rows());
    for row in items {
        // SAFETY: both rows exist with this many columns; `ptr::copy` allows overlap.
        unsafe { std::ptr::copy(x.row(row), out.row(row), x.columns()) }
    }
}

struct Add<'a> {
    a: MatRef<'a>,
    b: MatRef<'a>,
    out: MatMut<'a>,
    items: Range<usize>,
}

impl Kernel for Add<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        for row in self.items.clone() {
            let rows = (self.a.row(row), self.b.row(row), self.out.row(row));
            // SAFETY: all three views have this row with this many columns.
            unsafe { zip_row::<V, Sum>(rows, self.a.columns()) }
        }
    }
}

struct GatedMul<'a> {
    gate: MatRef<'a>,
    up: MatRef<'a>,
    activation: Activation,
    out: MatMut<'a>,
    items: Range<usize>,
}

impl Kernel for GatedMul<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        for row in self.items.clone() {
            let rows = (self.gate.row(row), self.up.row(row), self.out.row(row));
            let columns = self.gate.columns();
            // SAFETY: all three views have this row with this many columns.
            unsafe {
                match self.activation {
                    Activation::Silu => zip_row::<V, Silu>(rows, columns),
                    Activation::GeluTanh => zip_row::<V, GeluTanh>(rows, columns),
                    Activation::Gelu => zip_row::<V, Gelu>(rows, columns),
                }
            }
        }
    }
}

/// A function of two vectors. A type and not a closure, because a closure is a function of its own, compiled without
/// the path's instructions unless the compiler happens to inline it.
trait Join {
    fn join<V: Vector>(left: V, right: V) -> V;
}

struct Sum;
struct Silu;
struct GeluTanh;
struct Gelu;

impl Join for Sum {
    #[inline(always)]
    fn join<V: Vector>(left: V, right: V) -> V {
        left.add(right)
    }
}

impl Join for Silu {
    #[inline(always)]
    fn join<V: Vector>(gate: V, up: V) -> V {
        math::silu(gate).mul(up)
    }
}

impl Join for GeluTanh {
    #[inline(always)]
    fn join<V: Vector>(gate: V, up: V) -> V {
        math::gelu_tanh(gate).mul(up)
    }
}

impl Join for Gelu {
    #[inline(always)]
    fn join<V: Vector>(gate: V, up: V) -> V {
        math::gelu(gate).mul(up)
    }
}

/// # Safety
/// The first two rows are readable and the third writable for `columns` f32; the third is disjoint from or equal to
/// each of the others.
#[inline(always)]
unsafe fn zip_row<V: Vector, J: Join>((left, right, out): (*const f32, *const f32, *mut f32), columns: usize) {
    for at in (0..columns).step_by(LANES) {
        // SAFETY: the caller's promise; `at < columns`.
        unsafe {
            let joined = J::join::<V>(load_at(left, at, columns), load_at(right, at, columns));
            store_at(joined, out, at, columns);
        }
    }
}
