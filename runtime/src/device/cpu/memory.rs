//! Everything that launches read and write.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use trefoil_kernels::cpu::{RopeTable, alibi_slopes, inverse_frequencies};

use super::arena::{Arena, RowLimits};
use super::bell::lock;
use super::cache::{Caches, PageShape};
use super::convert;
use crate::executor::Slot;
use crate::expert_loads::ExpertLoads;
use crate::launch::{BufferId, RopeRef, TokenSource};
use crate::model::{BoundModel, BufferSpec, RopeSpec};
use crate::weights::Weights;

/// How large the parts of the memory are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemorySizes {
    /// Most rows of a step.
    pub max_num_batched_tokens: usize,
    /// Most sequences of a step, which is the number of slots and of rows of logits.
    pub max_num_seqs: usize,
    /// Longest sequence, in tokens.
    pub max_model_len: usize,
    /// How KV pages are stored.
    pub page_shape: PageShape,
    /// KV pages.
    pub num_pages: usize,
}

/// The device's memory, allocated once.
#[derive(Debug)]
pub struct Memory {
    pub(super) weights: Weights,
    pub(super) arena: Arena,
    pub(super) caches: Caches,
    ropes: Vec<RopeTable>,
    /// ALiBi's slopes by number of heads, as launches have asked for them.
    slopes: Mutex<BTreeMap<usize, Arc<[f32]>>>,
    pub(super) loads: Option<Arc<ExpertLoads>>,
    /// The token last sampled in each slot. Launches are ordered by their streams and events; the cells need no order
    /// of their own.
    sampled: Vec<AtomicU32>,
}

impl Memory {
    /// Allocates buffers for all plans, and gives their ids plan by plan. `None` when the system refuses.
    pub fn new(
        model: &BoundModel,
        weights: Weights,
        plans: &[Vec<BufferSpec>],
        sizes: &MemorySizes,
    ) -> Option<(Self, Vec<Vec<BufferId>>)> {
        let limits = RowLimits { max_num_tokens: sizes.max_num_batched_tokens, max_num_seqs: sizes.max_num_seqs };
        let (arena, buffers) = Arena::new(plans, limits)?;
        let memory = Self {
            weights,
            arena,
            caches: Caches::new(&model.caches, sizes.page_shape, sizes.num_pages)?,
            ropes: model.ropes.iter().map(|spec| rope_table(spec, sizes.max_model_len)).collect(),
            slopes: Mutex::default(),
            loads: ExpertLoads::of(model).map(Arc::new),
            sampled: (0..sizes.max_num_seqs).map(|_| AtomicU32::new(0)).collect(),
        };
        Some((memory, buffers))
    }

    /// Bytes of activation buffers.
    pub fn buffer_bytes(&self) -> usize {
        self.arena.num_bytes()
    }

    /// Bytes of KV pages.
    pub fn kv_bytes(&self) -> usize {
        self.caches.num_bytes()
    }

    /// Bytes of packed weights.
    pub fn weight_bytes(&self) -> usize {
        self.weights.num_bytes()
    }

    pub(super) fn rope(&self, rope: RopeRef) -> &RopeTable {
        &self.ropes[usize::from(rope.0)]
    }

    pub(super) fn slopes(&self, heads: usize) -> Arc<[f32]> {
        lock(&self.slopes).entry(heads).or_insert_with(|| alibi_slopes(heads).into()).clone()
    }

    pub(super) fn token(&self, source: TokenSource) -> u32 {
        match source {
            TokenSource::Known(token) => token,
            TokenSource::LastSampled(slot) => self.sampled[slot.0 as usize].load(Ordering::Relaxed),
        }
    }

    pub(super) fn set_sampled(&self, slot: Slot, token: u32) {
        self.sampled[slot.0 as usize].store(token, Ordering::Relaxed);
    }
}

fn rope_table(spec: &RopeSpec, max_positions: usize) -> RopeTable {
    let mut frequencies = inverse_frequencies(spec.rotary, spec.theta);
    let (scaling, attention) = convert::scaling(spec.scaling);
    scaling.apply(spec.theta, &mut frequencies);
    RopeTable::new(&frequencies, convert::pairs(spec.pairs), attention, max_positions)
}
