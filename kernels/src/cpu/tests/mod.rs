//! Every kernel against an f64 reference, and bit for bit against itself.
