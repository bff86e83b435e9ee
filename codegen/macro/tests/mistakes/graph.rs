//! A graph with two mistakes.

trefoil_macro::compile_model!("graph.ron", plans: ["plan.ron"]);

fn main() {}
