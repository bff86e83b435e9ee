//! `trefoil explain`: which plan serves which batch, by what rule, and what it is predicted to win.
//!
//! The rule is the runtime's own ([`choose`]); the gain comes from simulating the step by the plan and by the sequential
//! one.

use std::fmt::Write;

use anyhow::ensure;
use trefoil::registry::plans_of;
use trefoil_passes::cost::{Capacity, Mix};
use trefoil_passes::simulate::seconds;
use trefoil_runtime::model::Suits;

use crate::args::ExplainArgs;
use crate::candidates::{Candidate, choose, obstacle};
use crate::exit::{Exit, OrExit, Outcome};
use crate::source::{self, Source};
use crate::study::Study;

/// Rows of the dense batches that are looked at.
const TOKENS: [u32; 9] = [1, 16, 64, 128, 256, 512, 1024, 2048, 4096];
/// Of those rows, how many in a hundred are decodes.
const DECODE_PERCENT: [u32; 5] = [0, 25, 50, 75, 100];

/// Runs the command.
pub(crate) fn run(args: &ExplainArgs) -> Outcome {
    let study = Study::load(&args.study)?;
    let capacity =
        study.footprint().capacity(&study.profile, study.ranks, &study.workload).or_exit(Exit::DoesNotFit)?;
    let sources = sources(&study, &args.plan).or_exit(Exit::Usage)?;
    let (candidates, others) = candidates(&study, &sources).or_exit(Exit::Invalid)?;
    print!("{}", text(&study, &capacity, &candidates, &others));
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
            None => candidates.push(Candidate::compile(study, source)?),
        }
    }
    ensure!(!candidates.is_empty(), "no plan goes with {} × {}", study.ranks, study.profile.name);
    Ok((candidates, others))
}

fn text(study: &Study, capacity: &Capacity, candidates: &[Candidate], others: &[String]) -> String {
    let (graph, device, ranks) = (&study.source.name, &study.profile.name, study.ranks);
    let mut text = format!(
        "{graph} on {ranks} × {device}, workload {}: room for {:.0} sequences\n\
         a step runs by the last of these plans that suits it:\n",
        study.workload_name,
        capacity.sequences.floor()
    );
    let width = candidates.iter().map(|candidate| candidate.name.len()).max().unwrap_or(0);
    for candidate in candidates {
        let _ = writeln!(text, "  {:width$}  {}", candidate.name, in_words(candidate.suits));
    }
    others.iter().for_each(|other| text += &format!("not here: {other}\n"));
    text += &format!("\nplans by tokens of a step and share of decodes, with the gain over {}:\n", candidates[0].name);
    text + &grid(study, capacity, candidates)
}

/// A line for each number of tokens, a column for each share of decodes.
fn grid(study: &Study, capacity: &Capacity, candidates: &[Candidate]) -> String {
    let head = DECODE_PERCENT.iter().map(|percent| format!("{percent} %"));
    let mut lines = vec![std::iter::once("tokens".to_owned()).chain(head).collect::<Vec<_>>()];
    for tokens in TOKENS {
        let cells = DECODE_PERCENT.iter().map(|percent| {
            let decode = tokens * percent / 100;
            let fits = f64::from(decode) <= capacity.sequences;
            if fits { cell(study, candidates, &study.workload.mix_of(decode, tokens - decode)) } else { "-".to_owned() }
        });
        lines.push(std::iter::once(tokens.to_string()).chain(cells).collect());
    }
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..=DECODE_PERCENT.len()).map(width).collect();
    let line = |cells: &Vec<String>| {
        let cells: Vec<_> = cells.iter().zip(&widths).map(|(cell, &width)| format!("{cell:>width$}")).collect();
        cells.join("   ") + "\n"
    };
    lines.iter().map(line).collect()
}

/// The plan of a batch, with its gain where it is not the sequential one.
fn cell(study: &Study, candidates: &[Candidate], mix: &Mix) -> String {
    let plan = choose(candidates, mix);
    let Candidate { name, .. } = &candidates[plan];
    if plan == 0 {
        return name.clone();
    }
    format!("{name} {:+.1} %", 100.0 * predicted_gain(study, &candidates[plan], &candidates[0], mix))
}

/// What a plan wins over the sequential one in a step: 0.1 for ten percent more rows per second.
fn predicted_gain(study: &Study, candidate: &Candidate, sequential: &Candidate, mix: &Mix) -> f64 {
    let time = |candidate: &Candidate| seconds(&candidate.model(&study.profile), mix);
    time(sequential) / time(candidate) - 1.0
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
