//! The engine as its callers see it, on the simulated device.

mod bench;
mod ends;
mod life;
mod text;
