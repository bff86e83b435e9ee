//! Weights packed for streaming.
#![allow(unsafe_code, reason = "64-byte aligned storage that the system hands out zeroed and untouched")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

use super::element::{Bf16, Element, ElementType, F32, LINE_ELEMENTS};
use super::pack::{PackError, WeightRows, pack_panel};

/// Outputs of a panel.
pub const PANEL: usize = LINE_ELEMENTS;

/// A weight `[outputs, inputs]` packed as `[ceil(outputs / 32)][inputs][32]`, zero padded.
///
/// A product streams a panel from its first byte to its last. Within a line of 32 bf16, element `j` and `16 + j` share
/// a dword, see `element`.
#[derive(Debug)]
pub struct PackedMatrix {
    storage: Storage,
    outputs: usize,
    inputs: usize,
    element: ElementType,
}

/// A run of a matrix's panels, to be filled by one thread while others fill the rest.
#[derive(Debug)]
pub struct Panels<'a> {
    bytes: &'a mut [u8],
    first: usize,
    outputs: usize,
    inputs: usize,
    element: ElementType,
}

impl PackedMatrix {
    /// A zero matrix; fill it through [`PackedMatrix::panels_mut`] or [`PackedMatrix::pack_rows`].
    pub fn new(outputs: usize, inputs: usize, element: ElementType) -> Self {
        let bytes = outputs.div_ceil(PANEL) * inputs * element.line_bytes();
        PackedMatrix { storage: Storage::zeroed(bytes), outputs, inputs, element }
    }

    /// Packs row-concatenated parts on the calling thread.
    ///
    /// # Errors
    /// [`PackError`] if there are no parts or their columns differ.
    pub fn pack(parts: &[WeightRows<'_>], element: ElementType) -> Result<Self, PackError> {
        let inputs = parts.first().ok_or(PackError::Empty)?.num_columns();
        let outputs = parts.iter().map(WeightRows::num_rows).sum();
        let mut matrix = PackedMatrix::new(outputs, inputs, element);
        matrix.pack_rows(parts)?;
        Ok(matrix)
    }

    /// Fills the whole matrix from row-concatenated parts on the calling thread.
    ///
    /// # Errors
    /// [`PackError`] if the parts do not have this matrix's shape.
    pub fn pack_rows(&mut self, parts: &[WeightRows<'_>]) -> Result<(), PackError> {
        self.panels_mut(usize::MAX).try_for_each(|mut panels| panels.pack(parts))
    }

    /// Cuts the matrix into runs of at most `panels_per_run` panels that threads can fill in parallel.
    pub fn panels_mut(&mut self, panels_per_run: usize) -> impl Iterator<Item = Panels<'_>> {
        let (outputs, inputs, element) = (self.outputs, self.inputs, self.element);
        let panels_per_run = panels_per_run.clamp(1, outputs.div_ceil(PANEL).max(1));
        let run_bytes = (panels_per_run * self.panel_bytes()).max(1);
        self.storage.bytes_mut().chunks_mut(run_bytes).enumerate().map(move |(run, bytes)| Panels {
            bytes,
            first: run * panels_per_run,
            outputs,
            inputs,
            element,
        })
    }

    /// Uniform values in `-scale..scale`, a function of shape, type and seed: weights for measurements.
    pub fn random(outputs: usize, inputs: usize, element: ElementType, seed: u64, scale: f32) -> Self {
        let mut matrix = PackedMatrix::new(outputs, inputs, element);
        matrix.panels_mut(1).for_each(|mut panels| panels.fill_random(seed, scale));
        matrix
    }

    /// Number of outputs: rows of the weight.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Number of inputs: columns of the weight.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// How elements are stored.
    pub fn element(&self) -> ElementType {
        self.element
    }

    /// Number of panels of 32 outputs.
    pub fn num_panels(&self) -> usize {
        self.outputs.div_ceil(PANEL)
    }

    /// Bytes of storage, padding included.
    pub fn bytes(&self) -> usize {
        self.storage.length
    }

    /// Reads a row back, widened to f32.
    ///
    /// # Panics
    /// If there is no such row or `out` is not `inputs` long.
    pub fn read_row(&self, output: usize, out: &mut [f32]) {
        assert!(output < self.outputs, "row {output} of {}", self.outputs);
        assert!(out.len() == self.inputs, "{} elements for a row of {}", out.len(), self.inputs);
        // SAFETY: the row exists and `out` holds it.
        unsafe { self.read_row_raw(output, out.as_mut_ptr()) }
    }

    /// # Safety
    /// `output < self.outputs()`; `out` is writable for `inputs` f32.
    pub(crate) unsafe fn read_row_raw(&self, output: usize, out: *mut f32) {
        let panel = self.panel(output / PANEL);
        let index = output % PANEL;
        for input in 0..self.inputs {
            let line = panel.wrapping_add(input * self.element.line_bytes());
            // SAFETY: the panel has `inputs` lines, and `out` as many elements.
            unsafe {
                *out.add(input) = match self.element {
                    ElementType::Bf16 => Bf16::read(line, index),
                    ElementType::F32 => F32::read(line, index),
                };
            }
        }
    }

    /// Bytes of a panel.
    pub(crate) fn panel_bytes(&self) -> usize {
        self.inputs * self.element.line_bytes()
    }

    /// First line of a panel.
    pub(crate) fn panel(&self, panel: usize) -> *const u8 {
        debug_assert!(panel < self.num_panels());
        self.storage.start().wrapping_add(panel * self.panel_bytes())
    }
}

impl Panels<'_> {
    /// Fills these panels from the whole matrix's row-concatenated parts.
    ///
    /// # Errors
    /// [`PackError`] if the parts do not have the matrix's shape.
    pub fn pack(&mut self, parts: &[WeightRows<'_>]) -> Result<(), PackError> {
        if let Some(part) = parts.iter().find(|part| part.num_columns() != self.inputs) {
            return Err(PackError::Inputs { found: part.num_columns(), expected: self.inputs });
        }
        let found = parts.iter().map(WeightRows::num_rows).sum();
        if found != self.outputs {
            return Err(PackError::Outputs { found, expected: self.outputs });
        }
        let (first, element) = (self.first, self.element);
        for (index, panel) in self.each() {
            pack_panel(panel, element, parts, (first + index) * PANEL);
        }
        Ok(())
    }

    /// Fills these panels with uniform values in `-scale..scale`.
    pub fn fill_random(&mut self, seed: u64, scale: f32) {
        let (first, element, outputs) = (self.first, self.element, self.outputs);
        for (index, panel) in self.each() {
            let panel_index = first + index;
            let columns = (outputs - panel_index * PANEL).min(PANEL);
            let mut state = mix(seed ^ mix(panel_index as u64));
            for line in panel.chunks_exact_mut(element.line_bytes()) {
                fill_line(line, element, columns, &mut state, scale);
            }
        }
    }

    fn each(&mut self) -> impl Iterator<Item = (usize, &mut [u8])> {
        let panel_bytes = (self.inputs * self.element.line_bytes()).max(1);
        self.bytes.chunks_exact_mut(panel_bytes).enumerate()
    }
}

fn fill_line(line: &mut [u8], element: ElementType, columns: usize, state: &mut u64, scale: f32) {
    for index in 0..columns {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        // 24 high bits give a float in 0..1, exactly.
        let unit = (mix(*state) >> 40) as f32 * (1.0 / (1 << 24) as f32);
        let value = (2.0 * unit - 1.0) * scale;
        // SAFETY: `line` is one whole line of this element type, and `index < 32`.
        unsafe {
            match element {
                ElementType::Bf16 => Bf16::write(line.as_mut_ptr(), index, value),
                ElementType::F32 => F32::write(line.as_mut_ptr(), index, value),
            }
        }
    }
}

/// SplitMix64's output function (Steele, Lea and Flood, OOPSLA 2014).
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Zeroed bytes at an [`ALIGNMENT`] boundary.
///
/// The allocation asks for no alignment, because only then does the allocator pass on the system's zero pages
/// untouched; the boundary is found inside it.
#[derive(Debug)]
struct Storage {
    allocation: Option<(NonNull<u8>, Layout)>,
    start: NonNull<u8>,
    length: usize,
}

/// A huge page: streaming a weight through small pages spends its time on address translation.
const ALIGNMENT: usize = 2 << 20;
/// The boundary of a weight too small to fill huge pages: a cache line.
const SMALL_ALIGNMENT: usize = 64;

// SAFETY: the storage is owned bytes; shared access only reads them.
unsafe impl Send for Storage {}
// SAFETY: as above.
unsafe impl Sync for Storage {}

impl Storage {
    fn zeroed(length: usize) -> Self {
        if length == 0 {
            return Storage { allocation: None, start: NonNull::dangling(), length };
        }
        let alignment = if length < ALIGNMENT { SMALL_ALIGNMENT } else { ALIGNMENT };
        let layout = Layout::array::<u8>(length + alignment).unwrap_or_else(|_| Layout::new::<u8>());
        assert!(layout.size() > length, "a weight of {length} bytes");
        // SAFETY: the layout is not empty.
        let Some(memory) = NonNull::new(unsafe { alloc_zeroed(layout) }) else { handle_alloc_error(layout) };
        let shift = memory.as_ptr().align_offset(alignment);
        // SAFETY: `shift < alignment`, and the allocation is that much longer than `length`.
        let start = unsafe { memory.add(shift) };
        if alignment == ALIGNMENT {
            advise_huge_pages(start, length);
        }
        Storage { allocation: Some((memory, layout)), start, length }
    }

    fn start(&self) -> *const u8 {
        self.start.as_ptr()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: `start..start + length` lies in this storage's own allocation, zeroed when it was made.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        if let Some((memory, layout)) = self.allocation {
            // SAFETY: allocated by `zeroed` with this layout.
            unsafe { dealloc(memory.as_ptr(), layout) }
        }
    }
}

/// Asks the system to back whole huge pages of the range as such; a refusal changes nothing but speed.
#[cfg(target_os = "linux")]
fn advise_huge_pages(start: NonNull<u8>, length: usize) {
    use std::ffi::{c_int, c_void};

    unsafe extern "C" {
        fn madvise(address: *mut c_void, length: usize, advice: c_int) -> c_int;
    }
    const MADV_HUGEPAGE: c_int = 14;
    // SAFETY: the range is part of a live allocation, and this advice keeps its contents.
    unsafe { madvise(start.as_ptr().cast(), length - length % ALIGNMENT, MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
fn advise_huge_pages(_start: NonNull<u8>, _length: usize) {}
