//! An invocation without plans.

trefoil_macro::compile_model!("right.ron", plans: []);

fn main() {}
