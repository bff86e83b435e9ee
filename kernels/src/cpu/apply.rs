//! Functions of single elements, alone or as a gate: an item is a row.
#![allow(unsafe_code, reason = "rows may alias, so they are read and written through raw pointers")]

use std::ops::Range;

use super::isa::{Kernel, dispatch};
use super::math;
use super::vector::{LANES, Vector, load_at, store_at};
use super::view::{MatMut, MatRef, check_items, check_shape};

/// A function of one element. None turns what is not a number into one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Function {
    /// x.
    Identity,
    /// x / (1 + e^-x), also called swish.
    Silu,
    /// GELU by the exact normal distribution function (`gelu`).
    Gelu,
    /// GELU by its tanh approximation (`gelu_pytorch_tanh`, `gelu_new`).
    GeluTanh,
    /// x, or 0 below 0.
    Relu,
    /// The square of [`Function::Relu`].
    ReluSquared,
    /// 1 / (1 + e^-x).
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// x / (1 + e^(-slope x)), of this slope.
    Swish(f32),
    /// x times this.
    Scale(f32),
    /// cap tanh(x / cap), of this cap; x if it is 0.
    SoftCap(f32),
    /// x bounded to `-limit..=limit`, of this limit; x if it is 0.
    Clamp(f32),
}

/// How one half of a gated feed-forward layer gates the other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gate {
    /// The function applied to the gate.
    pub by: Function,
    /// Bounds the gate from above, and the other half on both sides. 0: none.
    pub limit: f32,
    /// Added to the other half.
    pub shift: f32,
}

impl Gate {
    /// A gate without limit and shift.
    pub fn plain(by: Function) -> Self {
        Gate { by, limit: 0.0, shift: 0.0 }
    }
}

/// `out = by(x)` for the rows `items`. `out` may be exactly `x`.
///
/// # Panics
/// If the shapes do not agree or `items` leaves the rows.
pub fn apply(x: MatRef<'_>, by: Function, out: MatMut<'_>, items: Range<usize>) {
    check_shape("out", (out.rows(), out.columns()), (x.rows(), x.columns()));
    check_items(&items, x.rows());
    dispatch(Apply { x, by, out, items });
}

/// `out = by(min(gate, limit)) * (clamp(up, -limit, limit) + shift)` for the rows `items`. `out` may be exactly `gate`
/// or `up`.
///
/// # Panics
/// If the shapes do not agree or `items` leaves the rows.
pub fn gated_mul(gate: MatRef<'_>, up: MatRef<'_>, how: &Gate, out: MatMut<'_>, items: Range<usize>) {
    check_shape("up", (up.rows(), up.columns()), (gate.rows(), gate.columns()));
    check_shape("out", (out.rows(), out.columns()), (gate.rows(), gate.columns()));
    check_items(&items, gate.rows());
    dispatch(GatedMul { gate, up, how, out, items });
}

/// A function with its parameter. A type and not a closure, because a closure is a function of its own, compiled
/// without the path's instructions unless the compiler happens to inline it.
trait Map: Copy {
    fn map<V: Vector>(self, x: V) -> V;
}

/// What is done with a function that is known when the kernel is compiled.
trait WithMap {
    fn with<V: Vector, M: Map>(&self, map: M);
}

#[inline(always)]
fn with_function<V: Vector>(by: Function, rows: &impl WithMap) {
    match by {
        Function::Identity => rows.with::<V, _>(Identity),
        Function::Silu => rows.with::<V, _>(Swish(1.0)),
        Function::Gelu => rows.with::<V, _>(Gelu),
        Function::GeluTanh => rows.with::<V, _>(GeluTanh),
        Function::Relu => rows.with::<V, _>(Relu),
        Function::ReluSquared => rows.with::<V, _>(ReluSquared),
        Function::Sigmoid => rows.with::<V, _>(Sigmoid),
        Function::Tanh => rows.with::<V, _>(Tanh),
        Function::Swish(slope) => rows.with::<V, _>(Swish(slope)),
        Function::Scale(factor) => rows.with::<V, _>(Scale(factor)),
        Function::SoftCap(0.0) => rows.with::<V, _>(Identity),
        Function::SoftCap(cap) => rows.with::<V, _>(SoftCap(cap)),
        Function::Clamp(limit) => rows.with::<V, _>(Clamp(bound(limit))),
    }
}

/// A limit as a bound: 0 is none.
fn bound(limit: f32) -> f32 {
    if limit == 0.0 { f32::INFINITY } else { limit }
}

macro_rules! maps {
    ($($name:ident $(($parameter:ident))?: $x:ident => $value:expr;)*) => {
        $(
            #[derive(Clone, Copy)]
            struct $name $((maps!(@type $parameter)))?;

            impl Map for $name {
                #[inline(always)]
                fn map<V: Vector>(self, $x: V) -> V {
                    $(let $name($parameter) = self;)?
                    $value
                }
            }
        )*
    };
    (@type $parameter:ident) => { f32 };
}

maps! {
    Identity: x => x;
    Gelu: x => math::gelu(x);
    GeluTanh: x => math::gelu_tanh(x);
    Relu: x => V::splat(0.0).max(x);
    ReluSquared: x => { let positive = V::splat(0.0).max(x); positive.mul(positive) };
    Sigmoid: x => math::sigmoid(x);
    Tanh: x => math::tanh(x);
    Swish(slope): x => math::swish(x, slope);
    Scale(factor): x => x.mul(V::splat(factor));
    SoftCap(cap): x => math::soft_cap(x, cap);
    Clamp(limit): x => math::clamp(x, limit);
}

struct Apply<'a> {
    x: MatRef<'a>,
    by: Function,
    out: MatMut<'a>,
    items: Range<usize>,
}

impl Kernel for Apply<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        with_function::<V>(self.by, &self);
    }
}

impl WithMap for Apply<'_> {
    #[inline(always)]
    fn with<V: Vector, M: Map>(&self, map: M) {
        let columns = self.x.columns();
        for row in self.items.clone() {
            let (x, out) = (self.x.row(row), self.out.row(row));
            for at in (0..columns).step_by(LANES) {
                // SAFETY: both views have this row with this many columns.
                unsafe { store_at(map.map(load_at::<V>(x, at, columns)), out, at, columns) }
            }
        }
    }
}

struct GatedMul<'a> {
    gate: MatRef<'a>,
    up: MatRef<'a>,
    how: &'a Gate,
    out: MatMut<'a>,
    items: Range<usize>,
}

impl Kernel for GatedMul<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        with_function::<V>(self.how.by, &self);
    }
}

impl WithMap for GatedMul<'_> {
    #[inline(always)]
    fn with<V: Vector, M: Map>(&self, map: M) {
        let is_plain = self.how.limit == 0.0 && self.how.shift == 0.0;
        for row in self.items.clone() {
            if is_plain { self.plain_row::<V, M>(row, map) } else { self.row::<V, M>(row, map) }
        }
    }
}

impl GatedMul<'_> {
    #[inline(always)]
    fn plain_row<V: Vector, M: Map>(&self, row: usize, map: M) {
        let (gate, up, out, columns) = (self.gate.row(row), self.up.row(row), self.out.row(row), self.gate.columns());
        for at in (0..columns).step_by(LANES) {
            // SAFETY: all three views have this row with this many columns.
            unsafe {
                let product = map.map(load_at::<V>(gate, at, columns)).mul(load_at(up, at, columns));
                store_at(product, out, at, columns);
            }
        }
    }

    #[inline(always)]
    fn row<V: Vector, M: Map>(&self, row: usize, map: M) {
        let (gate, up, out, columns) = (self.gate.row(row), self.up.row(row), self.out.row(row), self.gate.columns());
        let (limit, shift) = (bound(self.how.limit), V::splat(self.how.shift));
        for at in (0..columns).step_by(LANES) {
            // SAFETY: all three views have this row with this many columns.
            unsafe {
                let gate = map.map(math::at_most(load_at::<V>(gate, at, columns), limit));
                let up = math::clamp(load_at::<V>(up, at, columns), limit).add(shift);
                store_at(gate.mul(up), out, at, columns);
            }
        }
    }
}
