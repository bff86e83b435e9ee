//! How rows fall to the experts of a model, counted while they are routed.
//!
//! A device counts, a server's metrics read, and a schedule that prefills by layers can tell from the difference of two
//! readings how many weights of experts a step has to read (arXiv 2510.08055, section 3).

use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::{BoundModel, WeightRole};

/// Counters of every layer that has experts. They only grow.
#[derive(Debug)]
pub struct ExpertLoads {
    /// By layer of the model; without experts for a layer that has none.
    layers: Vec<Layer>,
}

/// How rows have fallen to the experts of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerLoad {
    /// The layer.
    pub layer: usize,
    /// Rows that went to each expert, by its number.
    pub rows: Vec<u64>,
    /// Different experts that each step's rows went to, summed over steps: how often an expert's weights were read.
    pub reads: u64,
}

#[derive(Debug, Default)]
struct Layer {
    experts: Vec<Expert>,
    reads: AtomicU64,
}

#[derive(Debug, Default)]
struct Expert {
    rows: AtomicU64,
    /// The number of the last step that has read it, plus 1.
    last_step: AtomicU64,
}

impl ExpertLoads {
    /// Counters for a model; `None` for one without experts.
    pub fn of(model: &BoundModel) -> Option<Self> {
        let mut counts = vec![0; model.num_layers];
        for spec in model.weights.iter().filter(|spec| spec.role == WeightRole::Experts) {
            for layer in spec.layers.iter().flatten() {
                counts[*layer] = spec.experts.unwrap_or(0).max(counts[*layer]);
            }
        }
        let layer =
            |count: &usize| Layer { experts: (0..*count).map(|_| Expert::default()).collect(), ..Layer::default() };
        counts.iter().any(|count| *count > 0).then(|| Self { layers: counts.iter().map(layer).collect() })
    }

    /// Counts a row of step number `step` that goes to the experts of these numbers, each bit for bit a u32.
    pub(crate) fn count(&self, layer: usize, step: u64, chosen: &[f32]) {
        let Some(layer) = self.layers.get(layer) else { return };
        for expert in chosen.iter().filter_map(|number| layer.experts.get(number.to_bits() as usize)) {
            expert.rows.fetch_add(1, Ordering::Relaxed);
            if expert.last_step.swap(step + 1, Ordering::Relaxed) != step + 1 {
                layer.reads.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// The counts so far, of the layers that have experts.
    pub fn snapshot(&self) -> Vec<LayerLoad> {
        let with_experts = self.layers.iter().enumerate().filter(|(_, layer)| !layer.experts.is_empty());
        let load = |(number, layer): (usize, &Layer)| LayerLoad {
            layer: number,
            rows: layer.experts.iter().map(|expert| expert.rows.load(Ordering::Relaxed)).collect(),
            reads: layer.reads.load(Ordering::Relaxed),
        };
        with_experts.map(load).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_reads_an_expert_once_however_many_rows_go_to_it() {
        let loads = ExpertLoads { layers: vec![Layer::default(), with_experts(4)] };
        let to = |experts: [u32; 2]| experts.map(f32::from_bits);
        loads.count(1, 7, &to([0, 3]));
        loads.count(1, 7, &to([3, 1]));
        loads.count(1, 8, &to([3, 9]));
        loads.count(0, 8, &to([0, 1]));
        assert_eq!(loads.snapshot(), [LayerLoad { layer: 1, rows: vec![1, 1, 0, 3], reads: 4 }]);
    }

    fn with_experts(count: usize) -> Layer {
        Layer { experts: (0..count).map(|_| Expert::default()).collect(), ..Layer::default() }
    }
}
