//! Operators as text: `Linear(x: n1, weight: w2)`, printed and read side by side.

use super::lines::{Args, Call};
use super::names::Names;
use crate::diag::Diagnostic;
use crate::ids::CacheId;
use crate::op::{Activation, Mask, Op, RopeScaling, Scoring};

/// The operator as the body of `names` writes it.
pub(super) fn print(op: &Op, names: Names<'_>) -> String {
    let fields: Vec<(&str, String)> = match op {
        Op::Embed { ids, weight } => vec![("ids", names.value(*ids)), ("weight", weight.to_string())],
        Op::RmsNorm { x, weight, eps } => {
            vec![("x", names.value(*x)), ("weight", weight.to_string()), ("eps", names.param(*eps))]
        }
        Op::Linear { x, weight, bias } => {
            let bias = bias.map(|bias| ("bias", bias.to_string()));
            [("x", names.value(*x)), ("weight", weight.to_string())].into_iter().chain(bias).collect()
        }
        Op::Rope { x, pos, head, theta, scaling } => {
            let scaling = scaling.map(|scaling| ("scaling", print_scaling(scaling, names)));
            let positions = [("x", names.value(*x)), ("pos", names.value(*pos))];
            let settings = [("head", head.to_string()), ("theta", names.param(*theta))];
            positions.into_iter().chain(settings).chain(scaling).collect()
        }
        Op::Attention { q, k, v, cache, mask } => {
            let kv = [("k", names.value(*k)), ("v", names.value(*v))];
            [("q", names.value(*q))].into_iter().chain(kv).chain(print_kept(*cache, *mask, names)).collect()
        }
        Op::Add { a, b } => vec![("a", names.value(*a)), ("b", names.value(*b))],
        Op::GatedMul { gate, up, by } => {
            vec![("gate", names.value(*gate)), ("up", names.value(*up)), ("by", format!("{by:?}"))]
        }
        Op::Route { x, top_k, scoring, renormalize } => {
            let settings = [("scoring", format!("{scoring:?}")), ("renormalize", renormalize.to_string())];
            [("x", names.value(*x)), ("top_k", top_k.to_string())].into_iter().chain(settings).collect()
        }
        Op::ExpertLinear { x, experts, weight } => {
            vec![("x", names.value(*x)), ("experts", names.value(*experts)), ("weight", weight.to_string())]
        }
        Op::Combine { x, shares } => vec![("x", names.value(*x)), ("shares", names.value(*shares))],
        Op::Rows { x, at } => vec![("x", names.value(*x)), ("at", names.value(*at))],
        Op::Repeat { blocks, times, with } => {
            let blocks: Vec<_> = blocks.iter().map(|&block| names.block(block)).collect();
            let blocks = format!("[{}]", blocks.join(", "));
            vec![("blocks", blocks), ("times", times.to_string()), ("with", names.value(*with))]
        }
        Op::KvWrite { k, v, cache } => {
            vec![("k", names.value(*k)), ("v", names.value(*v)), ("cache", names.cache(*cache))]
        }
        Op::DecodeAttention { q, cache, mask } | Op::PrefillAttention { q, cache, mask } => {
            [("q", names.value(*q))].into_iter().chain(print_kept(*cache, *mask, names)).collect()
        }
        Op::Columns { x, from, width } => {
            vec![("x", names.value(*x)), ("from", from.to_string()), ("width", width.to_string())]
        }
        Op::AddRmsNorm { a, b, weight, eps } => {
            let norm = [("weight", weight.to_string()), ("eps", names.param(*eps))];
            [("a", names.value(*a)), ("b", names.value(*b))].into_iter().chain(norm).collect()
        }
        Op::AllReduce { x, ranks } | Op::AllGather { x, ranks } => {
            vec![("x", names.value(*x)), ("ranks", ranks.to_string())]
        }
    };
    call(op.name(), &fields)
}

fn print_kept(cache: CacheId, mask: Mask, names: Names<'_>) -> [(&'static str, String); 2] {
    [("cache", names.cache(cache)), ("mask", format!("{mask:?}"))]
}

fn print_scaling(scaling: RopeScaling, names: Names<'_>) -> String {
    match scaling {
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
            let fields = [
                ("factor", names.param(factor)),
                ("low_freq_factor", names.param(low_freq_factor)),
                ("high_freq_factor", names.param(high_freq_factor)),
                ("original_context", names.param(original_context)),
            ];
            call("Llama3", &fields)
        }
    }
}

fn call(name: &str, fields: &[(&str, String)]) -> String {
    let fields: Vec<_> = fields.iter().map(|(field, value)| format!("{field}: {value}")).collect();
    format!("{name}({})", fields.join(", "))
}

/// Reads an operator as the body of `names` means it.
pub(super) fn parse(call: &Call<'_>, names: Names<'_>) -> Result<Op, Diagnostic> {
    let args = Args::new(call, names);
    let op = parse_fields(&args)?;
    args.end().map(|()| op)
}

fn parse_fields(args: &Args<'_, '_>) -> Result<Op, Diagnostic> {
    match args.call.name {
        "Embed" => Ok(Op::Embed { ids: args.value("ids")?, weight: args.weight("weight")? }),
        "RmsNorm" => Ok(Op::RmsNorm { x: args.value("x")?, weight: args.weight("weight")?, eps: args.param("eps")? }),
        "Linear" => {
            let bias = if args.has("bias") { Some(args.weight("bias")?) } else { None };
            Ok(Op::Linear { x: args.value("x")?, weight: args.weight("weight")?, bias })
        }
        "Rope" => {
            let scaling = if args.has("scaling") { Some(parse_scaling(args)?) } else { None };
            let (x, pos) = (args.value("x")?, args.value("pos")?);
            Ok(Op::Rope { x, pos, head: args.dim("head")?, theta: args.param("theta")?, scaling })
        }
        "Attention" => {
            let (q, k, v) = (args.value("q")?, args.value("k")?, args.value("v")?);
            Ok(Op::Attention { q, k, v, cache: args.cache("cache")?, mask: parse_mask(args)? })
        }
        "Add" => Ok(Op::Add { a: args.value("a")?, b: args.value("b")? }),
        "GatedMul" => {
            let (gate, up) = (args.value("gate")?, args.value("up")?);
            Ok(Op::GatedMul { gate, up, by: parse_activation(args)? })
        }
        "Route" => {
            let (x, top_k, renormalize) = (args.value("x")?, args.dim("top_k")?, args.word("renormalize")? == "true");
            Ok(Op::Route { x, top_k, scoring: parse_scoring(args)?, renormalize })
        }
        "ExpertLinear" => {
            let (x, experts) = (args.value("x")?, args.value("experts")?);
            Ok(Op::ExpertLinear { x, experts, weight: args.weight("weight")? })
        }
        "Combine" => Ok(Op::Combine { x: args.value("x")?, shares: args.value("shares")? }),
        "Rows" => Ok(Op::Rows { x: args.value("x")?, at: args.value("at")? }),
        "Repeat" => {
            Ok(Op::Repeat { blocks: args.blocks("blocks")?, times: args.dim("times")?, with: args.value("with")? })
        }
        "KvWrite" => Ok(Op::KvWrite { k: args.value("k")?, v: args.value("v")?, cache: args.cache("cache")? }),
        "DecodeAttention" => {
            Ok(Op::DecodeAttention { q: args.value("q")?, cache: args.cache("cache")?, mask: parse_mask(args)? })
        }
        "PrefillAttention" => {
            Ok(Op::PrefillAttention { q: args.value("q")?, cache: args.cache("cache")?, mask: parse_mask(args)? })
        }
        "Columns" => Ok(Op::Columns { x: args.value("x")?, from: args.dim("from")?, width: args.dim("width")? }),
        "AddRmsNorm" => {
            let (a, b) = (args.value("a")?, args.value("b")?);
            Ok(Op::AddRmsNorm { a, b, weight: args.weight("weight")?, eps: args.param("eps")? })
        }
        "AllReduce" => Ok(Op::AllReduce { x: args.value("x")?, ranks: args.dim("ranks")? }),
        "AllGather" => Ok(Op::AllGather { x: args.value("x")?, ranks: args.dim("ranks")? }),
        other => Err(args.unknown("operator", other)),
    }
}

fn parse_mask(args: &Args<'_, '_>) -> Result<Mask, Diagnostic> {
    match args.word("mask")? {
        "Causal" => Ok(Mask::Causal),
        other => Err(args.unknown("mask", other)),
    }
}

fn parse_scoring(args: &Args<'_, '_>) -> Result<Scoring, Diagnostic> {
    match args.word("scoring")? {
        "Softmax" => Ok(Scoring::Softmax),
        "Sigmoid" => Ok(Scoring::Sigmoid),
        other => Err(args.unknown("scoring", other)),
    }
}

fn parse_activation(args: &Args<'_, '_>) -> Result<Activation, Diagnostic> {
    match args.word("by")? {
        "Silu" => Ok(Activation::Silu),
        "Gelu" => Ok(Activation::Gelu),
        "GeluTanh" => Ok(Activation::GeluTanh),
        other => Err(args.unknown("activation", other)),
    }
}

fn parse_scaling(args: &Args<'_, '_>) -> Result<RopeScaling, Diagnostic> {
    let call = args.call("scaling")?;
    let inner = args.inside(&call);
    let scaling = match call.name {
        "Llama3" => RopeScaling::Llama3 {
            factor: inner.param("factor")?,
            low_freq_factor: inner.param("low_freq_factor")?,
            high_freq_factor: inner.param("high_freq_factor")?,
            original_context: inner.param("original_context")?,
        },
        other => return Err(inner.unknown("scaling", other)),
    };
    inner.end().map(|()| scaling)
}
