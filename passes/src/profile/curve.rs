//! Curves of a profile: how fast kernels are by the size of their work, and by their share of the device.

/// How close a kernel comes to the peak of its resource, by the size of its work.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Kernel {
    /// Work and the share of the peak that is reached, by rising work; none for the peak itself.
    points: Vec<(f64, f64)>,
}

impl Kernel {
    /// A kernel with these points, by rising work, each with a share in (0, 1].
    pub fn new(points: Vec<(f64, f64)>) -> Self {
        Self { points }
    }

    /// The points.
    pub fn points(&self) -> &[(f64, f64)] {
        &self.points
    }

    /// The largest share of the peak that it reaches.
    pub fn best(&self) -> f64 {
        // Beyond two points the rate between them goes on, which is better than that of either.
        let rate = |pair: &[(f64, f64)]| (pair[1].0 - pair[0].0) / (pair[1].0 / pair[1].1 - pair[0].0 / pair[0].1);
        let rates = self.points.windows(2).map(rate).filter(|rate| *rate > 0.0);
        let best = self.points.iter().map(|(_, share)| *share).chain(rates).fold(0.0, f64::max);
        if self.points.is_empty() { 1.0 } else { best.min(1.0) }
    }

    /// Seconds for `work` on a device with this peak, work per second. Times of the points are met, and times between
    /// them interpolated; below the first point the latency stays, beyond the last the rate does.
    pub fn seconds(&self, work: f64, peak: f64) -> f64 {
        let time = |&(work, share): &(f64, f64)| (work, work / (peak * share));
        let times: Vec<_> = self.points.iter().map(time).collect();
        match times.as_slice() {
            [] => work / peak,
            [(size, seconds)] => work * seconds / size,
            [.., (size, seconds)] if work >= *size => work * seconds / size,
            [first, second, ..] if work < first.0 => line(*first, *second, work).max(work / peak),
            times => between(times, (0.0, 0.0), work),
        }
    }

    /// The kernel on a device whose peak is `ratio` times that of the one it was measured on: latencies stay.
    pub(super) fn scaled(&self, ratio: f64) -> Self {
        Self { points: self.points.iter().map(|(work, share)| (work * ratio, *share)).collect() }
    }
}

/// The speed that a share of the device gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Speed {
    points: Vec<(f64, f64)>,
}

impl Speed {
    /// Points between (0, 0) and (1, 1), by rising share.
    pub fn new(points: Vec<(f64, f64)>) -> Self {
        Self { points }
    }

    /// The points.
    pub fn points(&self) -> &[(f64, f64)] {
        &self.points
    }

    /// The speed at a share.
    pub fn at(&self, share: f64) -> f64 {
        if share >= 1.0 {
            return 1.0;
        }
        match self.points.last() {
            Some(last) if share <= last.0 => between(&self.points, (0.0, 0.0), share),
            last => line(last.copied().unwrap_or_default(), (1.0, 1.0), share),
        }
    }
}

/// The value at `at` on the line through `start` and the points, which rise; beyond the last, the last one's.
pub(super) fn between(points: &[(f64, f64)], start: (f64, f64), at: f64) -> f64 {
    let mut before = start;
    for point in points {
        if at <= point.0 {
            return line(before, *point, at);
        }
        before = *point;
    }
    before.1
}

fn line(a: (f64, f64), b: (f64, f64), at: f64) -> f64 {
    if b.0 == a.0 { b.1 } else { a.1 + (b.1 - a.1) * (at - a.0) / (b.0 - a.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-9 * b.abs().max(1e-12), "{a} is not {b}");
    }

    #[test]
    fn a_kernel_meets_its_points_and_interpolates_time() {
        // 10 s of work 100 at peak 20, and 14 s of work 180: a latency of 5 s and a rate of 20.
        let kernel = Kernel::new(vec![(100.0, 0.5), (180.0, 180.0 / 14.0 / 20.0)]);
        is_close(kernel.seconds(100.0, 20.0), 10.0);
        is_close(kernel.seconds(140.0, 20.0), 12.0);
        is_close(kernel.seconds(40.0, 20.0), 7.0);
        is_close(kernel.seconds(360.0, 20.0), 28.0);
        is_close(Kernel::default().seconds(40.0, 20.0), 2.0);
    }

    #[test]
    fn a_share_of_nothing_is_slow_and_all_of_it_is_full_speed() {
        let speed = Speed::new(vec![(0.1, 0.3), (0.5, 0.8)]);
        is_close(speed.at(0.0), 0.0);
        is_close(speed.at(0.05), 0.15);
        is_close(speed.at(0.3), 0.55);
        is_close(speed.at(0.75), 0.9);
        is_close(speed.at(1.0), 1.0);
    }
}
