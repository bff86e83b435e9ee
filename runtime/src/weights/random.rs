//! Weights out of nothing, for measurements: right shapes, meaningless numbers.

use trefoil_kernels::cpu::{ElementType, PackedMatrix};

use super::layout::{Entry, Kind, Layout};
use super::pack::fill;
use super::{LoadOptions, Weight, WeightDtype, Weights};
use crate::model::WeightSpec;

/// Uniform matrices with the variance that keeps activations in range, and vectors of ones. A function of the specs,
/// the type and the seed; [`WeightDtype::Auto`] is bfloat16.
pub fn random(specs: &[WeightSpec], options: LoadOptions<'_>, seed: u64) -> Weights {
    let layout = Layout::new(specs, "", |_| options.tied);
    let element = match options.dtype {
        WeightDtype::Auto | WeightDtype::Bfloat16 => ElementType::Bf16,
        WeightDtype::Float32 => ElementType::F32,
    };
    let mut weights: Vec<Weight> = layout.entries.iter().map(|entry| reserve(entry, element)).collect();
    // A number of its own for each matrix, experts counted one by one.
    let firsts: Vec<u64> = layout
        .entries
        .iter()
        .scan(0, |next, entry| {
            let first = *next;
            *next += entry.experts.len() as u64;
            Some(first)
        })
        .collect();
    // Filling with numbers cannot fail.
    let _ = fill(&mut weights, options.num_threads, options.progress, |at, panels| {
        // A uniform variable on -s..s has variance s²/3; 1/columns keeps a product's variance.
        let scale = (3.0 / layout.entries[at.entry].columns.max(1) as f32).sqrt();
        panels.fill_random(seed.wrapping_add(firsts[at.entry] + at.expert as u64), scale);
        Ok(())
    });
    Weights::place(&layout, weights)
}

fn reserve(entry: &Entry, element: ElementType) -> Weight {
    let matrix = || PackedMatrix::new(entry.rows(), entry.columns, element);
    match entry.kind {
        Kind::Matrix => Weight::Matrix(matrix()),
        Kind::ExpertMatrices => Weight::Experts(entry.experts.iter().map(|_| matrix()).collect()),
        Kind::Vector => Weight::Vector(vec![1.0; entry.experts.len() * entry.columns]),
    }
}
