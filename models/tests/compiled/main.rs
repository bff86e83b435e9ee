//! The compiled code, run against a device that writes down what it is told.

#![allow(clippy::single_range_in_vec_init, reason = "a list of layer ranges may hold one")]

mod bind;
mod cuts;
mod launches;
mod pattern;
mod recorder;
mod registry;
mod script;
mod sharded;
