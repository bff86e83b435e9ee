//! Packs checked tensors with all threads.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use half::{bf16, f16};
use memmap2::Mmap;
use trefoil_kernels::cpu::{ElementType, PackError, PackedMatrix, Panels, SourceType, WeightRows};

use super::check::source_type;
use super::layout::{Entry, Layout};
use super::mapped::map;
use super::part;
use super::shards::{Shard, Shards};
use super::{LoadOptions, Rank, Weight, WeightFault, Weights, WeightsError};

/// Bytes that a thread packs between two looks at the list: small enough to share out the last matrix evenly.
const RUN_BYTES: usize = 4 << 20;

/// The bytes of a tensor, or of the rank's part of it, and how to read them.
struct Source<'a> {
    bytes: Cow<'a, [u8]>,
    element: SourceType,
    rows: usize,
}

/// Packs everything that `layout` names; `check` has passed it.
pub(super) fn pack(shards: &Shards, layout: &Layout, options: LoadOptions<'_>) -> Result<Weights, WeightsError> {
    let failed = |fault| WeightsError { dir: shards.dir.clone(), faults: vec![fault] };
    let maps = shards.files.iter().map(map_shard).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let sources: Vec<Vec<Source<'_>>> =
        layout.entries.iter().map(|entry| sources(shards, &maps, entry, options.rank)).collect();
    let entries = layout.entries.iter().zip(&sources);
    let mut weights: Vec<Weight> = entries.map(|(entry, sources)| reserve(entry, sources, options)).collect();
    fill(&mut weights, options.num_threads, options.progress, |index, panels| {
        panels.pack(&parts(&layout.entries[index], &sources[index])?)
    })
    .map_err(|(index, error)| failed(unpackable(shards, &layout.entries[index], &error)))?;
    Ok(Weights::place(layout, weights))
}

/// Fills the panels of all matrices with `num_threads` threads. On failure, the matrix's index and the first error.
pub(super) fn fill(
    weights: &mut [Weight],
    num_threads: usize,
    progress: &(dyn Fn(u64, u64) + Sync),
    fill: impl Fn(usize, &mut Panels<'_>) -> Result<(), PackError> + Sync,
) -> Result<(), (usize, PackError)> {
    let total = weights.iter().map(|weight| weight.num_bytes() as u64).sum();
    let runs: Vec<_> = weights.iter_mut().enumerate().flat_map(|(index, weight)| runs(index, weight)).collect();
    let (runs, done, first_error) = (Mutex::new(runs.into_iter()), AtomicU64::new(0), Mutex::new(None));
    let work = || {
        while let Some((index, num_bytes, mut panels)) = next(&runs) {
            if let Err(error) = fill(index, &mut panels) {
                first_error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert((index, error));
            }
            progress(done.fetch_add(num_bytes, Ordering::Relaxed) + num_bytes, total);
        }
    };
    thread::scope(|scope| {
        (1..num_threads).for_each(|_| drop(scope.spawn(work)));
        work();
    });
    progress(total, total);
    first_error.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

type Run<'a> = (usize, u64, Panels<'a>);

fn next<'a>(runs: &Mutex<impl Iterator<Item = Run<'a>>>) -> Option<Run<'a>> {
    runs.lock().unwrap_or_else(PoisonError::into_inner).next()
}

/// The runs of panels of one matrix, with their bytes.
fn runs(index: usize, weight: &mut Weight) -> Vec<Run<'_>> {
    let Weight::Matrix(matrix) = weight else { return Vec::new() };
    let panel_bytes = matrix.bytes() / matrix.num_panels().max(1);
    let per_run = (RUN_BYTES / panel_bytes.max(1)).max(1);
    let num_panels = matrix.num_panels();
    let bytes = move |run: usize| ((num_panels - run * per_run).min(per_run) * panel_bytes) as u64;
    matrix.panels_mut(per_run).enumerate().map(|(run, panels)| (index, bytes(run), panels)).collect()
}

fn map_shard(shard: &Shard) -> Result<Mmap, WeightFault> {
    map(&shard.file).map_err(|error| WeightFault::Unreadable { file: shard.name.clone(), what: error.to_string() })
}

/// The bytes of an entry's tensors. All were found and usable when they were checked.
fn sources<'a>(shards: &Shards, maps: &'a [Mmap], entry: &Entry, rank: Rank) -> Vec<Source<'a>> {
    let source = |piece: &super::layout::ResolvedPiece| {
        let tensor = shards.get(&piece.tensor)?;
        let bytes = maps.get(tensor.shard)?.get(tensor.first_byte..tensor.first_byte + tensor.num_bytes)?;
        let bytes = part::bytes(bytes, tensor, entry.part, rank);
        Some(Source { bytes, element: source_type(tensor.dtype)?, rows: piece.rows })
    };
    entry.pieces.iter().filter_map(source).collect()
}

/// A matrix of zeros to be packed into, or a vector at once. A matrix of several types takes the widest.
fn reserve(entry: &Entry, sources: &[Source<'_>], options: LoadOptions<'_>) -> Weight {
    if entry.is_vector {
        return Weight::Vector(sources.iter().flat_map(widen).collect());
    }
    let is_wide = |source: &Source<'_>| options.dtype.element(source.element) == ElementType::F32;
    let element = if sources.iter().any(is_wide) { ElementType::F32 } else { ElementType::Bf16 };
    Weight::Matrix(PackedMatrix::new(entry.rows(), entry.columns, element))
}

fn parts<'a>(entry: &Entry, sources: &'a [Source<'_>]) -> Result<Vec<WeightRows<'a>>, PackError> {
    sources.iter().map(|source| WeightRows::new(&source.bytes, source.element, source.rows, entry.columns)).collect()
}

fn widen(source: &Source<'_>) -> Vec<f32> {
    let pairs = || source.bytes.chunks_exact(2).map(|pair| [pair[0], pair[1]]);
    match source.element {
        SourceType::Bf16 => pairs().map(|bytes| bf16::from_le_bytes(bytes).to_f32()).collect(),
        SourceType::F16 => pairs().map(|bytes| f16::from_le_bytes(bytes).to_f32()).collect(),
        SourceType::F32 => {
            source.bytes.chunks_exact(4).map(|quad| f32::from_le_bytes([quad[0], quad[1], quad[2], quad[3]])).collect()
        }
    }
}

fn unpackable(shards: &Shards, entry: &Entry, error: &PackError) -> WeightFault {
    let tensor = entry.pieces.first().map(|piece| piece.tensor.as_str()).unwrap_or_default();
    let file = shards.get(tensor).map(|tensor| shards.files[tensor.shard].name.clone()).unwrap_or_default();
    WeightFault::Malformed { file, what: format!("`{tensor}`: {error}") }
}
