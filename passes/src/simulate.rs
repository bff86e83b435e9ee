//! What a launch schedule does on a device: launches run by the clock of the cost model.
//!
//! [`engine::run`] lets tasks run side by side as a device profile says; all else prepares its input or shows its
//! output. Nothing is random and nothing is measured: the same schedule gives the same times everywhere.

pub mod engine;
mod speeds;
