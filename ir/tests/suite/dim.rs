//! Sizes and the expressions that define them.

use trefoil_ir::dim::{Dim, Expr};

fn dim(text: &str) -> Dim {
    Expr::parse(text).unwrap().to_dim().unwrap()
}

#[test]
fn equal_sizes_are_equal_however_they_are_written() {
    assert_eq!(dim("heads * head"), dim("head * heads"));
    assert_eq!(dim("(heads + 2 * kv) * head"), dim("head * heads + kv * head * 2"));
    assert_eq!(dim("a - a"), Dim::constant(0));
    assert_ne!(dim("heads * head"), dim("hidden"));
    assert_eq!(dim("6 / 2"), Dim::constant(3));
}

#[test]
fn precedence_and_first_that_exists() {
    let expr = Expr::parse("config.head_dim ?? hidden / heads").unwrap();
    assert_eq!(expr.config_paths(), ["head_dim"]);
    assert_eq!(expr.names(), ["hidden", "heads"]);
    assert_eq!(Expr::parse("1 + 2 * 3").unwrap().to_dim().unwrap(), Dim::constant(7));
    assert_eq!(Expr::parse("8 - 2 - 1").unwrap().to_dim().unwrap(), Dim::constant(5));
}

#[test]
fn text_reads_back() {
    for text in [
        "a + b * c",
        "(a + b) * c",
        "a - (b - c)",
        "a / (b / c)",
        "config.x.y ?? 1e-5",
        "(a ?? b) * 2",
        "step",
        "1 / sqrt(a + b)",
        "ln(a) * floor(b / (c - 1))",
        "sqrt(config.x ?? a)",
        "sqrt + ln",
    ] {
        let expr = Expr::parse(text).unwrap();
        assert_eq!(Expr::parse(&expr.to_string()).unwrap(), expr, "{text} printed as {expr}");
    }
    for text in ["2 * a * b + c + 3", "a - b", "(a + b) / c * d"] {
        assert_eq!(dim(&dim(text).to_string()), dim(text), "{text} printed as {}", dim(text));
    }
}

#[test]
fn mistakes_are_placed() {
    for (text, offset) in [
        ("a +", 3),
        ("a b", 2),
        ("config.", 0),
        ("(a", 2),
        ("x.y", 0),
        ("1.2.3", 0),
        ("a * step", 4),
        ("1e999", 0),
        ("sqrt(a", 6),
        ("ln()", 3),
        ("sqr(a)", 3),
    ] {
        assert_eq!(Expr::parse(text).unwrap_err().offset, offset, "{text}");
    }
}

#[test]
fn sizes_evaluate() {
    let size = |name: &str| [("a", 12), ("b", 4)].iter().find(|(n, _)| *n == name).map(|(_, s)| *s);
    assert_eq!(dim("a / b * 2 + 1").evaluate(&size), Some(7));
    assert_eq!(dim("b / a").evaluate(&size), None);
    assert_eq!(dim("b - a").evaluate(&size), None);
    assert_eq!(dim("nowhere").evaluate(&size), None);
}

#[test]
fn exact_quotients() {
    assert_eq!(dim("(heads + 2 * kv) * head").exact_quotient(&dim("head")), Some(dim("heads + 2 * kv")));
    assert_eq!(dim("256").exact_quotient(&dim("64")), Some(dim("4")));
    assert_eq!(dim("heads * head + 1").exact_quotient(&dim("head")), None);
    assert_eq!(dim("100").exact_quotient(&dim("64")), None);
    assert_eq!(dim("a").exact_quotient(&dim("a - b")), None);
    let sum = dim("heads * rope + heads * nope");
    assert_eq!(sum.exact_quotient(&dim("nope + rope")), Some(dim("heads")));
    assert_eq!(sum.exact_quotient(&dim("nope + 2 * rope")), None);
}
