//! What operators are told beside their operands, as text, printed and read side by side.

use super::lines::Args;
use super::names::Names;
use super::op::call;
use super::print;
use super::resolve::literal;
use crate::diag::Diagnostic;
use crate::op::{Function, Groups, Mask, Pairs, Pattern, RopeScaling, Score, Scoring, Switch};

/// Fields and their texts.
pub(super) type Fields = Vec<(&'static str, String)>;

pub(super) fn print_score(score: Score, names: Names<'_>) -> Fields {
    let Score { scale, softcap, window, sinks, alibi } = score;
    let params = [("scale", scale), ("softcap", softcap), ("window", window)];
    let params = params.into_iter().filter_map(|(field, param)| Some((field, names.param(param?))));
    let sinks = sinks.map(|sinks| ("sinks", sinks.to_string()));
    params.chain(sinks).chain(alibi.then(|| ("alibi", "true".to_owned()))).collect()
}

pub(super) fn parse_score(args: &Args<'_, '_>) -> Result<Score, Diagnostic> {
    Ok(Score {
        scale: args.optional("scale", Args::param)?,
        softcap: args.optional("softcap", Args::param)?,
        window: args.optional("window", Args::param)?,
        sinks: args.optional("sinks", Args::weight)?,
        alibi: args.optional("alibi", Args::word)? == Some("true"),
    })
}

pub(super) fn parse_mask(args: &Args<'_, '_>) -> Result<Mask, Diagnostic> {
    match args.word("mask")? {
        "Causal" => Ok(Mask::Causal),
        other => Err(args.unknown("mask", other)),
    }
}

pub(super) fn parse_scoring(args: &Args<'_, '_>) -> Result<Scoring, Diagnostic> {
    match args.word("scoring")? {
        "Softmax" => Ok(Scoring::Softmax),
        "Sigmoid" => Ok(Scoring::Sigmoid),
        other => Err(args.unknown("scoring", other)),
    }
}

pub(super) fn print_switch(switch: Switch, names: Names<'_>) -> String {
    match switch {
        Switch::On => "true".to_owned(),
        Switch::Off => "false".to_owned(),
        Switch::Setting(param) => names.param(param),
    }
}

pub(super) fn parse_switch(args: &Args<'_, '_>, field: &str) -> Result<Switch, Diagnostic> {
    match args.word(field) {
        Ok("true") => Ok(Switch::On),
        Ok("false") => Ok(Switch::Off),
        Ok(_) | Err(_) => args.param(field).map(Switch::Setting),
    }
}

/// `Silu`, `Scale(param: by)`.
pub(super) fn print_function(function: Function, names: Names<'_>) -> String {
    match function.parts() {
        (name, None) => name.to_owned(),
        (name, Some(param)) => call(name, &[("param", names.param(param))]),
    }
}

pub(super) fn parse_function(args: &Args<'_, '_>) -> Result<Function, Diagnostic> {
    if let Ok(name) = args.word("by") {
        return Function::from_parts(name, None).ok_or_else(|| args.unknown("function", name));
    }
    let call = args.call("by")?;
    let inner = args.inside(&call);
    let param = inner.param("param")?;
    let function = Function::from_parts(call.name, Some(param)).ok_or_else(|| inner.unknown("function", call.name))?;
    inner.end().map(|()| function)
}

pub(super) fn print_pairs(pairs: Pairs) -> Option<(&'static str, String)> {
    (pairs != Pairs::default()).then(|| ("pairs", format!("{pairs:?}")))
}

pub(super) fn parse_pairs(args: &Args<'_, '_>) -> Result<Pairs, Diagnostic> {
    match args.optional("pairs", Args::word)? {
        None | Some("Halves") => Ok(Pairs::Halves),
        Some("Adjacent") => Ok(Pairs::Adjacent),
        Some(other) => Err(args.unknown("kind of pairs", other)),
    }
}

/// `Best(of: 8, top: 3)`.
pub(super) fn print_groups(groups: &Groups) -> String {
    let (name, sizes) = groups.parts();
    call(name, &sizes.map(|(field, size)| (field, size.to_string())))
}

pub(super) fn parse_groups(args: &Args<'_, '_>) -> Result<Option<Groups>, Diagnostic> {
    if !args.has("groups") {
        return Ok(None);
    }
    let call = args.call("groups")?;
    let inner = args.inside(&call);
    let groups = match call.name {
        "Best" => Groups::Best { of: inner.dim("of")?, top: inner.dim("top")? },
        "BestTwo" => Groups::BestTwo { of: inner.dim("of")?, top: inner.dim("top")? },
        other => return Err(inner.unknown("groups of experts", other)),
    };
    inner.end().map(|()| Some(groups))
}

pub(super) fn print_scaling(scaling: RopeScaling, names: Names<'_>) -> String {
    let (name, settings) = scaling.parts();
    let fields: Vec<_> = settings.into_iter().map(|(field, param)| (field, names.param(param))).collect();
    call(name, &fields)
}

pub(super) fn parse_scaling(args: &Args<'_, '_>) -> Result<Option<RopeScaling>, Diagnostic> {
    if !args.has("scaling") {
        return Ok(None);
    }
    let call = args.call("scaling")?;
    let inner = args.inside(&call);
    let scaling = match call.name {
        "Linear" => RopeScaling::Linear { factor: inner.param("factor")? },
        "Llama3" => RopeScaling::Llama3 {
            factor: inner.param("factor")?,
            low_freq_factor: inner.param("low_freq_factor")?,
            high_freq_factor: inner.param("high_freq_factor")?,
            original_context: inner.param("original_context")?,
        },
        "Yarn" => RopeScaling::Yarn {
            factor: inner.param("factor")?,
            beta_fast: inner.param("beta_fast")?,
            beta_slow: inner.param("beta_slow")?,
            original_context: inner.param("original_context")?,
            attention: inner.param("attention")?,
            truncate: inner.param("truncate")?,
        },
        other => return Err(inner.unknown("scaling", other)),
    };
    inner.end().map(|()| Some(scaling))
}

/// `cycle: [0, 0, 1], keys: ["layer_types"], kinds: ["full_attention" to 1]`; nothing for blocks in turn.
pub(super) fn print_pattern(pattern: &Pattern, num_blocks: usize) -> Fields {
    let mut fields = vec![];
    if pattern.cycle != Pattern::in_turn(num_blocks).cycle {
        fields.push(("cycle", format!("{:?}", pattern.cycle)));
    }
    if !pattern.keys.is_empty() {
        let kinds: Vec<_> =
            pattern.kinds.iter().map(|(kind, at)| format!("{} to {at}", print::literal(kind))).collect();
        fields.push(("keys", format!("{:?}", pattern.keys)));
        fields.push(("kinds", format!("[{}]", kinds.join(", "))));
    }
    fields
}

pub(super) fn parse_pattern(args: &Args<'_, '_>, num_blocks: usize) -> Result<Pattern, Diagnostic> {
    let is_block = |at: &usize| *at < num_blocks;
    let mut pattern = Pattern::in_turn(num_blocks);
    if args.has("cycle") {
        pattern.cycle = args.list("cycle", |cursor| cursor.number())?;
    }
    if args.has("keys") {
        pattern.keys = args.list("keys", |cursor| cursor.string())?;
        pattern.kinds = args.list("kinds", |cursor| {
            let kind = literal(cursor)?;
            cursor.keyword("to")?;
            Ok((kind, cursor.number()?))
        })?;
    }
    let mut turns = pattern.cycle.iter().chain(pattern.kinds.iter().map(|(_, at)| at));
    if turns.all(is_block) { Ok(pattern) } else { Err(args.unknown("block at a place of", "cycle")) }
}
