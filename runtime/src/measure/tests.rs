//! A device measured at tiny sizes: everything is there, and the numbers could be times.

use super::*;
use crate::device::cpu::CpuDevice;

fn tiny() -> Effort {
    Effort {
        shape: Shape { hidden: 64, ffn: 96, kv_heads: 2, head: 16 },
        cycled_bytes: 1 << 16,
        max_rows: 64,
        max_context: 128,
        rounds: 1,
        run: Duration::from_micros(200),
        seed: 7,
    }
}

#[test]
fn everything_is_measured() {
    let told = std::cell::Cell::new((0, 0));
    let measured = measure::<CpuDevice>(2, &tiny(), &|done, total| told.set((done, total))).unwrap();
    let (done, total) = told.get();
    assert_eq!(done, total);
    assert_eq!(measured.samples.len(), cases(&tiny()).len());
    assert!(measured.samples.iter().all(|sample| sample.seconds > 0.0), "{:?}", measured.samples);
    assert_eq!(measured.shares.iter().map(|speed| speed.share).collect::<Vec<_>>(), [0.5]);
    let shares: Vec<_> = measured.pairs.iter().map(|pair| (pair.compute.share, pair.memory.share)).collect();
    assert_eq!(shares, [(0.5, 0.5), (1.0, 1.0)]);
}

#[test]
fn one_thread_has_no_parts() {
    let measured = measure::<CpuDevice>(1, &tiny(), &|_, _| ()).unwrap();
    assert!(measured.shares.is_empty());
    assert_eq!(measured.pairs.len(), 1);
}

#[test]
fn what_is_needed_holds_every_case() {
    let effort = Effort { max_rows: 2048, max_context: 2048, cycled_bytes: 1 << 29, ..tiny() };
    let needs = Needs::of(&effort);
    for case in cases(&effort) {
        let tables = case::tables(case, &needs);
        assert!(tables.ids.len() <= needs.max_rows, "{case:?}");
        let pages = tables.spans.iter().flat_map(|span| &span.pages);
        assert!(pages.max().is_none_or(|page| (*page as usize) < needs.num_pages), "{case:?}");
    }
}
