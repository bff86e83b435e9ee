//! Views of f32 row-major matrices, possibly column windows of wider buffers.
#![allow(unsafe_code, reason = "views over memory that a device owns, shared by worker threads")]

use std::marker::PhantomData;
use std::ops::Range;

/// A read-only f32 matrix: `rows` x `columns`, rows `stride` elements apart.
#[derive(Clone, Copy, Debug)]
pub struct MatRef<'a> {
    ptr: *const f32,
    rows: usize,
    columns: usize,
    stride: usize,
    memory: PhantomData<&'a [f32]>,
}

/// A writable f32 matrix: `rows` x `columns`, rows `stride` elements apart.
///
/// It is `Copy` and shared by worker threads, like a raw pointer: concurrent kernel calls on copies of one view must
/// write disjoint items. The compiler cannot check this, so whoever copies a view to another thread vouches for it.
#[derive(Clone, Copy, Debug)]
pub struct MatMut<'a> {
    ptr: *mut f32,
    rows: usize,
    columns: usize,
    stride: usize,
    memory: PhantomData<&'a mut [f32]>,
}

// SAFETY: a view is an address and sizes; reading it from any thread is the constructor's promise.
unsafe impl Send for MatRef<'_> {}
// SAFETY: as above.
unsafe impl Sync for MatRef<'_> {}
// SAFETY: a view is an address and sizes; concurrent users write disjoint items by the type's contract.
unsafe impl Send for MatMut<'_> {}
// SAFETY: as above.
unsafe impl Sync for MatMut<'_> {}

impl<'a> MatRef<'a> {
    /// A dense matrix over a slice.
    ///
    /// # Panics
    /// If `data` is shorter than `rows * columns`.
    pub fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::with_stride(data, rows, columns, columns)
    }

    /// A matrix over a slice whose rows start `stride` elements apart.
    ///
    /// # Panics
    /// If `stride < columns` or the last row ends past `data`.
    pub fn with_stride(data: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(fits(data.len(), rows, columns, stride), "{rows} x {columns} by {stride} in {}", data.len());
        MatRef { ptr: data.as_ptr(), rows, columns, stride, memory: PhantomData }
    }

    /// A matrix over raw memory.
    ///
    /// # Safety
    /// For `'a`, every row is readable (`columns` f32 at `ptr + row * stride`), and no other thread writes an element
    /// while a kernel reads it. The memory may be the output of the same call where a kernel says so.
    pub unsafe fn from_raw(ptr: *const f32, rows: usize, columns: usize, stride: usize) -> Self {
        MatRef { ptr, rows, columns, stride, memory: PhantomData }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Distance between rows, in elements.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// The same rows, some of the columns.
    ///
    /// # Panics
    /// If the range leaves the matrix.
    pub fn window(&self, columns: Range<usize>) -> Self {
        assert!(columns.start <= columns.end && columns.end <= self.columns, "{columns:?} of {}", self.columns);
        MatRef { ptr: self.ptr.wrapping_add(columns.start), columns: columns.len(), ..*self }
    }

    /// Address of a row; in bounds for `row < rows`.
    pub(crate) fn row(&self, row: usize) -> *const f32 {
        debug_assert!(row < self.rows);
        self.ptr.wrapping_add(row * self.stride)
    }
}

impl<'a> MatMut<'a> {
    /// A dense matrix over a slice.
    ///
    /// # Panics
    /// If `data` is shorter than `rows * columns`.
    pub fn new(data: &'a mut [f32], rows: usize, columns: usize) -> Self {
        Self::with_stride(data, rows, columns, columns)
    }

    /// A matrix over a slice whose rows start `stride` elements apart.
    ///
    /// # Panics
    /// If `stride < columns` or the last row ends past `data`.
    pub fn with_stride(data: &'a mut [f32], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(fits(data.len(), rows, columns, stride), "{rows} x {columns} by {stride} in {}", data.len());
        MatMut { ptr: data.as_mut_ptr(), rows, columns, stride, memory: PhantomData }
    }

    /// A matrix over raw memory.
    ///
    /// # Safety
    /// For `'a`, every row is writable (`columns` f32 at `ptr + row * stride`), and concurrent calls on this memory
    /// write disjoint items and read nothing that another writes.
    pub unsafe fn from_raw(ptr: *mut f32, rows: usize, columns: usize, stride: usize) -> Self {
        MatMut { ptr, rows, columns, stride, memory: PhantomData }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Distance between rows, in elements.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// The same rows, some of the columns.
    ///
    /// # Panics
    /// If the range leaves the matrix.
    pub fn window(&self, columns: Range<usize>) -> Self {
        assert!(columns.start <= columns.end && columns.end <= self.columns, "{columns:?} of {}", self.columns);
        MatMut { ptr: self.ptr.wrapping_add(columns.start), columns: columns.len(), ..*self }
    }

    /// Address of a row; in bounds for `row < rows`.
    pub(crate) fn row(&self, row: usize) -> *mut f32 {
        debug_assert!(row < self.rows);
        self.ptr.wrapping_add(row * self.stride)
    }
}

fn fits(length: usize, rows: usize, columns: usize, stride: usize) -> bool {
    rows == 0 || (stride >= columns && (rows - 1) * stride + columns <= length)
}

/// Checks that a kernel's operands agree; a disagreement is a mistake of the caller, not of a request.
pub(crate) fn check_shape(what: &str, found: (usize, usize), expected: (usize, usize)) {
    assert!(found == expected, "{what} is {} x {}, expected {} x {}", found.0, found.1, expected.0, expected.1);
}

/// Checks that items are among those that the operands have.
pub(crate) fn check_items(items: &Range<usize>, num_items: usize) {
    assert!(items.end <= num_items, "items {items:?} of {num_items}");
}
