//! The exponential function for a whole vocabulary at once.
//!
//! Range reduction and polynomial of `expf` in the Cephes library (S. Moshier, netlib.org/cephes), written so that a
//! loop over it vectorises. Being plain arithmetic, it has the same bits on every platform, which the system's own
//! `exp` does not promise, and so has the text of a seed.

/// Adding and subtracting it rounds to a whole number, which the low bits of the sum then hold: 1.5 * 2^23.
const ROUNDING: f32 = 12_582_912.0;
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;
/// Below it the result would not be a normal number.
const LEAST: f32 = -87.0;

/// e to the power of a number that is not above zero; within 2 units in the last place, and 0 below -87.
pub(super) fn exp(x: f32) -> f32 {
    let bounded = x.max(LEAST);
    let shifted = bounded * std::f32::consts::LOG2_E + ROUNDING;
    let whole = shifted - ROUNDING;
    let rest = bounded - whole * LN2_HIGH - whole * LN2_LOW;
    let exponent = shifted.to_bits().wrapping_sub(ROUNDING.to_bits()).wrapping_add(127) << 23;
    let value = polynomial(rest) * f32::from_bits(exponent);
    if x < LEAST { 0.0 } else { value }
}

fn polynomial(x: f32) -> f32 {
    let series = [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1];
    let tail = series.iter().fold(1.987_569_1e-4, |sum, coefficient| sum * x + coefficient);
    tail * x * x + x + 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_within_two_units_in_the_last_place() {
        for step in 0..=870_000 {
            let x = step as f32 * -1e-4;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(error < 2.0 * f64::from(f32::EPSILON), "exp({x}) is off by {error}");
        }
    }

    #[test]
    fn the_ends_are_exact() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-87.1), 0.0);
        assert_eq!(exp(f32::MIN), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
    }
}
