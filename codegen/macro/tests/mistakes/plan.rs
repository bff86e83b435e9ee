//! A plan that cuts behind the end of the batch.

trefoil_macro::compile_model!("right.ron", plans: ["plan.ron", "far.ron"]);

fn main() {}
