//! Rows added, joined, copied and picked: an item is a row.
#![allow(unsafe_code, reason = "rows may alias, so they are read and written through raw pointers")]

use std::ops::Range;

use super::isa::{Kernel, dispatch};
use super::packed::PackedMatrix;
use super::vector::{LANES, Vector, load_at, store_at};
use super::view::{MatMut, MatRef, check_items, check_shape};

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

/// `out` is for each of `heads` heads the columns of `a`'s head, then those of `b`'s, for the rows `items`. Where `b` is
/// narrower than the heads of `out` leave for it, it is one head that goes to all. `out` must not overlap the others.
///
/// # Panics
/// If the shapes do not agree or `items` leaves the rows.
pub fn join(a: MatRef<'_>, b: MatRef<'_>, heads: usize, out: MatMut<'_>, items: Range<usize>) {
    let is_whole = heads > 0 && a.columns().is_multiple_of(heads) && out.columns().is_multiple_of(heads);
    assert!(is_whole, "{} and {} columns of {heads} heads", a.columns(), out.columns());
    let (first, both) = (a.columns() / heads, out.columns() / heads);
    assert!(first <= both, "{first} of {both} columns of a head");
    let second = both - first;
    let step = if b.columns() == second { 0 } else { second };
    check_shape("b", (b.rows(), b.columns()), (a.rows(), if step == 0 { second } else { heads * second }));
    check_shape("out", (out.rows(), out.columns()), (a.rows(), heads * both));
    check_items(&items, a.rows());
    for row in items {
        for head in 0..heads {
            let out = out.row(row).wrapping_add(head * both);
            // SAFETY: all three rows have these columns of the head, and do not overlap by contract.
            unsafe {
                std::ptr::copy(a.row(row).wrapping_add(head * first), out, first);
                std::ptr::copy(b.row(row).wrapping_add(head * step), out.wrapping_add(first), second);
            }
        }
    }
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
        let columns = self.a.columns();
        for row in self.items.clone() {
            let (a, b, out) = (self.a.row(row), self.b.row(row), self.out.row(row));
            for at in (0..columns).step_by(LANES) {
                // SAFETY: all three views have this row with this many columns.
                unsafe { store_at(load_at::<V>(a, at, columns).add(load_at(b, at, columns)), out, at, columns) }
            }
        }
    }
}
