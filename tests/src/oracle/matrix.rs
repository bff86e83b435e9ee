//! Matrices of f64, row by row, with the few operations an interpreter needs.

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

    /// With `row` (a matrix of one row) added to each row.
    pub fn plus_row(&self, row: &Self) -> Self {
        self.map_rows(|_, own| own.iter().zip(&row.data).map(|(a, b)| a + b).collect())
    }
}

/// The scalar product.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
