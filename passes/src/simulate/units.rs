//! Numbers as people read them.

/// `12.3 ms`.
pub fn time(seconds: f64) -> String {
    let (scale, unit) = match seconds.abs() {
        s if s >= 1.0 => (1.0, "s"),
        s if s >= 1e-3 => (1e3, "ms"),
        _ => (1e6, "µs"),
    };
    format!("{} {unit}", three_digits(seconds * scale))
}

/// `312 TFLOP/s` of `3.12e14` and `FLOP/s`.
pub fn amount(number: f64, unit: &str) -> String {
    const PREFIXES: [(f64, &str); 5] = [(1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    let fitting = PREFIXES.iter().find(|(scale, _)| number.abs() >= *scale);
    let (scale, prefix) = fitting.copied().unwrap_or((1.0, ""));
    format!("{} {prefix}{unit}", three_digits(number / scale))
}

/// `64.1 %` of `0.641`.
pub fn percent(part: f64) -> String {
    format!("{:.1} %", 100.0 * part)
}

fn three_digits(number: f64) -> String {
    match number.abs() {
        size if size >= 99.95 => format!("{number:.0}"),
        size if size >= 9.995 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        assert_eq!(time(0.0123), "12.3 ms");
        assert_eq!(time(4.5e-6), "4.50 µs");
        assert_eq!(amount(312e12, "FLOP/s"), "312 TFLOP/s");
        assert_eq!(amount(2.0, "B"), "2.00 B");
        assert_eq!(percent(0.641), "64.1 %");
    }
}
