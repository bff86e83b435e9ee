//! Waiting for another thread: a short spin, then sleep.
//!
//! A step is some hundred launches a few microseconds to a few milliseconds long, and waking a sleeping thread costs
//! tens of microseconds on a virtual machine; so a thread that runs dry looks again for a moment before it sleeps. An
//! idle device is asleep: it uses no processor time at all.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long a waiting thread looks before it sleeps: about the price of one sleep and wake-up, so that waiting never
/// costs more than twice what the better of the two would have.
const SPIN: Duration = Duration::from_micros(40);
/// Looks between two readings of the clock. The processor is offered to others at each reading, so that a spinning
/// thread does not keep one with work off the core.
const LOOKS: usize = 32;

/// Wakes the threads that wait for a change of shared state.
#[derive(Debug, Default)]
pub(super) struct Bell {
    sleepers: AtomicUsize,
    lock: Mutex<()>,
    rung: Condvar,
}

impl Bell {
    /// Returns when `ready` says so. Whoever makes it true calls [`Bell::ring`] afterwards.
    pub(super) fn wait_until(&self, ready: impl Fn() -> bool) {
        if spin_until(&ready) {
            return;
        }
        let mut guard = lock(&self.lock);
        self.sleepers.fetch_add(1, Ordering::Relaxed);
        // Pairs with the fence in `ring`: either this thread sees the new state below, or the ringer sees a sleeper.
        fence(Ordering::SeqCst);
        while !ready() {
            guard = self.rung.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.fetch_sub(1, Ordering::Relaxed);
    }

    /// Makes the waiting threads look again. Costs a fence when none sleeps.
    pub(super) fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.sleepers.load(Ordering::Relaxed) > 0 {
            // A sleeper holds the lock from its last look until it sleeps, so this notice cannot fall in between.
            drop(lock(&self.lock));
            self.rung.notify_all();
        }
    }
}

fn spin_until(ready: &impl Fn() -> bool) -> bool {
    let mut until = None;
    loop {
        for _ in 0..LOOKS {
            if ready() {
                return true;
            }
            spin_loop();
        }
        let now = Instant::now();
        if now >= *until.get_or_insert(now + SPIN) {
            return false;
        }
        thread::yield_now();
    }
}

/// Takes a lock whose data stay sound when a holder panics: every critical section here is a plain assignment.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[test]
    fn a_sleeper_is_woken() {
        let (bell, ready) = (Bell::default(), AtomicBool::new(false));
        thread::scope(|scope| {
            let sleeper = scope.spawn(|| bell.wait_until(|| ready.load(Ordering::Acquire)));
            thread::sleep(Duration::from_millis(20));
            assert!(!sleeper.is_finished());
            ready.store(true, Ordering::Release);
            bell.ring();
        });
    }

    #[test]
    fn no_wake_up_is_lost_between_two_threads() {
        let (bell, turn) = (Bell::default(), AtomicUsize::new(0));
        let play = |parity: usize| {
            for round in 0..5_000 {
                bell.wait_until(|| turn.load(Ordering::Acquire) == 2 * round + parity);
                turn.fetch_add(1, Ordering::Release);
                bell.ring();
            }
        };
        thread::scope(|scope| {
            scope.spawn(|| play(0));
            scope.spawn(|| play(1));
        });
        assert_eq!(turn.into_inner(), 10_000);
    }
}
