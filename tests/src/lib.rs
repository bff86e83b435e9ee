//! The bench where the rooms meet.
//!
//! The library holds what several suites need: the [`oracle`], an interpreter of graphs that shares no arithmetic with
//! the kernels, the [`goldens`] of Hugging Face transformers, and [`steps`] that run sequences in any cut and company.
//! The suites are in `tests/tests/`: parity with transformers, devices against the oracle, the shipped model, and the rules
//! of the house (dependency directions, file headers, the map in the README).

pub mod goldens;
pub mod oracle;
pub mod random;
pub mod steps;
