//! Numbers nobody has to guess, only to differ: seeds of requests that name none, and ids.

use std::hash::{BuildHasher, Hasher, RandomState};

/// A fresh number. The keys of [`RandomState`] come from the operating system and differ at each call.
pub(super) fn number() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// 32 hexadecimal digits.
pub(super) fn id() -> String {
    format!("{:016x}{:016x}", number(), number())
}
