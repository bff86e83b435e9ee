//! How rows fall to experts, counted while they are routed.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::executor::LayerLoad;
use crate::model::{BoundModel, WeightRole};

/// Counters of every layer with experts.
#[derive(Debug)]
pub(super) struct ExpertLoads {
    /// By layer of the model; empty for a layer without experts.
    layers: Vec<Layer>,
}

#[derive(Debug, Default)]
struct Layer {
    experts: Vec<Expert>,
    /// How often a step read one of the experts.
    reads: AtomicU64,
}

#[derive(Debug, Default)]
struct Expert {
    rows: AtomicU64,
    /// The number of the last step that has read it, plus 1.
    last_step: AtomicU64,
}

impl ExpertLoads {
    pub(super) fn new(model: &BoundModel) -> Self {
        let mut counts = vec![0; model.num_layers];
        for spec in model.weights.iter().filter(|spec| spec.role == WeightRole::Experts) {
            for layer in spec.layers.iter().flatten() {
                counts[*layer] = spec.experts.unwrap_or(0).max(counts[*layer]);
            }
        }
        let layer = |count| Layer { experts: (0..count).map(|_| Expert::default()).collect(), ..Layer::default() };
        Self { layers: counts.into_iter().map(layer).collect() }
    }

    /// Counts a row that goes to the experts of these numbers, each bit for bit a u32.
    pub(super) fn count(&self, layer: usize, step: u64, chosen: &[f32]) {
        let Some(layer) = self.layers.get(layer) else { return };
        for expert in chosen.iter().filter_map(|number| layer.experts.get(number.to_bits() as usize)) {
            expert.rows.fetch_add(1, Ordering::Relaxed);
            if expert.last_step.swap(step + 1, Ordering::Relaxed) != step + 1 {
                layer.reads.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// The counts so far, of the layers that have experts.
    pub(super) fn snapshot(&self) -> Vec<LayerLoad> {
        let with_experts = self.layers.iter().enumerate().filter(|(_, layer)| !layer.experts.is_empty());
        let load = |(number, layer): (usize, &Layer)| LayerLoad {
            layer: number,
            rows: layer.experts.iter().map(|expert| expert.rows.load(Ordering::Relaxed)).collect(),
            reads: layer.reads.load(Ordering::Relaxed),
        };
        with_experts.map(load).collect()
    }
}
