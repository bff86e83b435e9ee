//! Matrices of f64, row by row, with the few operations an interpreter needs.

use std::ops::Range;

/// A matrix, rows first.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    columns: usize,
    data: Vec<f64>,
}

impl Matrix {
    /// A matrix of `rows` × `columns` elements.
    ///
    /// # Panics
    /// If `data` has another number of elements.
    pub fn new(rows: usize, columns: usize, data: Vec<f64>) -> Self {
        assert_eq!(rows * columns, data.len());
        Self { columns, data }
    }

    /// Rows that nobody has given: all NaN.
    pub fn missing(rows: usize, columns: usize) -> Self {
        Self::new(rows, columns, vec![f64::NAN; rows * columns])
    }

    /// The elements, row by row.
    pub fn elements(&self) -> &[f64] {
        &self.data
    }

    /// Number of rows.
    pub fn num_rows(&self) -> usize {
        self.data.len() / self.columns
    }

    /// Number of columns.
    pub fn num_columns(&self) -> usize {
        self.columns
    }

    /// All rows.
    pub fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.data.chunks(self.columns)
    }

    /// One row.
    pub fn row(&self, row: usize) -> &[f64] {
        &self.data[row * self.columns..(row + 1) * self.columns]
    }

    /// One column, as whole numbers.
    pub fn column(&self, column: usize) -> Vec<usize> {
        self.rows().map(|row| row[column] as usize).collect()
    }

    /// The rows of these numbers.
    pub fn rows_at(&self, rows: &[usize]) -> Self {
        Self { columns: self.columns, data: rows.iter().flat_map(|&row| self.row(row)).copied().collect() }
    }

    /// A stretch of rows.
    pub fn stretch(&self, rows: Range<usize>) -> Self {
        Self { columns: self.columns, data: self.data[rows.start * self.columns..rows.end * self.columns].to_vec() }
    }

    /// Puts rows in place of those from `first` on. Rows between the old ones and the new are NaN.
    pub fn put(&mut self, first: usize, rows: &Self) {
        assert_eq!(self.columns, rows.columns);
        let (start, end) = (first * self.columns, (first * self.columns) + rows.data.len());
        if self.data.len() < end {
            self.data.resize(end, f64::NAN);
        }
        self.data[start..end].copy_from_slice(&rows.data);
    }

    /// The columns of `self`, then those of `other`.
    pub fn beside(&self, other: &Self) -> Self {
        assert_eq!(self.num_rows(), other.num_rows());
        let data = self.rows().zip(other.rows()).flat_map(|(a, b)| [a, b].concat()).collect();
        Self { columns: self.columns + other.columns, data }
    }

    /// Bit by bit.
    pub fn is_same(&self, other: &Self) -> bool {
        let bits = |matrix: &Self| matrix.data.iter().map(|element| element.to_bits()).collect::<Vec<_>>();
        self.columns == other.columns && bits(self) == bits(other)
    }

    /// The largest difference between two elements; NaN where there is one.
    pub fn largest_difference(&self, other: &Self) -> f64 {
        let differences = self.zip(other, |a, b| (a - b).abs());
        let largest = |most: f64, own: &f64| if own.is_nan() || *own > most { *own } else { most };
        differences.data.iter().fold(0.0, largest)
    }

    /// A window of the columns.
    pub fn columns(&self, from: usize, width: usize) -> Self {
        Self { columns: width, data: self.rows().flat_map(|row| &row[from..from + width]).copied().collect() }
    }

    /// Element by element.
    pub fn zip(&self, other: &Self, f: impl Fn(f64, f64) -> f64) -> Self {
        assert_eq!((self.columns, self.data.len()), (other.columns, other.data.len()));
        let data = self.data.iter().zip(&other.data).map(|(&a, &b)| f(a, b)).collect();
        Self { columns: self.columns, data }
    }

    /// Row by row.
    pub fn map_rows(&self, f: impl Fn(usize, &[f64]) -> Vec<f64>) -> Self {
        let data: Vec<f64> = self.rows().enumerate().flat_map(|(number, row)| f(number, row)).collect();
        Self { columns: data.len() / self.num_rows().max(1), data }
    }

    /// `self · otherᵀ`.
    pub fn times_transposed(&self, other: &Self) -> Self {
        assert_eq!(self.columns, other.columns);
        self.map_rows(|_, row| other.rows().map(|weights| dot(row, weights)).collect())
    }

    /// Each element by itself.
    pub fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        Self { columns: self.columns, data: self.data.iter().map(|&element| f(element)).collect() }
    }

    /// Columns as rows.
    pub fn transposed(&self) -> Self {
        let rows = self.num_rows();
        let data = (0..self.columns).flat_map(|column| self.rows().map(move |row| row[column])).collect();
        Self { columns: rows, data }
    }

    /// With `row` (a matrix of one row) added to each row.
    pub fn plus_row(&self, row: &Self) -> Self {
        self.map_rows(|_, own| own.iter().zip(&row.data).map(|(a, b)| a + b).collect())
    }
}

/// The scalar product.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
