//! The emitted Rust.

use super::{LLAMA, OVERLAP, PATTERN, SEQUENTIAL};
use trefoil_codegen::{compile, emit, module_names, source};

#[test]
fn llama_with_both_plans() {
    let compiled = compile("llama", LLAMA, &[SEQUENTIAL, OVERLAP]).unwrap();
    insta::assert_snapshot!(source(&compiled));
}

#[test]
fn what_is_emitted_is_rust() {
    for (name, text) in [("llama", LLAMA), ("pattern", PATTERN)] {
        let compiled = compile(name, text, &[SEQUENTIAL, OVERLAP]).unwrap();
        let file: syn::File = syn::parse2(emit(&compiled)).unwrap();
        assert_eq!(file.items.len(), 1, "one module");
    }
}

#[test]
fn the_text_depends_on_the_texts_alone() {
    let once = || source(&compile("pattern", PATTERN, &[SEQUENTIAL, OVERLAP]).unwrap());
    assert_eq!(once(), once());
    let other_place = source(&compile("anywhere/pattern.ron", PATTERN, &[SEQUENTIAL, OVERLAP]).unwrap());
    assert_eq!(once(), other_place);
}

#[test]
fn layers_of_several_kinds_take_turns() {
    let text = source(&compile("pattern", PATTERN, &[SEQUENTIAL]).unwrap());
    for part in [
        "if layer < firsts {",
        "wide_layer(on, bound, layer)",
        "match bound.blocks[layer] {",
        "block::SLIM => slim_layer(on, bound, layer),",
        "_ => plain_layer(on, bound, layer),",
        "cycle: &[1, 2, 1],",
        "layers: Some(model::layers_of(blocks, block::SLIM)),",
    ] {
        assert!(text.contains(part), "`{part}` is not in\n{text}");
    }
}

#[test]
fn names_that_would_clash_are_told_apart() {
    let graph = PATTERN.replace("\"firsts\"", "\"layer\"").replace("config.firsts", "config.layer");
    let text = source(&compile("type", &graph, &[SEQUENTIAL]).unwrap());
    for part in ["pub mod type_ {", "let layer_ = bound.dims[dim::LAYER];", "if layer < layer_ {"] {
        assert!(text.contains(part), "`{part}` is not in\n{text}");
    }
}

#[test]
fn there_is_a_module_for_each_number_of_ranks() {
    let for_two = SEQUENTIAL.1.replace("order:", "ranks: 2, order:");
    let alone = compile("llama", LLAMA, &[SEQUENTIAL]).unwrap();
    let both = compile("llama", LLAMA, &[SEQUENTIAL, ("for-two", &for_two)]).unwrap();
    let file: syn::File = syn::parse2(emit(&both)).unwrap();
    assert_eq!(file.items.len(), 2);
    assert!(source(&both).starts_with(&source(&alone)), "a plan for ranks changes nothing for one device");
    assert_eq!(module_names("llama", &[SEQUENTIAL.1, &for_two]), ["llama", "llama_tp2"]);
    assert_eq!(module_names("llama", &[SEQUENTIAL.1]), ["llama"]);
    assert_eq!(module_names("llama", &[&for_two, "no plan"]), ["llama_tp2"]);
}
