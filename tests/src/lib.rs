//! The bench where the rooms meet.
//!
//! The library holds what several suites need: the [`oracle`], an interpreter of graphs that shares no arithmetic with
//! the kernels, and the [`goldens`] of Hugging Face transformers. The suites are in `tests/tests/`: parity with Hugging Face transformers, devices against the oracle,
//! the binary from the outside, and the rules of the house (dependency directions, file headers, the README's map).

pub mod goldens;
pub mod oracle;
pub mod random;
pub mod steps;
