//! Sizes and settings as Rust expressions.
//!
//! Where the model is bound, an [`Expr`] becomes arithmetic on quantities that may be missing
//! (`read.key("head_dim").or(hidden / heads)`). Afterwards all sizes are known and all quotients whole, and a [`Dim`]
//! becomes plain arithmetic on `usize` (`heads * head`).

use std::collections::BTreeSet;

use proc_macro2::{Literal, TokenStream};
use quote::{ToTokens, format_ident, quote};
use trefoil_ir::dim::{Dim, DimFactor, Expr, Operator};
use trefoil_ir::graph::Graph;
use trefoil_ir::ids::ParamId;

use crate::names::{constant, ident};

/// What an expression is worked out as.
#[derive(Clone, Copy)]
pub(crate) enum Kind<'a> {
    /// A size of this graph: a whole number.
    Size(&'a Graph),
    /// A setting, which may read sizes of this graph.
    Setting(&'a Graph),
}

/// An expression over the configuration and what was defined before.
pub(crate) fn quantity(expr: &Expr, kind: Kind<'_>) -> TokenStream {
    match expr {
        Expr::Step => quote!(model::Quantity::Unknown),
        Expr::Number(_) => {
            let number = choice(expr, kind);
            quote!(model::Quantity::from(#number))
        }
        Expr::Name(name) => named(name, kind),
        Expr::Config(path) => quote!(read.key(#path)),
        Expr::Binary(operator, a, b) => {
            let (a, b) = (operand(a, *operator, false, kind), operand(b, *operator, true, kind));
            let sign = sign(*operator);
            quote!(#a #sign #b)
        }
        Expr::Call(call, x) => {
            let (call, x) = (format_ident!("{}", call.name()), in_setting(x, kind));
            let value = quote!(#x.#call());
            match kind {
                Kind::Setting(_) => value,
                Kind::Size(_) => quote!(#value.as_size()),
            }
        }
        Expr::First(choices) => {
            let (first, rest) = choices.split_at(choices.len().min(1));
            let first = first.iter().map(|first| operand(first, Operator::Mul, true, kind));
            let rest = rest.iter().map(|other| choice(other, kind));
            quote!(#(#first)* #(.or(#rest))*)
        }
    }
}

/// An operand of a function, which works on settings.
fn in_setting(expr: &Expr, kind: Kind<'_>) -> TokenStream {
    let (Kind::Setting(graph) | Kind::Size(graph)) = kind;
    let tokens = quantity(expr, Kind::Setting(graph));
    match expr {
        Expr::Binary(..) => quote!((#tokens)),
        Expr::Number(number) => {
            let number = Literal::f64_unsuffixed(*number);
            quote!(model::Setting::from(#number))
        }
        Expr::Config(path) => quote!(read.key::<f64>(#path)),
        Expr::Step | Expr::Name(_) | Expr::Call(..) | Expr::First(_) => tokens,
    }
}

/// What stands between the parentheses of `or`, which takes plain numbers too.
fn choice(expr: &Expr, kind: Kind<'_>) -> TokenStream {
    match (expr, kind) {
        (Expr::Number(number), Kind::Setting(_)) => Literal::f64_unsuffixed(*number).into_token_stream(),
        (Expr::Number(number), Kind::Size(_)) => Literal::u64_suffixed(*number as u64).into_token_stream(),
        (Expr::Step | Expr::Name(_) | Expr::Config(_) | Expr::Binary(..) | Expr::Call(..) | Expr::First(_), _) => {
            quantity(expr, kind)
        }
    }
}

fn named(name: &str, kind: Kind<'_>) -> TokenStream {
    let local = ident(name);
    let is_size = |graph: &Graph| graph.dims.values().any(|dim| dim.name == name);
    match kind {
        Kind::Setting(graph) if is_size(graph) => quote!(#local.as_setting()),
        Kind::Setting(_) | Kind::Size(_) => quote!(#local),
    }
}

fn operand(expr: &Expr, parent: Operator, right: bool, kind: Kind<'_>) -> TokenStream {
    let tokens = quantity(expr, kind);
    let is_sum = |operator: &Operator| matches!(operator, Operator::Add | Operator::Sub);
    let needs_parentheses = match expr {
        Expr::Binary(own, ..) => right && is_sum(own) == is_sum(&parent) || is_sum(own) && !is_sum(&parent),
        Expr::Step | Expr::Number(_) | Expr::Name(_) | Expr::Config(_) | Expr::Call(..) | Expr::First(_) => false,
    };
    if needs_parentheses { quote!((#tokens)) } else { tokens }
}

fn sign(operator: Operator) -> TokenStream {
    match operator {
        Operator::Add => quote!(+),
        Operator::Sub => quote!(-),
        Operator::Mul => quote!(*),
        Operator::Div => quote!(/),
    }
}

/// A size whose names are in scope as `usize`.
pub(crate) fn plain(dim: &Dim) -> TokenStream {
    arithmetic(dim, &|number| Literal::u64_unsuffixed(number).into_token_stream())
}

/// A size whose names are in scope as quantities.
pub(crate) fn checked(dim: &Dim) -> TokenStream {
    arithmetic(dim, &|number| {
        let number = Literal::u64_suffixed(number).into_token_stream();
        quote!(model::Quantity::from(#number))
    })
}

fn arithmetic(dim: &Dim, literal: &impl Fn(u64) -> TokenStream) -> TokenStream {
    let mut terms: Vec<_> = dim.terms().collect();
    terms.reverse();
    // What is taken away comes last, so that no sum on the way is negative.
    let (plus, minus): (Vec<_>, Vec<_>) = terms.iter().partition(|(coefficient, _)| *coefficient > 0);
    let term =
        |(coefficient, factors): &&(i64, Vec<DimFactor<'_>>)| product(coefficient.unsigned_abs(), factors, literal);
    let (plus, minus): (Vec<_>, Vec<_>) = (plus.iter().map(term).collect(), minus.iter().map(term).collect());
    if plus.is_empty() {
        let zero = literal(0);
        return quote!(#zero #(- #minus)*);
    }
    quote!(#(#plus)+* #(- #minus)*)
}

fn product(coefficient: u64, factors: &[DimFactor<'_>], literal: &impl Fn(u64) -> TokenStream) -> TokenStream {
    let number = (coefficient != 1 || factors.is_empty()).then(|| literal(coefficient));
    let factors = factors.iter().map(|factor| match factor {
        DimFactor::Name(name) => {
            let name = ident(name);
            quote!(#name)
        }
        DimFactor::Quotient(a, b) => {
            let (a, b) = (in_parentheses(a, literal), in_parentheses(b, literal));
            quote!((#a / #b))
        }
    });
    let all = number.into_iter().chain(factors);
    all.reduce(|product, factor| quote!(#product * #factor)).unwrap_or_default()
}

fn in_parentheses(dim: &Dim, literal: &impl Fn(u64) -> TokenStream) -> TokenStream {
    let tokens = arithmetic(dim, literal);
    if dim.terms().count() == 1 && dim.names().len() <= 1 { tokens } else { quote!((#tokens)) }
}

/// Whether working it out can fail though all its names are known and at least 1: a quotient, a difference, nothing.
pub(crate) fn can_fail(dim: &Dim) -> bool {
    dim.terms().next().is_none()
        || dim.terms().any(|(coefficient, factors)| {
            coefficient < 0 || factors.iter().any(|factor| matches!(factor, DimFactor::Quotient(..)))
        })
}

/// `let hidden = model.dims[dim::HIDDEN];` for each name that the sizes read, in the order of the graph.
pub(crate) fn locals<'a>(graph: &Graph, sizes: impl IntoIterator<Item = &'a Dim>, dims: &TokenStream) -> TokenStream {
    let names: BTreeSet<&str> = sizes.into_iter().flat_map(Dim::names).collect();
    let read = graph.dims.values().filter(|dim| names.contains(dim.name.as_str())).map(|dim| {
        let (local, number) = (ident(&dim.name), constant(&dim.name));
        quote!(let #local = #dims[dim::#number];)
    });
    quote!(#(#read)*)
}

/// The number of a setting among the bound model's.
pub(crate) fn param(graph: &Graph, id: ParamId) -> TokenStream {
    let name = constant(&graph.params[id].name);
    quote!(param::#name)
}
