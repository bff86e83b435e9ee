//! The passes at work: on one case per file, on the shipped plans, on graphs and plans drawn at random; and schedules on
//! device profiles.

mod cases;
mod files;
mod guide;
mod profile;
mod random;
#[cfg(feature = "search")]
mod search;
mod shipped;
mod simulate;
