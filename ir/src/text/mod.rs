//! Graphs as text, at every stage, and back: what `dump` shows and what the verifier's tests are written in.
//!
//! One fact is one line; what belongs to it is indented below. Comments run from `//` to the end of the line.
//!
//! ```text
//! graph tiny scheduled
//! serves "TinyForCausalLM"
//! expect "hidden_act" = ["silu", None]
//! dim hidden = config.hidden_size
//! param eps = config.rms_norm_eps
//! cache c0 kv of decoder = [kv_heads, head]
//! weight w0 = Matrix[hidden] of decoder from "model.layers.{layer}.up.weight"[ffn]
//! split multiple of 16 at [share 0.5]
//! streams
//!   compute = Compute 0.75
//! input ids: v0[tokens] i32
//! block decoder: "model.layers.{layer}"
//!   takes v3 h[tokens, hidden]
//!   up: v4[tokens, ffn] = Linear(x: h, weight: w0) @ 0..1 on compute
//!   up: v4 = Linear(x: h, weight: w0) @ 1..2 on compute
//!   gives h2
//! main
//!   …
//!   gives logits
//! schedule of 1 events
//!   buffer m0 = tokens[hidden, ffn]
//!   homes
//!     v4 = m0 columns [0, ffn]
//!   once
//!     launch up 0: v4 = Linear(x: h, weight: w0) @ 0..1 on compute 0.5
//!     record e0 on compute
//!   repeat layers
//!     block decoder
//!       wait e0 on memory
//!       …
//! ```
//!
//! What follows the stream of a launch is its own share of the device; a weight of which each rank has a part says `by
//! rows` or `by columns` before `from`.
//!
//! A value stands with its type where it is first given, under the name of its node or its own after the id
//! (`sum: v7 h1[tokens, hidden], v8 n2[tokens, hidden] = AddRmsNorm(…)`). Elements are the model's unless the type ends
//! in `i32`. Values, caches, blocks, settings and streams are called by name where that is unambiguous, and by id
//! otherwise. A value that nothing in the text gives has a line of its own, `value v9 q[tokens, hidden] of decoder`.
//!
//! [`parse`] reads any graph that can be written so, legal or not; what it cannot read is reported with
//! `T0901` a line that is not of this form, `T0902` a name or an id that is not there, `T0903` ids with gaps or twice.

mod cursor;
mod lines;
mod names;
mod op;
mod print;
mod resolve;
mod schedule;
mod settings;
mod stored;

pub use print::print;
pub use resolve::parse;
