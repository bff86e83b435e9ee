//! Operators as text: `Linear(x: n1, weight: w2)`, printed and read side by side.

use super::lines::{Args, Call};
use super::names::Names;
use super::settings::{
    Fields, parse_function, parse_groups, parse_mask, parse_pairs, parse_pattern, parse_scaling, parse_score,
    parse_scoring, parse_switch, print_function, print_groups, print_pairs, print_pattern, print_scaling, print_score,
    print_switch,
};
use crate::diag::Diagnostic;
use crate::dim::Dim;
use crate::ids::{CacheId, ParamId, WeightId};
use crate::op::{Mask, Op, Score};

/// The operator as the body of `names` writes it.
pub(super) fn print(op: &Op, names: Names<'_>) -> String {
    let fields: Fields = match op {
        Op::Embed { ids, weight } => vec![("ids", names.value(*ids)), ("weight", weight.to_string())],
        Op::RmsNorm { x, weight, eps, group } => {
            let norm = print_norm((*weight, None), *eps, group.as_ref(), names);
            [("x", names.value(*x))].into_iter().chain(norm).collect()
        }
        Op::LayerNorm { x, weight, bias, eps, group } => {
            let norm = print_norm((*weight, *bias), *eps, group.as_ref(), names);
            [("x", names.value(*x))].into_iter().chain(norm).collect()
        }
        Op::Linear { x, weight, bias } => {
            let matrix = [("x", names.value(*x)), ("weight", weight.to_string())];
            matrix.into_iter().chain(print_bias(*bias)).collect()
        }
        Op::Rope { x, pos, head, theta, rotary, pairs, scaling } => {
            let positions = [("x", names.value(*x)), ("pos", names.value(*pos))];
            let settings = [("head", head.to_string()), ("theta", names.param(*theta))];
            let rotary = rotary.as_ref().map(|rotary| ("rotary", rotary.to_string()));
            let scaling = scaling.map(|scaling| ("scaling", print_scaling(scaling, names)));
            positions.into_iter().chain(settings).chain(rotary).chain(print_pairs(*pairs)).chain(scaling).collect()
        }
        Op::Attention { q, k, v, cache, mask, score } => {
            let kv = [("k", names.value(*k)), ("v", names.value(*v))];
            [("q", names.value(*q))].into_iter().chain(kv).chain(print_kept(*cache, *mask, *score, names)).collect()
        }
        Op::Join { a, b, heads } => {
            vec![("a", names.value(*a)), ("b", names.value(*b)), ("heads", heads.to_string())]
        }
        Op::Add { a, b } => vec![("a", names.value(*a)), ("b", names.value(*b))],
        Op::GatedMul { gate, up, by, limit, shift } => {
            let operands = [("gate", names.value(*gate)), ("up", names.value(*up))];
            let limit = limit.map(|limit| ("limit", names.param(limit)));
            let shift = shift.map(|shift| ("shift", names.param(shift)));
            let by = [("by", print_function(*by, names))];
            operands.into_iter().chain(by).chain(limit).chain(shift).collect()
        }
        Op::Apply { x, by } => vec![("x", names.value(*x)), ("by", print_function(*by, names))],
        Op::Route { x, top_k, scoring, renormalize, bias, groups } => {
            let settings = [("scoring", format!("{scoring:?}")), ("renormalize", print_switch(*renormalize, names))];
            let operands = [("x", names.value(*x)), ("top_k", top_k.to_string())];
            let groups = groups.as_ref().map(|groups| ("groups", print_groups(groups)));
            operands.into_iter().chain(settings).chain(print_bias(*bias)).chain(groups).collect()
        }
        Op::ExpertLinear { x, experts, weight, bias } => {
            let operands = [("x", names.value(*x)), ("experts", names.value(*experts))];
            operands.into_iter().chain([("weight", weight.to_string())]).chain(print_bias(*bias)).collect()
        }
        Op::Combine { x, shares } => vec![("x", names.value(*x)), ("shares", names.value(*shares))],
        Op::Rows { x, at } => vec![("x", names.value(*x)), ("at", names.value(*at))],
        Op::Repeat { blocks, pattern, times, with } => {
            let texts: Vec<_> = blocks.iter().map(|&block| names.block(block)).collect();
            let texts = [("blocks", format!("[{}]", texts.join(", ")))];
            let layers = [("times", times.to_string()), ("with", names.value(*with))];
            texts.into_iter().chain(layers).chain(print_pattern(pattern, blocks.len())).collect()
        }
        Op::KvWrite { k, v, cache } => {
            vec![("k", names.value(*k)), ("v", names.value(*v)), ("cache", names.cache(*cache))]
        }
        Op::DecodeAttention { q, cache, mask, score } | Op::PrefillAttention { q, cache, mask, score } => {
            [("q", names.value(*q))].into_iter().chain(print_kept(*cache, *mask, *score, names)).collect()
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

fn print_kept(cache: CacheId, mask: Mask, score: Score, names: Names<'_>) -> Fields {
    let kept = [("cache", names.cache(cache)), ("mask", format!("{mask:?}"))];
    kept.into_iter().chain(print_score(score, names)).collect()
}

fn print_norm(
    (weight, bias): (Option<WeightId>, Option<WeightId>),
    eps: ParamId,
    group: Option<&Dim>,
    names: Names<'_>,
) -> Fields {
    let weight = weight.map(|weight| ("weight", weight.to_string()));
    let group = group.map(|group| ("group", group.to_string()));
    weight.into_iter().chain(print_bias(bias)).chain([("eps", names.param(eps))]).chain(group).collect()
}

fn print_bias(bias: Option<WeightId>) -> Option<(&'static str, String)> {
    bias.map(|bias| ("bias", bias.to_string()))
}

pub(super) fn call(name: &str, fields: &[(&str, String)]) -> String {
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
        "RmsNorm" => {
            let (x, weight) = (args.value("x")?, args.optional("weight", Args::weight)?);
            Ok(Op::RmsNorm { x, weight, eps: args.param("eps")?, group: args.optional("group", Args::dim)? })
        }
        "LayerNorm" => {
            let (x, weight) = (args.value("x")?, args.optional("weight", Args::weight)?);
            let (bias, group) = (args.optional("bias", Args::weight)?, args.optional("group", Args::dim)?);
            Ok(Op::LayerNorm { x, weight, bias, eps: args.param("eps")?, group })
        }
        "Linear" => {
            let bias = args.optional("bias", Args::weight)?;
            Ok(Op::Linear { x: args.value("x")?, weight: args.weight("weight")?, bias })
        }
        "Rope" => {
            let (x, pos) = (args.value("x")?, args.value("pos")?);
            let (head, theta) = (args.dim("head")?, args.param("theta")?);
            let (rotary, pairs) = (args.optional("rotary", Args::dim)?, parse_pairs(args)?);
            Ok(Op::Rope { x, pos, head, theta, rotary, pairs, scaling: parse_scaling(args)? })
        }
        "Attention" => {
            let (q, k, v) = (args.value("q")?, args.value("k")?, args.value("v")?);
            let (cache, mask, score) = parse_kept(args)?;
            Ok(Op::Attention { q, k, v, cache, mask, score })
        }
        "Join" => Ok(Op::Join { a: args.value("a")?, b: args.value("b")?, heads: args.dim("heads")? }),
        "Add" => Ok(Op::Add { a: args.value("a")?, b: args.value("b")? }),
        "GatedMul" => {
            let (gate, up, by) = (args.value("gate")?, args.value("up")?, parse_function(args)?);
            let (limit, shift) = (args.optional("limit", Args::param)?, args.optional("shift", Args::param)?);
            Ok(Op::GatedMul { gate, up, by, limit, shift })
        }
        "Apply" => Ok(Op::Apply { x: args.value("x")?, by: parse_function(args)? }),
        "Route" => {
            let (x, top_k, scoring) = (args.value("x")?, args.dim("top_k")?, parse_scoring(args)?);
            let (renormalize, bias) = (parse_switch(args, "renormalize")?, args.optional("bias", Args::weight)?);
            Ok(Op::Route { x, top_k, scoring, renormalize, bias, groups: parse_groups(args)? })
        }
        "ExpertLinear" => {
            let (x, experts) = (args.value("x")?, args.value("experts")?);
            let bias = args.optional("bias", Args::weight)?;
            Ok(Op::ExpertLinear { x, experts, weight: args.weight("weight")?, bias })
        }
        "Combine" => Ok(Op::Combine { x: args.value("x")?, shares: args.value("shares")? }),
        "Rows" => Ok(Op::Rows { x: args.value("x")?, at: args.value("at")? }),
        "Repeat" => {
            let (blocks, times, with) = (args.blocks("blocks")?, args.dim("times")?, args.value("with")?);
            let pattern = parse_pattern(args, blocks.len())?;
            Ok(Op::Repeat { blocks, pattern, times, with })
        }
        "KvWrite" => Ok(Op::KvWrite { k: args.value("k")?, v: args.value("v")?, cache: args.cache("cache")? }),
        "DecodeAttention" => {
            let (cache, mask, score) = parse_kept(args)?;
            Ok(Op::DecodeAttention { q: args.value("q")?, cache, mask, score })
        }
        "PrefillAttention" => {
            let (cache, mask, score) = parse_kept(args)?;
            Ok(Op::PrefillAttention { q: args.value("q")?, cache, mask, score })
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

fn parse_kept(args: &Args<'_, '_>) -> Result<(CacheId, Mask, Score), Diagnostic> {
    Ok((args.cache("cache")?, parse_mask(args)?, parse_score(args)?))
}
