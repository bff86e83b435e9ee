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
    /// The rows picked from a part's tensor are not among its rows.
    Rows {
        /// How rows were to be picked.
        pick: RowPick,
        /// How many of them.
        rows: usize,
        /// Rows of the tensor.
        total: usize,
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
            PackError::Rows { pick: RowPick { from, take, every }, rows, total } => {
                write!(
                    f,
                    "{rows} rows from row {from}, {take} of each {every}, are not among the tensor's {total} rows"
                )
            }
            PackError::Empty => write!(f, "a weight needs at least one part"),
        }
    }
}

impl std::error::Error for PackError {}

/// Which rows of a tensor are taken, in order: from row `from` on, the first `take` of each `every`.
///
/// Row `i` of what is taken is row `from + i / take * every + i % take` of the tensor. One stretch has `take == every`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowPick {
    /// The first row taken.
    pub from: usize,
    /// Rows taken together; at least one.
    pub take: usize,
    /// Distance between the first rows of two such stretches; at least `take`.
    pub every: usize,
}

impl RowPick {
    /// One stretch of rows from `from`.
    pub fn stretch(from: usize) -> Self {
        RowPick { from, take: usize::MAX, every: usize::MAX }
    }

    #[inline(always)]
    fn row(&self, index: usize) -> usize {
        self.from + index / self.take * self.every + index % self.take
    }

    /// Whether taking `rows` rows stays within a tensor of `total`.
    fn fits(&self, rows: usize, total: usize) -> bool {
        let Some(last) = rows.checked_sub(1) else { return self.from <= total };
        let stretches = (last.checked_div(self.take)).and_then(|stretch| stretch.checked_mul(self.every));
        let row = stretches.and_then(|row| row.checked_add(last % self.take.max(1))?.checked_add(self.from));
        self.take <= self.every && row.is_some_and(|row| row < total)
    }
}

/// Rows of a checkpoint tensor, borrowed: a part of a packed matrix. A row is an output, a column an input.
///
/// The tensor holds rows side by side (row-major) or, transposed, inputs; all of its rows are read, or those of a
/// [`RowPick`]. Nothing is copied before it is packed.
#[derive(Clone, Copy, Debug)]
pub struct WeightRows<'a> {
    bytes: &'a [u8],
    source: SourceType,
    rows: usize,
    columns: usize,
    pick: RowPick,
    /// Place of the first row among those of the pick.
    first_row: usize,
    first_column: usize,
    /// Elements between rows, and between columns, of the whole tensor: one of them is 1.
    row_stride: usize,
    column_stride: usize,
}

impl<'a> WeightRows<'a> {
    /// A whole tensor of `rows` outputs x `columns` inputs, stored `[rows, columns]`.
    ///
    /// # Errors
    /// [`PackError::Length`] if `bytes` is not exactly as long as the shape says.
    pub fn new(bytes: &'a [u8], source: SourceType, rows: usize, columns: usize) -> Result<Self, PackError> {
        let expected_bytes = rows.saturating_mul(columns).saturating_mul(source.bytes());
        if bytes.len() != expected_bytes {
            return Err(PackError::Length { found_bytes: bytes.len(), expected_bytes });
        }
        let (pick, row_stride, column_stride) = (RowPick::stretch(0), columns, 1);
        Ok(WeightRows { bytes, source, rows, columns, pick, first_row: 0, first_column: 0, row_stride, column_stride })
    }

    /// A whole tensor of `rows` outputs x `columns` inputs, stored the other way round: `[columns, rows]`, as GPT-2's
    /// `Conv1D` has it.
    ///
    /// # Errors
    /// [`PackError::Length`] if `bytes` is not exactly as long as the shape says.
    pub fn transposed(bytes: &'a [u8], source: SourceType, rows: usize, columns: usize) -> Result<Self, PackError> {
        let whole = Self::new(bytes, source, rows, columns)?;
        Ok(WeightRows { row_stride: 1, column_stride: rows, ..whole })
    }

    /// `rows` rows of a whole tensor, as `pick` names them.
    ///
    /// # Errors
    /// [`PackError::Rows`] if the pick leaves the tensor's rows, takes none at a time or more than it steps over.
    ///
    /// # Panics
    /// If rows have been chosen before.
    pub fn picked(self, rows: usize, pick: RowPick) -> Result<Self, PackError> {
        assert!(self.pick == RowPick::stretch(0) && self.first_row == 0, "a pick of {self:?}");
        if !pick.fits(rows, self.rows) {
            return Err(PackError::Rows { pick, rows, total: self.rows });
        }
        Ok(WeightRows { rows, pick, ..self })
    }

    /// Some of the rows (outputs): a shard of a column-parallel weight.
    ///
    /// # Panics
    /// If the range leaves the tensor.
    pub fn rows(self, rows: Range<usize>) -> Self {
        assert!(rows.start <= rows.end && rows.end <= self.rows, "{rows:?} of {} rows", self.rows);
        WeightRows { first_row: self.first_row + rows.start, rows: rows.len(), ..self }
    }

    /// Some of the columns (inputs): a shard of a row-parallel weight.
    ///
    /// # Panics
    /// If the range leaves the tensor.
    pub fn columns(self, columns: Range<usize>) -> Self {
        assert!(columns.start <= columns.end && columns.end <= self.columns, "{columns:?} of {}", self.columns);
        WeightRows { first_column: self.first_column + columns.start, columns: columns.len(), ..self }
    }

    /// Number of rows: outputs.
    pub fn num_rows(&self) -> usize {
        self.rows
    }

    /// Number of columns: inputs.
    pub fn num_columns(&self) -> usize {
        self.columns
    }

    /// All elements, row by row, widened to f32: for what is not packed, such as a vector of one column.
    pub fn widened(&self) -> Vec<f32> {
        let elements = (0..self.rows).flat_map(|row| (0..self.columns).map(move |column| (row, column)));
        elements.map(|(row, column)| widen(self.source, self.bytes, self.place(row, column))).collect()
    }

    /// Where an element is, in elements.
    #[inline(always)]
    fn place(&self, row: usize, column: usize) -> usize {
        self.pick.row(self.first_row + row) * self.row_stride + (self.first_column + column) * self.column_stride
    }

    /// The row's bytes, where rows are stored side by side.
    fn row(&self, row: usize) -> &'a [u8] {
        let first = if self.columns == 0 { 0 } else { self.place(row, 0) * self.source.bytes() };
        &self.bytes[first..first + self.columns * self.source.bytes()]
    }
}

/// What fills a lane of a panel: an output's weights.
#[derive(Clone, Copy)]
enum Lane<'a> {
    /// Past the last output.
    Padding,
    /// Side by side.
    Row(SourceType, &'a [u8]),
    /// A column of the part, a transposed tensor: `row` of it.
    Column { part: &'a WeightRows<'a>, row: usize },
}

fn find_lane<'a>(parts: &'a [WeightRows<'a>], mut output: usize) -> Lane<'a> {
    for part in parts {
        if output < part.rows {
            let is_row = part.column_stride == 1 || part.columns == 0;
            let column = Lane::Column { part, row: output };
            return if is_row { Lane::Row(part.source, part.row(output)) } else { column };
        }
        output -= part.rows;
    }
    Lane::Padding
}

/// Inputs that are packed together: their lines stay in the first-level cache while 32 rows are scattered over them.
const BLOCK_INPUTS: usize = 128;

/// Packs the rows from `first_output` into one panel; rows that do not exist are zero.
pub(crate) fn pack_panel(panel: &mut [u8], element: ElementType, parts: &[WeightRows<'_>], first_output: usize) {
    let inputs = panel.len() / element.line_bytes();
    let lanes: [_; LINE_ELEMENTS] = std::array::from_fn(|index| find_lane(parts, first_output + index));
    for first in (0..inputs).step_by(BLOCK_INPUTS) {
        let block = first..inputs.min(first + BLOCK_INPUTS);
        let mut index = 0;
        while index < LINE_ELEMENTS {
            index += pack_lanes(panel, element, &lanes, index, block.clone());
        }
    }
}

/// Packs the inputs `block` of the lane `index`, and of those after it if they are columns of the same tensor; returns
/// how many lanes that were.
fn pack_lanes(panel: &mut [u8], element: ElementType, lanes: &[Lane<'_>], index: usize, block: Range<usize>) -> usize {
    match lanes[index] {
        Lane::Padding => pack_run(panel, element, index, None, block),
        Lane::Row(source, bytes) => pack_run(panel, element, index, Some((source, bytes)), block),
        Lane::Column { part, row } => {
            let is_same =
                |lane: &&Lane<'_>| matches!(lane, Lane::Column { part: other, .. } if std::ptr::eq(*other, part));
            let count = lanes[index..].iter().take_while(is_same).count();
            let columns = Columns { part, first_row: row, lanes: index..index + count };
            columns.pack(panel, element, block);
            return count;
        }
    }
    1
}

/// Neighbouring lanes that are columns of one transposed tensor.
struct Columns<'a> {
    part: &'a WeightRows<'a>,
    /// The part's row that the first lane is.
    first_row: usize,
    lanes: Range<usize>,
}

impl Columns<'_> {
    /// Packs the inputs `block`, walking the tensor as it lies in memory: an input's weights for all lanes, which are
    /// side by side unless rows are picked apart, then the next input's.
    fn pack(&self, panel: &mut [u8], element: ElementType, block: Range<usize>) {
        let first = self.part.place(self.first_row, 0);
        let mut offsets = [0; LINE_ELEMENTS];
        for (index, offset) in offsets[..self.lanes.len()].iter_mut().enumerate() {
            *offset = self.part.place(self.first_row + index, 0) - first;
        }
        let offsets = &offsets[..self.lanes.len()];
        match (element, self.part.source) {
            (ElementType::Bf16, SourceType::Bf16) => {
                self.lines(panel, Bf16::LINE_BYTES, block, offsets, |line, index, bytes, offset| {
                    let at = 2 * paired(index);
                    line[at..at + 2].copy_from_slice(&bytes[2 * offset..2 * offset + 2]);
                });
            }
            (ElementType::Bf16, SourceType::F16) => self.widen::<Bf16>(panel, SourceType::F16, block, offsets),
            (ElementType::Bf16, SourceType::F32) => self.widen::<Bf16>(panel, SourceType::F32, block, offsets),
            (ElementType::F32, SourceType::Bf16) => self.widen::<F32>(panel, SourceType::Bf16, block, offsets),
            (ElementType::F32, SourceType::F16) => self.widen::<F32>(panel, SourceType::F16, block, offsets),
            (ElementType::F32, SourceType::F32) => self.widen::<F32>(panel, SourceType::F32, block, offsets),
        }
    }

    #[inline(always)]
    fn widen<E: Element>(&self, panel: &mut [u8], source: SourceType, block: Range<usize>, offsets: &[usize]) {
        self.lines(panel, E::LINE_BYTES, block, offsets, |line, index, bytes, offset| {
            // SAFETY: `line` is a whole line and `index < 32`.
            unsafe { E::write(line.as_mut_ptr(), index, widen(source, bytes, offset)) };
        });
    }

    /// Gives `write` each line of the block, each lane of it, the bytes from the first lane's weight on, and the
    /// lane's offset in them.
    #[inline(always)]
    fn lines(
        &self,
        panel: &mut [u8],
        line_bytes: usize,
        block: Range<usize>,
        offsets: &[usize],
        write: impl Fn(&mut [u8], usize, &[u8], usize),
    ) {
        let size = self.part.source.bytes();
        let last = offsets.last().map_or(0, |last| (last + 1) * size);
        for input in block {
            let first = self.part.place(self.first_row, input) * size;
            let (line, bytes) = (&mut panel[input * line_bytes..][..line_bytes], &self.part.bytes[first..first + last]);
            for (lane, &offset) in self.lanes.clone().zip(offsets) {
                write(line, lane, bytes, offset);
            }
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
