//! Numbers that look random and depend on a seed and a counter alone: SplitMix64 (Steele, Lea and Flood, OOPSLA'14).

/// 64 bits for a counter.
pub(crate) fn mix(counter: u64) -> u64 {
    let mut z = counter.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Numbers in [0, 1), without end.
pub(crate) fn shares(seed: u64) -> impl Iterator<Item = f64> {
    let base = mix(seed.wrapping_add(1));
    (0u64..).map(move |counter| (mix(base.wrapping_add(counter)) >> 11) as f64 / (1u64 << 53) as f64)
}
