//! The compiled code, run against a device that writes down what it is told.

mod bind;
mod launches;
mod pattern;
mod recorder;
mod registry;
mod script;
