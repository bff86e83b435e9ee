//! Graphs at configurations: sizes, settings, kinds of layers, and what no configuration may say.

use std::collections::BTreeMap;

use trefoil_ir::bind::{Bound, bind};
use trefoil_ir::diag::Diagnostic;
use trefoil_ir::graph::{Graph, Literal};
use trefoil_ir::load;

const EVERYTHING: &str = include_str!("../../../tests/files/graphs/everything.ron");

fn graph(source: &str) -> Graph {
    load::load("graph", source)
        .unwrap_or_else(|mistakes| panic!("{}", trefoil_ir::diag::render_all(&mistakes, "graph", source)))
}

/// Everything with one thing in it replaced.
fn with(old: &str, new: &str) -> Graph {
    assert!(EVERYTHING.contains(old), "{old}");
    graph(&EVERYTHING.replace(old, new))
}

fn text(text: &str) -> Literal {
    Literal::Text(text.into())
}

fn number(number: f64) -> Literal {
    Literal::Number(number)
}

/// A configuration for everything, but for some keys.
fn bound_at(graph: &Graph, keys: &[(&str, Literal)]) -> Result<Bound, Vec<Diagnostic>> {
    let sizes = [
        ("vocab_size", 32.0),
        ("n_embd", 24.0),
        ("n_layer", 4.0),
        ("n_head", 6.0),
        ("n_kv_head", 2.0),
        ("n_experts", 4.0),
        ("top_k", 2.0),
        ("n_positions", 16.0),
    ];
    let mut config: BTreeMap<&str, Literal> = sizes.map(|(key, size)| (key, number(size))).into();
    config.extend([("one", Literal::List(vec![Literal::Bool(false)]))]);
    config.extend(keys.iter().cloned());
    bind(graph, &|key: &str| config.get(key).cloned())
}

fn everything_at(keys: &[(&str, Literal)]) -> Bound {
    bound_at(&graph(EVERYTHING), keys).unwrap_or_else(|faults| panic!("{faults:?}"))
}

/// The codes and messages of what is wrong.
fn faults(graph: &Graph, keys: &[(&str, Literal)]) -> Vec<String> {
    let faults = bound_at(graph, keys).expect_err("faults");
    assert!(faults.iter().all(|fault| fault.help.is_some()), "{faults:?}");
    faults.into_iter().map(|fault| format!("{} {}", fault.code, fault.message)).collect()
}

fn names(graph: &Graph, bound: &Bound, repeat: usize) -> Vec<String> {
    bound.repeats[repeat].iter().map(|&block| graph.blocks[block].name.clone()).collect()
}

#[test]
fn without_a_list_layers_take_turns() {
    let (graph, bound) = (graph(EVERYTHING), everything_at(&[]));
    assert_eq!(names(&graph, &bound, 0), ["local", "global", "local", "local"]);
    assert_eq!(names(&graph, &bound, 1), ["experts", "apply"]);
    assert_eq!(names(&graph, &everything_at(&[("layer_types", Literal::None)]), 0)[1], "global", "null is no list");
}

#[test]
fn the_first_list_that_there_is_gives_the_kinds() {
    let graph = graph(EVERYTHING);
    let kinds = Literal::List(vec![text("full_attention"), number(1.0), Literal::Bool(true), text("full_attention")]);
    let expected = ["global", "local", "experts", "global"];
    let bound = everything_at(&[("layer_types", kinds.clone()), ("attention.kinds", Literal::List(vec![]))]);
    assert_eq!(names(&graph, &bound, 0), expected);
    assert_eq!(names(&graph, &everything_at(&[("attention.kinds", kinds)]), 0), expected);
    assert_eq!(bound.num_layers(graph.blocks.ids().next()), 1);
}

#[test]
fn kinds_that_cannot_be() {
    let graph = graph(EVERYTHING);
    let faults = |kinds| faults(&graph, &[("layer_types", kinds)]);
    assert_eq!(faults(text("full")), ["T0605 `layer_types` is \"full\" in the config, not a list"]);
    let three = vec![text("full_attention"); 3];
    assert_eq!(
        faults(Literal::List(three)),
        ["T0605 `layer_types` has 3 entries in the config, and `layers` layers are 4"]
    );
    let mut unknown = vec![text("full_attention"); 4];
    unknown[2] = text("mamba");
    let known = "\"sliding_attention\", \"full_attention\", 1, true";
    let expected = format!("T0605 `layer_types` has a layer of kind \"mamba\" in the config; this graph has {known}");
    assert_eq!(faults(Literal::List(unknown)), [expected]);
}

#[test]
fn a_number_of_layers_that_failed_is_not_told_again() {
    let kinds = Literal::List(vec![text("full_attention"); 3]);
    let keys = [("n_layer", text("three")), ("layer_types", kinds)];
    assert_eq!(faults(&graph(EVERYTHING), &keys), ["T0602 `n_layer` is \"three\" in the config, not a number"]);
}

#[test]
fn the_context_is_a_key_an_expression_or_nothing() {
    assert_eq!(everything_at(&[]).context, Some(16));
    let keys = [("n_positions", Literal::None), ("n_ctx", number(1023.0))];
    assert_eq!(everything_at(&keys).context, Some(1022));
    assert_eq!(
        faults(&graph(EVERYTHING), &[("n_positions", Literal::None)]),
        ["T0601 the config lacks `n_positions` or `n_ctx`, which `context` is read from"]
    );
    let half = "config.n_positions / config.n_half";
    let of_size = with("config.n_positions ?? floor(config.n_ctx / 2) * 2", half);
    assert_eq!(
        faults(&of_size, &[("n_half", number(5.0))]),
        [format!("T0603 size `context` = {half} is 3.2, not a whole number")]
    );
    let plain = with("context: \"config.n_positions ?? floor(config.n_ctx / 2) * 2\",", "");
    assert_eq!(bound_at(&plain, &[]).unwrap().context, None);
}

#[test]
fn yes_and_no_are_settings_and_no_sizes() {
    for (value, setting) in [(true, 1.0), (false, 0.0)] {
        let bound = everything_at(&[("norm_topk_prob", Literal::Bool(value))]);
        assert_eq!(bound.params["renormalize"], setting);
    }
    let found = faults(&graph(EVERYTHING), &[("n_layer", Literal::Bool(true))]);
    assert_eq!(found, ["T0602 `n_layer` is true in the config, not a number"]);
}

#[test]
fn settings_have_roots_and_logarithms() {
    let bound = everything_at(&[("query_scalar", number(256.0)), ("rope_scaling.factor", number(40.0))]);
    assert_eq!(bound.params["scale"], 0.0625);
    assert_eq!(bound.params["attention"], 0.1 * 40f64.ln() + 1.0);
    assert_eq!(bound.params["by"], 24f64.sqrt());
}

#[test]
fn settings_are_finite() {
    let graph = graph(EVERYTHING);
    for (scalar, wrong) in [
        (-4.0, "sqrt(config.query_scalar ?? head)` is sqrt(-4)"),
        (0.0, "1 / sqrt(config.query_scalar ?? head)` is 1 / 0"),
    ] {
        let found = faults(&graph, &[("query_scalar", number(scalar))]);
        assert_eq!(found, [format!("T0606 `{wrong} at this config, which is not a finite number")]);
    }
    let found = faults(&graph, &[("rope_scaling.factor", number(0.0))]);
    assert_eq!(found, ["T0606 `ln(factor)` is ln(0) at this config, which is not a finite number"]);
    let by_zero = with("\"hidden / heads\"", "\"hidden / (heads - 6)\"");
    assert!(faults(&by_zero, &[])[0].starts_with("T0603 size `head` = hidden / (heads - 6) is inf"));
}

#[test]
fn heads_go_together() {
    let found = faults(&graph(EVERYTHING), &[("n_kv_head", number(4.0))]);
    let what = "the heads of the queries must be a multiple of those of the keys (`heads` is 6, `kv_heads` is 4)";
    // The block and its variant.
    assert_eq!(found, [format!("T0607 `attn`: {what}"), format!("T0607 `attn`: {what}")]);
}

#[test]
fn no_more_turns_than_there_is() {
    let found = faults(&with("\"wide_turning\": \"head\"", "\"wide_turning\": \"6\""), &[]);
    let expected = "`qr` turns wide_turning elements of a head, which has head (`head` is 4, `wide_turning` is 6)";
    assert_eq!(found[0], format!("T0607 {expected}"));
    let found = faults(&with("\"wide_turning\": \"head\"", "\"wide_turning\": \"3\""), &[]);
    assert!(found[0].contains("turns wide_turning elements of a head, which must be an even number"), "{found:?}");
}

#[test]
fn no_more_experts_are_chosen_than_there_are() {
    let found = faults(&graph(EVERYTHING), &[("top_k", number(5.0))]);
    assert_eq!(
        found,
        [
            "T0607 `route` chooses top_k of experts experts (`experts` is 4, `top_k` is 5)",
            "T0607 `route` chooses top_k experts of 1 groups, which have fewer: experts are in groups groups (`experts` is 4, `groups` is 1, `top_k` is 5)"
        ]
    );
}

#[test]
fn slices_lie_within_their_tensors() {
    for (old, new, wrong) in [
        ("of: \"positions + 2\"", "of: \"positions\"", "`wpe.weight`: positions rows from 2 must lie within positions"),
        (
            "take: \"head\", every: \"2 * head\"",
            "take: \"3\", every: \"2 * head\"",
            "must be a multiple of the 3 taken at a time",
        ),
        (
            "take: \"head\", every: \"2 * head\"",
            "take: \"head\", every: \"2\"",
            "head rows are taken of each 2 (`head` is 4)",
        ),
        (
            "from: \"1\", take: \"1\", every: \"2\"",
            "from: \"2\", take: \"1\", every: \"2\"",
            "1 of each 2 rows from 2, ffn in all",
        ),
    ] {
        let found = faults(&with(old, new), &[]);
        assert!(found.iter().all(|fault| fault.starts_with("T0607")), "{found:?}");
        assert!(found.iter().any(|fault| fault.contains(wrong)), "{found:?}");
    }
}

#[test]
fn layers_are_counted() {
    let found = faults(&with("times: \"layers\"", "times: \"layers - 5\""), &[]);
    assert_eq!(found, ["T0607 `low` has layers - 5 layers (`layers` is 4)"]);
}
