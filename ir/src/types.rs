//! Types of values: an element type and symbolic sizes.

use std::fmt;

use crate::dim::Dim;

/// What the elements of a tensor are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Element {
    /// The type the device computes activations in.
    Model,
    /// 32-bit integers: ids, positions and row numbers.
    I32,
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Element::Model => "model",
            Element::I32 => "i32",
        })
    }
}

/// A tensor's type; rows first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorType {
    /// Its elements.
    pub element: Element,
    /// Its sizes.
    pub shape: Vec<Dim>,
}

impl TensorType {
    /// A matrix of activations with one row per token of the dense batch.
    pub fn model(shape: impl Into<Vec<Dim>>) -> Self {
        Self { element: Element::Model, shape: shape.into() }
    }

    /// The last size: elements of one row.
    pub fn columns(&self) -> Option<&Dim> {
        self.shape.get(1)
    }
}
