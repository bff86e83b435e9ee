//! The devices that run launches.

pub mod cpu;
pub mod simulated;
