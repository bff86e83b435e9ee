//! Linear layers and attention as shares of this machine's limits, measured in the same run.
//!
//! `cargo bench -p trefoil-kernels [-- THREADS]`. Weights and caches are cycled through more memory than the last-level
//! cache holds, so that streaming kernels are compared with memory, not with cache. A limit is the best of its rounds, a
//! kernel's time the median.
#![allow(unsafe_code, reason = "cache pages are raw memory, and the arithmetic limit needs intrinsics")]

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use trefoil_kernels::cpu::{
    ElementType, KvPages, MatMut, MatRef, PackedMatrix, Scores, Span, attention, attention_items, isa, linear,
    linear_items,
};

const ROUNDS: usize = 5;
/// Memory that weights cycle through.
const CYCLED_BYTES: usize = 1 << 30;
const INPUTS: usize = 2048;
const OUTPUTS: usize = 5632;

/// What the machine can do with this many threads.
struct Limits {
    bytes_per_second: f64,
    flops: f64,
}

fn main() {
    let threads = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(2);
    let limits = Limits { bytes_per_second: read_bandwidth(threads), flops: arithmetic_peak(threads) };
    println!(
        "{:?}, {threads} threads: read {:.1} GB/s, f32 {:.0} GFLOP/s",
        isa(),
        limits.bytes_per_second / 1e9,
        limits.flops / 1e9
    );
    for element in [ElementType::Bf16, ElementType::F32] {
        bench_linear(element, threads, &limits);
    }
    bench_decode(threads, &limits);
    bench_prefill(threads, &limits);
}

/// Sorted seconds of `ROUNDS` calls after one to warm up.
fn time_rounds(mut round: impl FnMut()) -> Vec<f64> {
    round();
    let mut seconds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            round();
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds
}

fn median_seconds(round: impl FnMut()) -> f64 {
    time_rounds(round)[ROUNDS / 2]
}

/// For limits: what the machine can do is what it did when least disturbed.
fn best_seconds(round: impl FnMut()) -> f64 {
    time_rounds(round)[0]
}

/// Runs `work` on items `0..count`, claimed one by one by `threads` threads.
fn on_threads(threads: usize, count: usize, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let item = next.fetch_add(1, Ordering::Relaxed);
                    if item >= count {
                        return;
                    }
                    work(item);
                }
            });
        }
    });
}

fn report(what: &str, seconds: f64, bytes: f64, flops: f64, limits: &Limits) {
    let floor = (bytes / limits.bytes_per_second).max(flops / limits.flops);
    println!(
        "{what:<34} {:>9.3} ms {:>6.1} GB/s ({:>3.0} %) {:>6.0} GFLOP/s ({:>3.0} %) {:>4.0} % of the roofline",
        seconds * 1e3,
        bytes / seconds / 1e9,
        100.0 * bytes / seconds / limits.bytes_per_second,
        flops / seconds / 1e9,
        100.0 * flops / seconds / limits.flops,
        100.0 * floor / seconds,
    );
}

fn bench_linear(element: ElementType, threads: usize, limits: &Limits) {
    let bytes = OUTPUTS * INPUTS * element.bytes();
    let count = CYCLED_BYTES / bytes;
    let weights: Vec<_> =
        (0..count).map(|seed| PackedMatrix::random(OUTPUTS, INPUTS, element, seed as u64, 1.0)).collect();
    for rows in [1, 2, 4, 8, 12, 16, 32, 64, 128, 512] {
        let x = vec![0.5f32; rows * INPUTS];
        let mut result = vec![0.0f32; rows * OUTPUTS];
        let out = MatMut::new(&mut result, rows, OUTPUTS);
        let used = if rows >= 64 { count.min(4) } else { count };
        let items = linear_items(rows, &weights[0]);
        let seconds = median_seconds(|| {
            on_threads(threads, used * items, |item| {
                let at = item % items;
                linear(MatRef::new(&x, rows, INPUTS), &weights[item / items], None, out, at..at + 1);
            });
        });
        let flops = 2.0 * (rows * INPUTS * OUTPUTS) as f64;
        report(&format!("linear {element:?} M={rows}"), seconds / used as f64, bytes as f64, flops, limits);
    }
}

const KV_HEADS: usize = 4;
const GROUP: usize = 8;
const HEAD: usize = 64;
const PAGE_TOKENS: usize = 64;

/// A cache of `num_pages` written pages.
fn cache(memory: &mut Vec<u8>, num_pages: usize) -> KvPages {
    const CACHE_LINE: usize = 64;
    let bytes = num_pages * KvPages::bytes_per_page(ElementType::Bf16, KV_HEADS, (HEAD, HEAD), PAGE_TOKENS);
    // 0x3c3c is a small bf16.
    *memory = vec![0x3c; bytes + CACHE_LINE];
    let shift = memory.as_ptr().align_offset(CACHE_LINE);
    let base = memory[shift..].as_mut_ptr();
    // SAFETY: the memory has just been sized for these pages and outlives the benchmark that uses them.
    unsafe { KvPages::from_raw(base, ElementType::Bf16, num_pages, KV_HEADS, (HEAD, HEAD), PAGE_TOKENS) }
}

fn bench_decode(threads: usize, limits: &Limits) {
    let (sequences, context, layers) = (16, 1024, 32);
    let pages_per_layer = sequences * context / PAGE_TOKENS;
    let mut memory = Vec::new();
    let pages = cache(&mut memory, layers * pages_per_layer);
    let tables: Vec<u32> = (0..(layers * pages_per_layer) as u32).collect();
    let columns = KV_HEADS * GROUP * HEAD;
    let q = vec![0.1f32; sequences * columns];
    let mut result = vec![0.0f32; sequences * columns];
    let out = MatMut::new(&mut result, sequences, columns);
    let spans: Vec<Vec<Span<'_>>> = tables
        .chunks(pages_per_layer)
        .map(|layer| {
            let rows = layer.chunks(context / PAGE_TOKENS).enumerate();
            rows.map(|(row, pages)| Span { first_row: row, num_rows: 1, position: context - 1, pages }).collect()
        })
        .collect();
    let items = attention_items(&spans[0], KV_HEADS * GROUP, &pages);
    let seconds = median_seconds(|| {
        on_threads(threads, layers * items, |item| {
            let at = item % items;
            attention(
                MatRef::new(&q, sequences, columns),
                &spans[item / items],
                &pages,
                &Scores::plain(0.125),
                out,
                at..at + 1,
            );
        });
    });
    let bytes = (sequences * context * 2 * KV_HEADS * HEAD * 2) as f64;
    let flops = 4.0 * (sequences * context * KV_HEADS * GROUP * HEAD) as f64;
    report("decode, 16 x 1024 keys, group 8", seconds / layers as f64, bytes, flops, limits);
}

fn bench_prefill(threads: usize, limits: &Limits) {
    for tokens in [512, 2048] {
        let mut memory = Vec::new();
        let pages = cache(&mut memory, tokens / PAGE_TOKENS);
        let table: Vec<u32> = (0..(tokens / PAGE_TOKENS) as u32).collect();
        let columns = KV_HEADS * GROUP * HEAD;
        let q = vec![0.1f32; tokens * columns];
        let mut result = vec![0.0f32; tokens * columns];
        let out = MatMut::new(&mut result, tokens, columns);
        let spans = [Span { first_row: 0, num_rows: tokens, position: 0, pages: &table }];
        let items = attention_items(&spans, KV_HEADS * GROUP, &pages);
        let seconds = median_seconds(|| {
            on_threads(threads, items, |item| {
                attention(MatRef::new(&q, tokens, columns), &spans, &pages, &Scores::plain(0.125), out, item..item + 1);
            });
        });
        let flops = 4.0 * (tokens * (tokens + 1) / 2 * KV_HEADS * GROUP * HEAD) as f64;
        report(&format!("prefill of {tokens}, group 8"), seconds, 0.0, flops, limits);
    }
}

/// Sum of a buffer as large as the weights, in huge pages as they are, in bytes per second.
fn read_bandwidth(threads: usize) -> f64 {
    const HUGE_PAGE: usize = 2 << 20;
    let mut words = vec![0u64; (CYCLED_BYTES + HUGE_PAGE) / 8];
    let start = words.as_ptr().align_offset(HUGE_PAGE);
    advise_huge_pages(&mut words[start..start + CYCLED_BYTES / 8]);
    words.fill(1);
    let parts: Vec<&[u64]> = words[start..start + CYCLED_BYTES / 8].chunks(1 << 16).collect();
    let seconds = best_seconds(|| {
        on_threads(threads, parts.len(), |part| {
            black_box(sum(parts[part]));
        });
    });
    CYCLED_BYTES as f64 / seconds
}

#[cfg(target_os = "linux")]
fn advise_huge_pages(words: &mut [u64]) {
    use std::ffi::{c_int, c_void};

    unsafe extern "C" {
        fn madvise(address: *mut c_void, length: usize, advice: c_int) -> c_int;
    }
    // SAFETY: the range is a live slice of whole pages, and this advice keeps its contents.
    unsafe { madvise(words.as_mut_ptr().cast(), size_of_val(words), 14) };
}

#[cfg(not(target_os = "linux"))]
fn advise_huge_pages(_words: &mut [u64]) {}

#[cfg(target_arch = "x86_64")]
fn sum(words: &[u64]) -> u64 {
    #[target_feature(enable = "avx512f")]
    fn wide(words: &[u64]) -> u64 {
        sum_lanes(words)
    }
    // SAFETY: the path was detected.
    if isa() == trefoil_kernels::cpu::Isa::Avx512 { unsafe { wide(words) } } else { sum_lanes(words) }
}

#[cfg(not(target_arch = "x86_64"))]
fn sum(words: &[u64]) -> u64 {
    sum_lanes(words)
}

#[inline(always)]
fn sum_lanes(words: &[u64]) -> u64 {
    let mut sums = [0u64; 64];
    for block in words.as_chunks::<64>().0 {
        for (sum, word) in sums.iter_mut().zip(block) {
            *sum = sum.wrapping_add(*word);
        }
    }
    sums.iter().fold(0, |total, sum| total.wrapping_add(*sum))
}

/// Multiply-adds in registers, in floating-point operations per second.
fn arithmetic_peak(threads: usize) -> f64 {
    const TURNS: usize = 4_000_000;
    let mut flops_per_turn = 0;
    let seconds = best_seconds(|| {
        flops_per_turn = multiply_add_width();
        on_threads(threads, threads, |_| multiply_add(TURNS));
    });
    (threads * TURNS * flops_per_turn) as f64 / seconds
}

const CHAINS: usize = 12;

#[cfg(target_arch = "x86_64")]
fn multiply_add_width() -> usize {
    use trefoil_kernels::cpu::Isa;
    match isa() {
        Isa::Avx512 => 2 * 16 * CHAINS,
        Isa::Avx2 => 2 * 8 * CHAINS,
        Isa::Portable => 2 * CHAINS,
    }
}

#[cfg(target_arch = "x86_64")]
fn multiply_add(turns: usize) {
    use trefoil_kernels::cpu::Isa;
    match isa() {
        // SAFETY: the path was detected.
        Isa::Avx512 => unsafe { multiply_add_avx512(turns) },
        // SAFETY: the path was detected.
        Isa::Avx2 => unsafe { multiply_add_avx2(turns) },
        Isa::Portable => multiply_add_portable(turns),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn multiply_add_width() -> usize {
    2 * CHAINS
}

#[cfg(not(target_arch = "x86_64"))]
fn multiply_add(turns: usize) {
    multiply_add_portable(turns);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn multiply_add_avx512(turns: usize) {
    use std::arch::x86_64::*;
    let (factor, term) = (_mm512_set1_ps(black_box(0.5)), _mm512_set1_ps(black_box(1.0)));
    let mut sums = [term; CHAINS];
    for _ in 0..turns {
        for sum in &mut sums {
            *sum = _mm512_fmadd_ps(*sum, factor, term);
        }
    }
    black_box(sums);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn multiply_add_avx2(turns: usize) {
    use std::arch::x86_64::*;
    let (factor, term) = (_mm256_set1_ps(black_box(0.5)), _mm256_set1_ps(black_box(1.0)));
    let mut sums = [term; CHAINS];
    for _ in 0..turns {
        for sum in &mut sums {
            *sum = _mm256_fmadd_ps(*sum, factor, term);
        }
    }
    black_box(sums);
}

fn multiply_add_portable(turns: usize) {
    let (factor, term) = (black_box(0.5f32), black_box(1.0f32));
    let mut sums = [term; CHAINS];
    for _ in 0..turns {
        sums = sums.map(|sum| sum.mul_add(factor, term));
    }
    black_box(sums);
}
