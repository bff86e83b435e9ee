//! Packs checked tensors with all threads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use memmap2::Mmap;
use trefoil_kernels::cpu::{ElementType, PackError, PackedMatrix, Panels, SourceType, WeightRows};

use super::check::source_type;
use super::form::Form;
use super::layout::{Entry, Kind, Layout, ResolvedPiece};
use super::mapped::map;
use super::shards::{Shard, Shards};
use super::{LoadOptions, Rank, Weight, WeightFault, Weights, WeightsError};

/// Bytes that a thread packs between two looks at the list: small enough to share out the last matrix evenly.
const RUN_BYTES: usize = 4 << 20;

/// What the rank reads of a tensor.
enum Source<'a> {
    /// In the file.
    Stored(SourceType, WeightRows<'a>),
    /// Numbers of `columns` columns that follow from the file's: they are wider than it, so they are f32.
    Made { bytes: Vec<u8>, columns: usize },
}

/// A matrix that is packed: the number of the layout's entry, and the expert of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct At {
    pub(super) entry: usize,
    pub(super) expert: usize,
}

/// Packs everything that `layout` names; `check` has passed it.
pub(super) fn pack(shards: &Shards, layout: &Layout, options: LoadOptions<'_>) -> Result<Weights, WeightsError> {
    let failed = |fault| WeightsError { dir: shards.dir.clone(), faults: vec![fault] };
    let maps = shards.files.iter().map(map_shard).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let read = |entry: &Entry| {
        let sources = sources(shards, &maps, entry, options.rank);
        sources.map_err(|error| failed(unpackable(shards, entry, &error)))
    };
    let sources = layout.entries.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let entries = layout.entries.iter().zip(&sources);
    let mut weights: Vec<Weight> = entries.map(|(entry, sources)| reserve(entry, sources, options)).collect();
    fill(&mut weights, options.num_threads, options.progress, |at, panels| {
        let parts = sources[at.entry][at.expert].iter().map(Source::rows);
        panels.pack(&parts.collect::<Result<Vec<_>, _>>()?)
    })
    .map_err(|(at, error)| failed(unpackable(shards, &layout.entries[at.entry], &error)))?;
    Ok(Weights::place(layout, weights))
}

/// Fills the panels of all matrices with `num_threads` threads. On failure, the matrix and the first error.
pub(super) fn fill(
    weights: &mut [Weight],
    num_threads: usize,
    progress: &(dyn Fn(u64, u64) + Sync),
    fill: impl Fn(At, &mut Panels<'_>) -> Result<(), PackError> + Sync,
) -> Result<(), (At, PackError)> {
    let total = weights.iter().map(|weight| weight.num_bytes() as u64).sum();
    let matrices = weights.iter_mut().enumerate().flat_map(|(entry, weight)| {
        weight.matrices_mut().iter_mut().enumerate().map(move |(expert, matrix)| (At { entry, expert }, matrix))
    });
    let runs: Vec<_> = matrices.flat_map(|(at, matrix)| runs(at, matrix)).collect();
    let (runs, done, first_error) = (Mutex::new(runs.into_iter()), AtomicU64::new(0), Mutex::new(None));
    let work = || {
        while let Some((at, num_bytes, mut panels)) = next(&runs) {
            if let Err(error) = fill(at, &mut panels) {
                first_error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert((at, error));
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

type Run<'a> = (At, u64, Panels<'a>);

fn next<'a>(runs: &Mutex<impl Iterator<Item = Run<'a>>>) -> Option<Run<'a>> {
    runs.lock().unwrap_or_else(PoisonError::into_inner).next()
}

/// The runs of panels of one matrix, with their bytes.
fn runs(at: At, matrix: &mut PackedMatrix) -> Vec<Run<'_>> {
    let panel_bytes = matrix.bytes() / matrix.num_panels().max(1);
    let per_run = (RUN_BYTES / panel_bytes.max(1)).max(1);
    let num_panels = matrix.num_panels();
    let bytes = move |run: usize| ((num_panels - run * per_run).min(per_run) * panel_bytes) as u64;
    matrix.panels_mut(per_run).enumerate().map(|(run, panels)| (at, bytes(run), panels)).collect()
}

fn map_shard(shard: &Shard) -> Result<Mmap, WeightFault> {
    map(&shard.file).map_err(|error| WeightFault::Unreadable { file: shard.name.clone(), what: error.to_string() })
}

/// What is read of an entry's tensors, by expert. All were found and usable when they were checked.
fn sources<'a>(
    shards: &Shards,
    maps: &'a [Mmap],
    entry: &Entry,
    rank: Rank,
) -> Result<Vec<Vec<Source<'a>>>, PackError> {
    let source = |piece: &ResolvedPiece| {
        let tensor = shards.get(&piece.tensor)?;
        let bytes = maps.get(tensor.shard)?.get(tensor.first_byte..tensor.first_byte + tensor.num_bytes)?;
        let element = source_type(tensor.dtype)?;
        Some(Form::new(entry, piece, rank).rows(bytes, element).map(|rows| Source::new(piece, element, rows)))
    };
    entry.experts.iter().map(|pieces| pieces.iter().filter_map(source).collect()).collect()
}

impl<'a> Source<'a> {
    fn new(piece: &ResolvedPiece, element: SourceType, rows: WeightRows<'a>) -> Self {
        let plus = piece.plus();
        if plus == 0.0 {
            return Source::Stored(element, rows);
        }
        let bytes = rows.widened().into_iter().flat_map(|number| (number + plus).to_le_bytes()).collect();
        Source::Made { bytes, columns: rows.num_columns() }
    }

    fn element(&self) -> SourceType {
        match self {
            Source::Stored(element, _) => *element,
            Source::Made { .. } => SourceType::F32,
        }
    }

    fn rows(&self) -> Result<WeightRows<'_>, PackError> {
        match self {
            Source::Stored(_, rows) => Ok(*rows),
            Source::Made { bytes, columns } => {
                let num_rows = (bytes.len() / SourceType::F32.bytes()).checked_div(*columns).unwrap_or(0);
                WeightRows::new(bytes, SourceType::F32, num_rows, *columns)
            }
        }
    }

    fn numbers(&self) -> Vec<f32> {
        self.rows().map(|rows| rows.widened()).unwrap_or_default()
    }
}

/// A matrix of zeros to be packed into, or a vector at once. A matrix of several types takes the widest, and so do all
/// experts if one does.
fn reserve(entry: &Entry, sources: &[Vec<Source<'_>>], options: LoadOptions<'_>) -> Weight {
    let is_wide = |source: &Source<'_>| options.dtype.element(source.element()) == ElementType::F32;
    let element = if sources.iter().flatten().any(is_wide) { ElementType::F32 } else { ElementType::Bf16 };
    let matrix = || PackedMatrix::new(entry.rows(), entry.columns, element);
    match entry.kind {
        Kind::Matrix => Weight::Matrix(matrix()),
        Kind::ExpertMatrices => Weight::Experts(sources.iter().map(|_| matrix()).collect()),
        Kind::Vector => Weight::Vector(sources.iter().flatten().flat_map(Source::numbers).collect()),
    }
}

fn unpackable(shards: &Shards, entry: &Entry, error: &PackError) -> WeightFault {
    let tensor = entry.pieces().next().map(|piece| piece.tensor.as_str()).unwrap_or_default();
    let file = shards.get(tensor).map(|tensor| shards.files[tensor.shard].name.clone()).unwrap_or_default();
    WeightFault::Malformed { file, what: format!("`{tensor}`: {error}") }
}
