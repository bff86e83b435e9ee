//! When requests arrive, in seconds from the first of them: as a trace says, at a rate, or all at once.

use crate::random;

/// Arrivals of a Poisson process of so many requests per second.
pub(crate) fn poisson(count: usize, rate: f64, seed: u64) -> Vec<f64> {
    let gaps = random::shares(seed).map(|share| -(1.0 - share).ln() / rate);
    let mut now = 0.0;
    let at = gaps.map(|gap| {
        now += gap;
        now
    });
    std::iter::once(0.0).chain(at).take(count).collect()
}

/// The same arrivals, from 0 on, nearer to each other or farther apart, so that there are so many per second in the mean.
pub(crate) fn at_rate(arrivals: &[f64], rate: f64) -> Vec<f64> {
    let last = arrivals.iter().copied().fold(0.0, f64::max);
    let wanted = arrivals.len().saturating_sub(1) as f64 / rate;
    let scale = if last > 0.0 { wanted / last } else { 0.0 };
    arrivals.iter().map(|at| at * scale).collect()
}

/// Seconds of `2023-11-16 18:17:03.9799600`, or of a number of seconds.
pub(crate) fn seconds(text: &str) -> Option<f64> {
    let text = text.trim().trim_end_matches('Z').trim_end_matches("+00:00");
    let is_finite = |seconds: &f64| seconds.is_finite();
    if let Ok(seconds) = text.parse::<f64>() {
        return Some(seconds).filter(is_finite);
    }
    let (date, time) = text.split_once([' ', 'T'])?;
    let date: Vec<i64> = date.split('-').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let time: Vec<f64> = time.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let (&[year, month, day], &[hours, minutes, seconds]) = (&date[..], &time[..]) else { return None };
    Some(days(year, month, day) as f64 * 86_400.0 + hours * 3_600.0 + minutes * 60.0 + seconds).filter(is_finite)
}

/// Days since 1970-01-01, by years that begin in March (Hinnant, "chrono-compatible low-level date algorithms").
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        assert_eq!(seconds("1970-01-01 00:00:00"), Some(0.0));
        assert_eq!(seconds("2000-03-01T00:00:01.5Z"), Some(951_868_801.5));
        assert_eq!(seconds("2023-11-16 18:17:03.5"), Some(1_700_158_623.5));
        assert_eq!(seconds("12.25"), Some(12.25));
        assert_eq!([seconds("soon"), seconds("2023-11-16"), seconds("nan"), seconds("")], [None; 4]);
    }

    #[test]
    fn rates_are_kept() {
        assert_eq!(at_rate(&[0.0, 1.0, 4.0], 0.5), [0.0, 1.0, 4.0]);
        assert_eq!(at_rate(&[0.0, 1.0, 4.0], 4.0), [0.0, 0.125, 0.5]);
        assert_eq!(at_rate(&[0.0, 0.0], 4.0), [0.0, 0.0]);
        let many = poisson(10_001, 5.0, 0);
        assert!((many[10_000] / 2_000.0 - 1.0).abs() < 0.03, "{}", many[10_000]);
        assert!(many.is_sorted());
        assert_eq!((many[..5].to_vec(), 0.0), (poisson(5, 5.0, 0), many[0]));
        assert_ne!(poisson(5, 5.0, 1), poisson(5, 5.0, 0));
    }
}
