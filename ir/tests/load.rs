//! Every graph we ship loads.

#[test]
fn llama_loads() {
    let source = std::fs::read_to_string("../models/graphs/llama.ron").unwrap();
    let graph = trefoil_ir::load::load("llama", &source);
    match graph {
        Ok(g) => println!("{g:#?}"),
        Err(m) => panic!("{}", trefoil_ir::diag::render_all(&m, "llama.ron", &source)),
    }
}
