//! The first fault of a device, kept until it is read.

use std::any::Any;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::bell::lock;
use crate::executor::{DeviceFault, panic_text};
use crate::launch::Site;

/// Shared by all streams of a device: after the first fault, no launch runs.
#[derive(Debug, Default)]
pub(super) struct Faults {
    faulted: AtomicBool,
    first: Mutex<Option<DeviceFault>>,
}

impl Faults {
    pub(super) fn is_faulted(&self) -> bool {
        self.faulted.load(Ordering::Acquire)
    }

    /// The first fault, if there was one.
    pub(super) fn first(&self) -> Option<DeviceFault> {
        if !self.is_faulted() {
            return None;
        }
        lock(&self.first).clone()
    }

    /// Notes that the launch at `site` panicked with `panic`.
    pub(super) fn report(&self, site: Site, panic: &(dyn Any + Send)) {
        let fault = DeviceFault { site: site.to_string(), what: panic_text(panic) };
        lock(&self.first).get_or_insert(fault);
        self.faulted.store(true, Ordering::Release);
    }
}
