//! Runs sequences through a compiled model step by step, in any cut and company, and collects their logits.

use std::path::Path;

use trefoil::registry;
use trefoil_runtime::checkpoint::Config;
use trefoil_runtime::compiled::{CompiledExecutor, ExecutorOptions, PlanChoice};
use trefoil_runtime::device::cpu::CpuDevice;
use trefoil_runtime::executor::{Capacity, Executor, Input, PageIndex, Part, Slot, Step};
use trefoil_runtime::weights::{self, LoadOptions, WeightDtype};

/// How a model is held for a test.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The plan.
    pub plan: &'static str,
    /// Type of the weights, and of the KV cache with them.
    pub dtype: WeightDtype,
    /// Threads of a whole-device stream.
    pub num_threads: usize,
    /// Bytes of the KV pool.
    pub kv_memory_bytes: usize,
}

impl Setting {
    /// One thread, the checkpoint's own type, and room for every sequence of these tests.
    pub fn plain(plan: &'static str) -> Self {
        Self { plan, dtype: WeightDtype::Auto, num_threads: 1, kv_memory_bytes: 16 << 20 }
    }
}

/// The compiled model of the checkpoint in `folder`.
///
/// # Panics
/// If the checkpoint cannot be served: this is a test's tool.
pub fn executor(folder: &Path, setting: &Setting) -> CompiledExecutor {
    let config = Config::open(folder).expect("a config.json");
    let model = registry::find::<CpuDevice>(&config, None).expect("a graph that serves it");
    let bound = (model.bind)(&config).expect("a config that the graph serves");
    let tied = config.get("tie_word_embeddings").and_then(|tied| tied.as_bool()).unwrap_or(false);
    let load = LoadOptions { tied, names: bound.names, dtype: setting.dtype, ..LoadOptions::default() };
    let weights = weights::load(folder, &bound.weights, load).expect("weights as the graph expects them").weights;
    let options = ExecutorOptions {
        max_num_batched_tokens: 512,
        max_num_seqs: 512,
        max_model_len: 256,
        kv_memory_bytes: Some(setting.kv_memory_bytes),
        plan: PlanChoice::Named(setting.plan.to_owned()),
        num_threads: Some(setting.num_threads),
        ..ExecutorOptions::default()
    };
    CompiledExecutor::new(&model, bound, weights, &options, None).expect("an executor")
}

/// A sequence and the sizes of the chunks it comes in; a chunk of one token that is not the first is a decode.
#[derive(Debug, Clone)]
pub struct Cut {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// Sizes, which add up to the number of tokens.
    pub chunks: Vec<usize>,
}

impl Cut {
    /// The sequence in one chunk.
    pub fn whole(tokens: &[u32]) -> Self {
        Self { tokens: tokens.to_vec(), chunks: vec![tokens.len()] }
    }

    /// A first chunk of `prefill` tokens, then single tokens.
    pub fn decoded(tokens: &[u32], prefill: usize) -> Self {
        let decodes = std::iter::repeat_n(1, tokens.len() - prefill);
        Self { tokens: tokens.to_vec(), chunks: std::iter::once(prefill).chain(decodes).collect() }
    }

    /// Chunks of `size` tokens, the last one perhaps shorter.
    pub fn chunked(tokens: &[u32], size: usize) -> Self {
        Self { tokens: tokens.to_vec(), chunks: tokens.chunks(size).map(<[u32]>::len).collect() }
    }
}

/// Logits of every position of every sequence, `[tokens, vocab]` each. Step `n` runs chunk `n` of each sequence that
/// has one.
///
/// # Panics
/// If the device reports a fault.
pub fn logits(executor: &mut CompiledExecutor, cuts: &[Cut]) -> Vec<Vec<f32>> {
    let vocab = executor.capacity().vocab;
    let pages = page_tables(&executor.capacity(), cuts);
    let mut collected = vec![Vec::new(); cuts.len()];
    let num_steps = cuts.iter().map(|cut| cut.chunks.len()).max().unwrap_or(0);
    for number in 0..num_steps {
        let mut parts: Vec<_> =
            cuts.iter().enumerate().filter_map(|(index, cut)| part(index, cut, number, &pages[index])).collect();
        // Decodes come first; the order among equals stays.
        parts.sort_by_key(|(_, part)| !is_decode(part));
        let num_decodes = parts.iter().filter(|(_, part)| is_decode(part)).count();
        let owners: Vec<_> = parts.iter().map(|(index, part)| (*index, part.num_tokens())).collect();
        let step = Step { parts: parts.into_iter().map(|(_, part)| part).collect(), num_decodes };
        let rows: Vec<u32> = (0..step.num_tokens() as u32).collect();
        let logits = executor.logits(&step, &rows).unwrap_or_else(|fault| panic!("{fault}"));
        let mut left = logits.as_slice();
        for (index, num_tokens) in owners {
            let (own, rest) = left.split_at(num_tokens * vocab);
            collected[index].extend_from_slice(own);
            left = rest;
        }
    }
    collected
}

fn is_decode(part: &Part) -> bool {
    part.num_tokens() == 1 && part.position > 0
}

fn part(index: usize, cut: &Cut, number: usize, pages: &[PageIndex]) -> Option<(usize, Part)> {
    let size = *cut.chunks.get(number)?;
    let position = cut.chunks[..number].iter().sum();
    let part = Part {
        slot: Slot(index as u32),
        input: Input::Known(cut.tokens[position..position + size].to_vec()),
        position,
        pages: pages.to_vec(),
        sample: None,
    };
    Some((index, part))
}

/// Pages of its own for each sequence, scattered over the pool.
fn page_tables(capacity: &Capacity, cuts: &[Cut]) -> Vec<Vec<PageIndex>> {
    let counts = cuts.iter().map(|cut| cut.tokens.len().div_ceil(capacity.page_tokens));
    let (needed, pool) = (counts.clone().sum::<usize>(), capacity.num_pages);
    assert!(needed <= pool, "the sequences need {needed} pages of {pool}: give the test more memory");
    // Steps of a size that has no common factor with the pool's go through all pages.
    let stride = [7, 11, 13, 17].into_iter().find(|stride| !pool.is_multiple_of(*stride)).expect("a stride");
    let mut scattered = (0..pool).map(|number| PageIndex((number * stride % pool) as u32));
    counts.map(|count| scattered.by_ref().take(count).collect()).collect()
}
