//! `trefoil explain`: which plan serves which batch, by what rule, and what it is predicted to win.
//!
//! The rule is the runtime's own ([`choose`]); the gain comes from simulating the step by the plan and by the sequential
//! one.

use std::fmt::Write;

use anyhow::ensure;
use trefoil::registry::plans_of;
use trefoil_ir::bind::Bound;
use trefoil_ir::graph::Graph;
use trefoil_passes::cost::{Capacity, Mix, Model};
use trefoil_passes::plan::Plan;
use trefoil_passes::simulate::seconds;
use trefoil_runtime::launch::StepRows;
use trefoil_runtime::model::{Suits, choose};

use crate::args::ExplainArgs;
use crate::exit::{Exit, OrExit, Outcome};
use crate::source::{self, Source};
use crate::study::Study;

/// Rows of the dense batches that are looked at.
const TOKENS: [u32; 9] = [1, 16, 64, 128, 256, 512, 1024, 2048, 4096];
/// Of those rows, how many in a hundred are decodes.
const DECODE_PERCENT: [u32; 5] = [0, 25, 50, 75, 100];

/// A plan that goes with device and ranks.
struct Candidate {
    name: String,
    suits: Suits,
    /// The graph compiled by it, with the sizes of a rank.
    compiled: (Graph, Bound),
}

/// A batch with the number of its plan.
struct Choice {
    mix: Mix,
    plan: usize,
}

/// Runs the command.
pub(crate) fn run(args: &ExplainArgs) -> Outcome {
    let study = Study::load(&args.study)?;
    let capacity =
        study.footprint().capacity(&study.profile, study.ranks, &study.workload).or_exit(Exit::DoesNotFit)?;
    let sources = sources(&study, &args.plan).or_exit(Exit::Usage)?;
    let (candidates, others) = candidates(&study, &sources).or_exit(Exit::Invalid)?;
    let choices: Vec<_> = batches(&study, &capacity).map(|mix| choice(&candidates, mix)).collect();
    print!("{}", text(&study, &capacity, &candidates, &others, &choices));
    Ok(())
}

/// The plans compiled in for the graph, and then those in the files given: later ones are looked at first.
fn sources(study: &Study, files: &[String]) -> anyhow::Result<Vec<Source>> {
    let compiled_in = plans_of(&study.source.name).into_iter().map(|(name, _)| name.to_owned());
    compiled_in.chain(files.iter().cloned()).map(|plan| source::plan(&plan)).collect()
}

/// The plans that go with device and ranks; and of the others, why they do not.
fn candidates(study: &Study, sources: &[Source]) -> anyhow::Result<(Vec<Candidate>, Vec<String>)> {
    let (mut candidates, mut others) = (vec![], vec![]);
    for source in sources {
        let plan = source.load_plan()?;
        match obstacle(study, &plan) {
            Some(why) => others.push(format!("{} {why}", plan.name)),
            None => {
                let compiled = study.compile(source)?;
                candidates.push(Candidate { suits: suits(&plan), name: plan.name, compiled });
            }
        }
    }
    ensure!(!candidates.is_empty(), "no plan goes with {} × {}", study.ranks, study.profile.name);
    Ok((candidates, others))
}

fn obstacle(study: &Study, plan: &Plan) -> Option<String> {
    let device = plan.device.as_ref().filter(|device| **device != study.profile.name);
    let ranks = plan.ranks.filter(|ranks| *ranks != study.ranks);
    match (device, ranks) {
        (None, None) => None,
        (Some(device), None) => Some(format!("is for {device}")),
        (None, Some(ranks)) => Some(format!("is for {ranks} ranks")),
        (Some(device), Some(ranks)) => Some(format!("is for {ranks} × {device}")),
    }
}

fn suits(plan: &Plan) -> Suits {
    let trefoil_passes::plan::Suits { min_tokens, min_decode, max_tokens, max_decode } = plan.suits;
    Suits { min_tokens, min_decode, max_tokens, max_decode }
}

/// The batches of the grid that memory has room for.
fn batches(study: &Study, capacity: &Capacity) -> impl Iterator<Item = Mix> {
    let decodes = |tokens: u32| DECODE_PERCENT.map(|percent| (tokens, (tokens * percent).div_ceil(100)));
    let mut grid: Vec<_> = TOKENS.into_iter().flat_map(decodes).collect();
    grid.dedup();
    let most = capacity.sequences as u32;
    grid.retain(|(_, decode)| *decode <= most);
    grid.into_iter().map(|(tokens, decode)| study.workload.mix_of(decode, tokens - decode))
}

fn choice(candidates: &[Candidate], mix: Mix) -> Choice {
    let rows = StepRows { tokens: mix.tokens(), decode: mix.decode, seqs: mix.seqs };
    Choice { mix, plan: choose(candidates.iter().map(|candidate| candidate.suits), rows) }
}

fn text(study: &Study, capacity: &Capacity, candidates: &[Candidate], others: &[String], choices: &[Choice]) -> String {
    let (graph, device, ranks) = (&study.source.name, &study.profile.name, study.ranks);
    let mut text = format!(
        "{graph} on {ranks} × {device}, workload {}: room for {:.0} sequences\n",
        study.workload_name,
        capacity.sequences.floor()
    );
    let width = candidates.iter().map(|candidate| candidate.name.len()).max().unwrap_or(0);
    for candidate in candidates {
        let _ = writeln!(text, "plan {:width$}  {}", candidate.name, in_words(candidate.suits));
    }
    others.iter().for_each(|other| text += &format!("not here: {other}\n"));
    let _ = writeln!(text, "\n{:>6}  {:>6}  {:width$}  {:>8}  because", "tokens", "decode", "plan", "gain");
    for Choice { mix, plan } in choices {
        let name = &candidates[*plan].name;
        let gain = predicted_gain(study, &candidates[*plan], &candidates[0], mix);
        let gain = if *plan == 0 { String::new() } else { format!("{:+.1} %", 100.0 * gain) };
        let why = reason(candidates, *plan, mix);
        let _ = writeln!(text, "{:>6}  {:>6}  {name:width$}  {gain:>8}  {why}", mix.tokens(), mix.decode);
    }
    text
}

/// What a plan wins over the sequential one in a step: 0.1 for ten percent more rows per second.
fn predicted_gain(study: &Study, candidate: &Candidate, sequential: &Candidate, mix: &Mix) -> f64 {
    let time = |candidate: &Candidate| {
        let (graph, bound) = &candidate.compiled;
        seconds(&Model { graph, bound, profile: &study.profile }, mix)
    };
    time(sequential) / time(candidate) - 1.0
}

/// Why the plan is the one: what it suits, or that no other does; and which of several comes last.
fn reason(candidates: &[Candidate], plan: usize, mix: &Mix) -> String {
    let rows = StepRows { tokens: mix.tokens(), decode: mix.decode, seqs: mix.seqs };
    let before: Vec<_> = candidates[..plan].iter().skip(1).filter(|other| other.suits.has(rows)).collect();
    let names: Vec<_> = before.iter().map(|other| other.name.as_str()).collect();
    match (plan, names.as_slice()) {
        (0, _) => "no other suits".to_owned(),
        (_, []) => format!("suits {}", in_words(candidates[plan].suits)),
        (_, names) => format!("suits {}; comes after {}", in_words(candidates[plan].suits), names.join(", ")),
    }
}

/// `256 to 2048 tokens, at least 32 decode rows`.
fn in_words(suits: Suits) -> String {
    let bounds = |least: u32, most: Option<u32>, what: &str| match (least, most) {
        (0, None) => None,
        (least, None) => Some(format!("at least {least} {what}")),
        (0, Some(most)) => Some(format!("at most {most} {what}")),
        (least, Some(most)) => Some(format!("{least} to {most} {what}")),
    };
    let tokens = bounds(suits.min_tokens, suits.max_tokens, "tokens");
    let decode = bounds(suits.min_decode, suits.max_decode, "decode rows");
    let words: Vec<_> = [tokens, decode].into_iter().flatten().collect();
    if words.is_empty() { "any batch".to_owned() } else { words.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_told_in_words() {
        let suits = |min_tokens, max_tokens, min_decode, max_decode| {
            in_words(Suits { min_tokens, min_decode, max_tokens, max_decode })
        };
        assert_eq!(suits(0, None, 0, None), "any batch");
        assert_eq!(suits(256, Some(2048), 32, None), "256 to 2048 tokens, at least 32 decode rows");
        assert_eq!(suits(0, Some(64), 0, Some(0)), "at most 64 tokens, at most 0 decode rows");
    }
}
