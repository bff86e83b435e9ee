//! The passes at work: on one case per file, on the shipped plans, and on graphs and plans drawn at random.

mod cases;
mod files;
mod random;
mod shipped;
