//! The emitted Rust.

use super::{LLAMA, OVERLAP, PATTERN, SEQUENTIAL};
use trefoil_codegen::{compile, emit, source};

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
        "match (layer - (firsts)) % 3 {",
        "0 => slim_layer(on, bound, layer),",
        "1 => plain_layer(on, bound, layer),",
        "_ => slim_layer_2(on, bound, layer),",
        "(0..firsts).collect()",
        ".skip(1)",
        "matches!((layer - (firsts)) % 3, 0 | 2)",
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
