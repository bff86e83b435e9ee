//! Tiny schedules, right ones and broken ones.

mod buffers;
mod order;
mod tiny;
