//! From measured times to a kernel's points: as few as tell the times again.

use super::Kernel;

/// Works that differ by less than this are one, and their times are averaged: work does not tell shapes apart.
const SAME_WORK: f64 = 0.25;

/// A size of work, and the seconds it took.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Timed {
    work: f64,
    seconds: f64,
}

impl Kernel {
    /// The kernel that took these seconds for this work, as `(work, seconds)`, on a device with this peak.
    ///
    /// Times are first made to rise with work, averaging where they do not, and no better than the peak allows. The
    /// points are then as few of them as give all the others within `tolerance`, relative to each.
    pub fn fit(samples: &[(f64, f64)], peak: f64, tolerance: f64) -> Self {
        let allowed = |Timed { work, seconds }: Timed| Timed { work, seconds: seconds.max(work / peak) };
        let timed = rising(merged(samples).into_iter().map(allowed).collect());
        // Where times were averaged, the larger work of them may again be faster than the peak.
        let timed: Vec<_> = timed.into_iter().map(allowed).collect();
        let kept = fewest(&timed, tolerance);
        let point = |Timed { work, seconds }: Timed| (rounded(work), rounded(work / (peak * seconds)).min(1.0));
        Self::new(kept.into_iter().map(point).collect())
    }
}

/// By rising work, each work once, with the geometric mean of its times.
fn merged(samples: &[(f64, f64)]) -> Vec<Timed> {
    let mut samples: Vec<_> = samples.iter().copied().filter(|(work, seconds)| *work > 0.0 && *seconds > 0.0).collect();
    samples.sort_by(|a, b| a.0.total_cmp(&b.0));
    let same = |first: f64, work: f64| work <= first * (1.0 + SAME_WORK);
    let mut groups: Vec<Vec<(f64, f64)>> = Vec::new();
    for sample in samples {
        match groups.last_mut() {
            Some(group) if group.first().is_some_and(|first| same(first.0, sample.0)) => group.push(sample),
            Some(_) | None => groups.push(vec![sample]),
        }
    }
    let mean = |logarithms: Vec<f64>| (logarithms.iter().sum::<f64>() / logarithms.len() as f64).exp();
    let merge = |group: Vec<(f64, f64)>| Timed {
        work: mean(group.iter().map(|sample| sample.0.ln()).collect()),
        seconds: mean(group.iter().map(|sample| sample.1.ln()).collect()),
    };
    groups.into_iter().map(merge).collect()
}

/// Times that never fall, closest to the given ones in the squares of their logarithms: neighbours that fall are pooled.
fn rising(timed: Vec<Timed>) -> Vec<Timed> {
    let mut pools: Vec<(f64, usize)> = Vec::new();
    for Timed { seconds, .. } in &timed {
        pools.push((seconds.ln(), 1));
        while let [.., before, last] = pools.as_slice()
            && before.0 > last.0
        {
            let count = before.1 + last.1;
            let mean = (before.0 * before.1 as f64 + last.0 * last.1 as f64) / count as f64;
            pools.truncate(pools.len() - 2);
            pools.push((mean, count));
        }
    }
    let seconds = pools.into_iter().flat_map(|(mean, count)| std::iter::repeat_n(mean.exp(), count));
    timed.iter().zip(seconds).map(|(timed, seconds)| Timed { work: timed.work, seconds }).collect()
}

/// The first, and then always the farthest from which the line back misses nothing between.
fn fewest(timed: &[Timed], tolerance: f64) -> Vec<Timed> {
    let Some(first) = timed.first() else { return Vec::new() };
    let mut kept = vec![*first];
    let mut at = 0;
    while at + 1 < timed.len() {
        let reaches = |end: &usize| misses(&timed[at..=*end]) <= tolerance;
        at = (at + 1..timed.len()).rev().find(reaches).unwrap_or(at + 1);
        kept.push(timed[at]);
    }
    kept
}

/// By how much the line from the first to the last misses those between, at most.
fn misses(timed: &[Timed]) -> f64 {
    let [first, between @ .., last] = timed else { return 0.0 };
    let slope = (last.seconds - first.seconds) / (last.work - first.work);
    let miss = |timed: &Timed| {
        let found = first.seconds + slope * (timed.work - first.work);
        (found / timed.seconds - 1.0).abs()
    };
    between.iter().map(miss).fold(0.0, f64::max)
}

/// To four digits: measuring knows no more.
pub fn rounded(value: f64) -> f64 {
    // What was just written as a number reads back as one.
    format!("{value:.3e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PEAK: f64 = 1e9;

    #[test]
    fn a_latency_and_a_rate_are_two_points() {
        let samples: Vec<_> = (0..12).map(|i| 1e4 * f64::from(1 << i)).map(|work| (work, 5e-5 + work / 4e8)).collect();
        let kernel = Kernel::fit(&samples, PEAK, 0.01);
        assert_eq!(kernel.points().len(), 2);
        for (work, seconds) in samples {
            assert!((kernel.seconds(work, PEAK) / seconds - 1.0).abs() < 0.011, "{work}");
        }
    }

    #[test]
    fn times_that_fall_are_averaged_and_no_time_beats_the_peak() {
        let kernel = Kernel::fit(&[(1e6, 9e-3), (2e6, 4e-3), (1e8, 1e-3)], PEAK, 0.01);
        let close = |work: f64, seconds: f64| assert!((kernel.seconds(work, PEAK) / seconds - 1.0).abs() < 0.01);
        close(1e6, 6e-3);
        close(2e6, 6e-3);
        close(1e8, 0.1);
    }

    #[test]
    fn numbers_have_four_digits() {
        assert_eq!([100_699_999.9, 0.123_456, 0.0].map(rounded), [1.007e8, 0.1235, 0.0]);
    }

    #[test]
    fn nothing_measured_is_the_peak() {
        assert_eq!(Kernel::fit(&[], PEAK, 0.05), Kernel::default());
    }

    proptest! {
        /// Any times that rise and that the peak allows are told again within the tolerance, by legal points.
        #[test]
        fn the_points_tell_the_times_again(
            steps in prop::collection::vec((1.26f64..8.0, 0.0f64..3.0), 1..24),
            latency in 1e-7f64..1e-2,
            tolerance in 0.01f64..0.2,
        ) {
            let (mut work, mut extra) = (1e3, latency);
            let samples: Vec<_> = steps.iter().map(|(grow, slower)| {
                work *= grow;
                extra += slower * work / PEAK;
                (work, extra + work / PEAK)
            }).collect();
            let kernel = Kernel::fit(&samples, PEAK, tolerance);
            prop_assert!(kernel.points().windows(2).all(|pair| pair[0].0 < pair[1].0));
            prop_assert!(kernel.points().iter().all(|(_, share)| *share > 0.0 && *share <= 1.0));
            for (work, seconds) in samples {
                let miss = (kernel.seconds(work, PEAK) / seconds - 1.0).abs();
                // Rounding moves both ends of a line a little.
                prop_assert!(miss <= tolerance * 1.02 + 0.003, "{work}: off by {miss}, {:?}", kernel.points());
            }
        }
    }
}
