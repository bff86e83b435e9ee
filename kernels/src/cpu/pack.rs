//! Reading checkpoint tensors and laying their rows out in panels.
#![allow(unsafe_code, reason = "panels are written line by line through the element's own accessors")]

use std::fmt;
use std::ops::Range;

use half::{bf16, f16};

use super::element::{Bf16, Element, ElementType, F32, LINE_ELEMENTS, paired};

/// How a checkpoint stores an element; little endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceType {
    /// bfloat16.
    Bf16,
    /// IEEE 754 half precision.
    F16,
    /// IEEE 754 single precision.
    F32,
}

impl SourceType {
    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            SourceType::Bf16 | SourceType::F16 => 2,
            SourceType::F32 => 4,
        }
    }

    /// The smallest packed type that holds every value of this one.
    pub fn lossless(self) -> ElementType {
        match self {
            SourceType::Bf16 => ElementType::Bf16,
            SourceType::F16 | SourceType::F32 => ElementType::F32,
        }
    }
}

/// Why a weight cannot be packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackError {
    /// The bytes do not hold the matrix.
    Length {
        /// Bytes given.
        found_bytes: usize,
        /// Bytes that the shape needs.
        expected_bytes: usize,
    },
    /// A part has another number of columns than the packed matrix has inputs.
    Inputs {
        /// Columns of the part.
        found: usize,
        /// Inputs of the matrix.
        expected: usize,
    },
    /// The parts' rows do not add up to the packed matrix's outputs.
    Outputs {
        /// Rows of all parts.
        found: usize,
        /// Outputs of the matrix.
        expected: usize,
    },
    /// No parts were given where the shape is taken from them.
    Empty,
}

impl fmt::Display for PackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PackError::Length { found_bytes, expected_bytes } => {
                write!(f, "the weight's shape needs {expected_bytes} bytes, found {found_bytes}")
            }
            PackError::Inputs { found, expected } => {
                write!(f, "a part of the weight has {found} columns, the matrix {expected} inputs")
            }
            PackError::Outputs { found, expected } => {
                write!(f, "the weight's parts have {found} rows in all, the matrix {expected} outputs")
            }
            PackError::Empty => write!(f, "a weight needs at least one part"),
        }
    }
}

impl std::error::Error for PackError {}

/// Rows of a checkpoint tensor, row-major, borrowed: a part of a packed matrix.
#[derive(Clone, Copy, Debug)]
pub struct WeightRows<'a> {
    bytes: &'a [u8],
    source: SourceType,
    rows: usize,
    columns: usize,
    /// Elements between rows of the whole tensor.
    stride: usize,
    /// Elements before the first row's first column.
    start: usize,
}

impl<'a> WeightRows<'a> {
    /// A whole tensor of `rows` outputs x `columns` inputs.
    ///
    /// # Errors
    /// [`PackError::Length`] if `bytes` is not exactly as long as the shape says.
    pub fn new(bytes: &'a [u8], source: SourceType, rows: usize, columns: usize) -> Result<Self, PackError> {
        let expected_bytes = rows.saturating_mul(columns).saturating_mul(source.bytes());
        if bytes.len() != expected_bytes {
            return Err(PackError::Length { found_bytes: bytes.len(), expected_bytes });
        }
        Ok(WeightRows { bytes, source, rows, columns, stride: columns, start: 0 })
    }

    /// Some of the rows (outputs): a shard of a column-parallel weight.
    ///
    /// # Panics
    /// If the range leaves the tensor.
    pub fn rows(self, rows: Range<usize>) -> Self {
        assert!(rows.start <= rows.end && rows.end <= self.rows, "{rows:?} of {} rows", self.rows);
        WeightRows { start: self.start + rows.start * self.stride, rows: rows.len(), ..self }
    }

    /// Some of the columns (inputs): a shard of a row-parallel weight.
    ///
    /// # Panics
    /// If the range leaves the tensor.
    pub fn columns(self, columns: Range<usize>) -> Self {
        assert!(columns.start <= columns.end && columns.end <= self.columns, "{columns:?} of {}", self.columns);
        WeightRows { start: self.start + columns.start, columns: columns.len(), ..self }
    }

    /// Number of rows: outputs.
    pub fn num_rows(&self) -> usize {
        self.rows
    }

    /// Number of columns: inputs.
    pub fn num_columns(&self) -> usize {
        self.columns
    }

    /// The row's bytes.
    fn row(&self, row: usize) -> &'a [u8] {
        let first = (self.start + row * self.stride) * self.source.bytes();
        &self.bytes[first..first + self.columns * self.source.bytes()]
    }
}

/// The row `output` of the concatenated parts; `None` past the end, where a panel is padding.
pub(crate) fn find_row<'a>(parts: &[WeightRows<'a>], mut output: usize) -> Option<(SourceType, &'a [u8])> {
    for part in parts {
        if output < part.rows {
            return Some((part.source, part.row(output)));
        }
        output -= part.rows;
    }
    None
}

/// Inputs that are packed together: their lines stay in the first-level cache while 32 rows are scattered over them.
const BLOCK_INPUTS: usize = 128;

/// Packs the rows from `first_output` into one panel; rows that do not exist are zero.
pub(crate) fn pack_panel(panel: &mut [u8], element: ElementType, parts: &[WeightRows<'_>], first_output: usize) {
    let inputs = panel.len() / element.line_bytes();
    let rows: [_; LINE_ELEMENTS] = std::array::from_fn(|index| find_row(parts, first_output + index));
    for first in (0..inputs).step_by(BLOCK_INPUTS) {
        let block = first..inputs.min(first + BLOCK_INPUTS);
        for (index, row) in rows.iter().enumerate() {
            pack_run(panel, element, index, *row, block.clone());
        }
    }
}

/// Packs the inputs `block` of one row into lane `index` of the panel's lines.
fn pack_run(
    panel: &mut [u8],
    element: ElementType,
    index: usize,
    row: Option<(SourceType, &[u8])>,
    block: Range<usize>,
) {
    match (element, row) {
        (ElementType::Bf16, None) => write_run::<Bf16>(panel, index, block.map(|input| (input, 0.0))),
        (ElementType::F32, None) => write_run::<F32>(panel, index, block.map(|input| (input, 0.0))),
        (ElementType::Bf16, Some((SourceType::Bf16, bytes))) => copy_run(panel, index, bytes, block),
        (ElementType::Bf16, Some((source, bytes))) => {
            write_run::<Bf16>(panel, index, block.map(|input| (input, widen(source, bytes, input))));
        }
        (ElementType::F32, Some((source, bytes))) => {
            write_run::<F32>(panel, index, block.map(|input| (input, widen(source, bytes, input))));
        }
    }
}

fn write_run<E: Element>(panel: &mut [u8], index: usize, values: impl Iterator<Item = (usize, f32)>) {
    for (input, value) in values {
        let line = &mut panel[input * E::LINE_BYTES..][..E::LINE_BYTES];
        // SAFETY: `line` is a whole line and `index < 32`.
        unsafe { E::write(line.as_mut_ptr(), index, value) };
    }
}

/// bf16 to bf16: bits are copied.
fn copy_run(panel: &mut [u8], index: usize, bytes: &[u8], block: Range<usize>) {
    let source = bytes[2 * block.start..2 * block.end].chunks_exact(2);
    let lines = panel[block.start * Bf16::LINE_BYTES..block.end * Bf16::LINE_BYTES].chunks_exact_mut(Bf16::LINE_BYTES);
    let at = 2 * paired(index);
    for (line, value) in lines.zip(source) {
        line[at..at + 2].copy_from_slice(value);
    }
}

#[inline(always)]
fn widen(source: SourceType, bytes: &[u8], index: usize) -> f32 {
    match source {
        SourceType::Bf16 => bf16::from_le_bytes([bytes[2 * index], bytes[2 * index + 1]]).to_f32(),
        SourceType::F16 => f16::from_le_bytes([bytes[2 * index], bytes[2 * index + 1]]).to_f32(),
        SourceType::F32 => {
            let at = 4 * index;
            f32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        }
    }
}
