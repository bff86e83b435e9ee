//! A graph that is not there.

trefoil_macro::compile_model!("nowhere.ron", plans: ["plan.ron"]);

fn main() {}
