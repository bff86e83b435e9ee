//! The HTTP server over a simulated device: every route, in whole and in events, with clients that misbehave.
//!
//! One test binary, since linking costs more than running. The tokens of the simulated model are single bytes, so its
//! text is full of broken characters, which is as it should be here.

mod chat;
mod completions;
mod errors;
mod harness;
mod lifecycle;
mod plain;
