//! The instruction set path: chosen once per process, the same arithmetic on each.
#![allow(unsafe_code, reason = "entering a function compiled for wider instructions needs a checked promise")]

use std::sync::OnceLock;

use super::vector::{Portable, Vector};
#[cfg(target_arch = "x86_64")]
use super::vector::{avx2::Avx2, avx512::Avx512};

/// An instruction set that kernels are compiled for, slowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Plain Rust with `f32::mul_add`; exact everywhere, fast where the base target has fused multiply-add.
    Portable,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ and VL.
    Avx512,
}

impl Isa {
    /// Whether this machine can run the path.
    pub fn is_available(self) -> bool {
        match self {
            Isa::Portable => true,
            Isa::Avx2 => has_avx2(),
            Isa::Avx512 => has_avx512(),
        }
    }

    fn detect() -> Isa {
        [Isa::Avx512, Isa::Avx2].into_iter().find(|isa| isa.is_available()).unwrap_or(Isa::Portable)
    }
}

/// The path that kernels of this process run.
pub fn isa() -> Isa {
    #[cfg(test)]
    if let Some(forced) = forced::get() {
        return forced;
    }
    static DETECTED: OnceLock<Isa> = OnceLock::new();
    *DETECTED.get_or_init(Isa::detect)
}

/// A computation written once for every vector type.
///
/// `run` and whatever it calls generically must be `#[inline(always)]`, so that the whole body is compiled with the
/// instructions of the path that entered it.
pub(crate) trait Kernel {
    fn run<V: Vector>(self);
}

/// Runs a kernel on this process's path.
pub(crate) fn dispatch<K: Kernel>(kernel: K) {
    match isa() {
        // SAFETY: the portable path needs no instructions beyond the base target.
        Isa::Portable => unsafe { Portable::enter(kernel) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `isa` answers `Avx2` only where AVX2 and FMA were detected.
        Isa::Avx2 => unsafe { Avx2::enter(kernel) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `isa` answers `Avx512` only where its subsets were detected.
        Isa::Avx512 => unsafe { Avx512::enter(kernel) },
        #[cfg(not(target_arch = "x86_64"))]
        // SAFETY: as for the portable path.
        Isa::Avx2 | Isa::Avx512 => unsafe { Portable::enter(kernel) },
    }
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    has_avx2()
        && std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512bw")
        && std::arch::is_x86_feature_detected!("avx512dq")
        && std::arch::is_x86_feature_detected!("avx512vl")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx2() -> bool {
    false
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx512() -> bool {
    false
}

/// A per-thread override, for tests that compare paths.
#[cfg(test)]
pub(crate) mod forced {
    use std::cell::Cell;

    use super::Isa;

    thread_local! {
        static FORCED: Cell<Option<Isa>> = const { Cell::new(None) };
    }

    pub(super) fn get() -> Option<Isa> {
        FORCED.get()
    }

    /// Runs `body` on the given path, which must be available.
    pub(crate) fn with_isa<T>(isa: Isa, body: impl FnOnce() -> T) -> T {
        assert!(isa.is_available());
        FORCED.set(Some(isa));
        let result = body();
        FORCED.set(None);
        result
    }

    /// Every path that this machine can run.
    pub(crate) fn available() -> Vec<Isa> {
        [Isa::Portable, Isa::Avx2, Isa::Avx512].into_iter().filter(|isa| isa.is_available()).collect()
    }
}
