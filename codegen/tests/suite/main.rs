//! What is emitted for graphs and plans, and what is said about wrong ones.

mod events;
mod invocation;
mod mistakes;
mod source;

/// A plan without cuts on one stream.
const SEQUENTIAL: (&str, &str) = ("sequential", include_str!("../../../models/plans/sequential.ron"));
/// Two nano-batches on two streams.
const OVERLAP: (&str, &str) = ("overlap-2", include_str!("../../../models/plans/overlap-2.ron"));
/// The graph that most checkpoints are served by.
const LLAMA: &str = include_str!("../../../models/graphs/llama.ron");
/// Three kinds of layer in two repeats, one of them twice in its pattern.
const PATTERN: &str = include_str!("../../../models/tests/graphs/pattern.ron");
