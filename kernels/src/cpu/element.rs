//! Stored elements of weights and of the KV cache, in lines of 32.
#![allow(unsafe_code, reason = "lines are addressed by raw pointers")]

use half::bf16;

use super::vector::{LANES, Vector};

/// Elements of a line: two vectors.
pub(crate) const LINE_ELEMENTS: usize = 2 * LANES;

/// How a weight or cache element is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ElementType {
    /// bfloat16, two bytes; widened exactly to f32 in registers.
    Bf16,
    /// IEEE 754 single precision, four bytes.
    F32,
}

/// How a packed weight is stored.
pub type WeightType = ElementType;

impl ElementType {
    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            ElementType::Bf16 => 2,
            ElementType::F32 => 4,
        }
    }

    /// Bytes of a line of 32 elements.
    pub(crate) fn line_bytes(self) -> usize {
        LINE_ELEMENTS * self.bytes()
    }
}

/// The storage of 32 elements that are loaded together as two vectors.
///
/// An f32 line is plain. A bf16 line pairs element `j` with element `16 + j` in one dword, so that a shift and a mask
/// widen a whole cache line without moving a lane.
pub(crate) trait Element {
    const LINE_BYTES: usize;

    /// Elements 0..16 and 16..32 of a line.
    ///
    /// # Safety
    /// `line` is readable for `LINE_BYTES`.
    unsafe fn load<V: Vector>(line: *const u8) -> [V; 2];
    /// # Safety
    /// `line` is readable for `LINE_BYTES`; `index < 32`.
    unsafe fn read(line: *const u8, index: usize) -> f32;
    /// Stores an element, rounded to nearest even.
    ///
    /// # Safety
    /// `line` is writable for `LINE_BYTES`; `index < 32`.
    unsafe fn write(line: *mut u8, index: usize, value: f32);
}

pub(crate) struct Bf16;
pub(crate) struct F32;

/// Place of element `index` in a bf16 line, in elements.
#[inline(always)]
pub(crate) fn paired(index: usize) -> usize {
    2 * (index % LANES) + index / LANES
}

impl Element for Bf16 {
    const LINE_BYTES: usize = 64;

    #[inline(always)]
    unsafe fn load<V: Vector>(line: *const u8) -> [V; 2] {
        // SAFETY: the caller promises a whole line.
        unsafe { V::load_bf16_pairs(line) }
    }

    #[inline(always)]
    unsafe fn read(line: *const u8, index: usize) -> f32 {
        // SAFETY: `paired` permutes 0..32, inside the line.
        let bits = unsafe { line.cast::<u16>().add(paired(index)).read_unaligned() };
        bf16::from_bits(bits).to_f32()
    }

    #[inline(always)]
    unsafe fn write(line: *mut u8, index: usize, value: f32) {
        let bits = bf16::from_f32(value).to_bits();
        // SAFETY: `paired` permutes 0..32, inside the line.
        unsafe { line.cast::<u16>().add(paired(index)).write_unaligned(bits) }
    }
}

impl Element for F32 {
    const LINE_BYTES: usize = 128;

    #[inline(always)]
    unsafe fn load<V: Vector>(line: *const u8) -> [V; 2] {
        let line = line.cast::<f32>();
        // SAFETY: the caller promises a whole line of 32 f32.
        unsafe { [V::load(line), V::load(line.add(LANES))] }
    }

    #[inline(always)]
    unsafe fn read(line: *const u8, index: usize) -> f32 {
        // SAFETY: `index < 32`, inside the line.
        unsafe { line.cast::<f32>().add(index).read_unaligned() }
    }

    #[inline(always)]
    unsafe fn write(line: *mut u8, index: usize, value: f32) {
        // SAFETY: `index < 32`, inside the line.
        unsafe { line.cast::<f32>().add(index).write_unaligned(value) }
    }
}
