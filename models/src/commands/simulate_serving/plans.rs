//! The plans of a run: which one a step takes, and what the step then costs.
//!
//! Steps of a run are many and alike. So a step's time is that of a step with rounded rows and contexts, by a few layers
//! ([`Totals::by_few_layers`]), and is asked of the simulator once. [`Plans::in_full`] says what that was worth.

use std::collections::HashMap;

use anyhow::bail;
use trefoil::registry::plans_of;
use trefoil_passes::cost::Mix;
use trefoil_passes::profile::Profile;
use trefoil_passes::simulate::totals::Totals;

use crate::candidates::{self, Candidate, obstacle};
use crate::exit::{CommandError, Exit, OrExit};
use crate::source::{self, Source};
use crate::study::Study;

/// The plan for all steps that no other suits.
const FALLBACK: &str = "sequential";

/// Plans, with what is known of their steps.
pub(super) struct Plans<'a> {
    profile: &'a Profile,
    plans: Vec<Candidate>,
    known: HashMap<(usize, Key), Totals>,
}

/// A rounded mix, floats by their bits.
type Key = ([u32; 3], [u64; 3]);

impl<'a> Plans<'a> {
    /// The named plans, or all that are compiled in and made for the study; `sequential` first in any case.
    pub(super) fn load(study: &'a Study, names: &[String]) -> Result<Self, CommandError> {
        let mut sources = vec![source::plan(FALLBACK)?];
        if names.is_empty() {
            sources.extend(compiled_in(study)?);
        }
        for name in names.iter().filter(|name| *name != FALLBACK) {
            sources.push(source::plan(name).or_exit(Exit::Usage)?);
        }
        let plans = sources.iter().map(|source| compile(study, source)).collect::<anyhow::Result<_>>();
        Ok(Self { profile: &study.profile, plans: plans.or_exit(Exit::Invalid)?, known: HashMap::new() })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.plans.iter().map(|plan| plan.name.as_str())
    }

    /// The number of the plan for a step.
    pub(super) fn choose(&self, mix: &Mix) -> usize {
        candidates::choose(&self.plans, mix)
    }

    /// What a step of rows much like these takes and does.
    pub(super) fn totals(&mut self, plan: usize, mix: &Mix) -> Totals {
        let rounded = rounded(mix);
        let Self { profile, plans, known } = self;
        let predict = || Totals::by_few_layers(&plans[plan].model(profile), &rounded);
        *known.entry((plan, key(&rounded))).or_insert_with(predict)
    }

    /// What a step of exactly these rows takes and does, by a run of all layers.
    pub(super) fn in_full(&self, plan: usize, mix: &Mix) -> Totals {
        Totals::of(&self.plans[plan].model(self.profile), mix)
    }

    /// Different steps that the simulator was asked for.
    pub(super) fn num_known(&self) -> usize {
        self.known.len()
    }
}

/// Plans beside the fallback that are compiled in for the graph, and made for the study's device and ranks.
fn compiled_in(study: &Study) -> anyhow::Result<Vec<Source>> {
    let others = plans_of(&study.source.name).into_iter().filter(|(name, _)| *name != FALLBACK);
    let sources = others.map(|(name, _)| source::plan(name)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut fitting = Vec::new();
    for source in sources {
        if obstacle(study, &source.load_plan()?).is_none() {
            fitting.push(source);
        }
    }
    Ok(fitting)
}

fn compile(study: &Study, source: &Source) -> anyhow::Result<Candidate> {
    if let Some(why) = obstacle(study, &source.load_plan()?) {
        bail!(
            "error[T1506]: the plan {} {why}, and the study is of {} × {}\n  help: another plan, --device or --tp",
            source.label,
            study.ranks,
            study.profile.name
        );
    }
    Candidate::compile(study, source)
}

/// The mix with rows in multiples of 16 and contexts in steps of 1/32 or less. Steps that fill the dense batch still
/// fill it, and the rarer kind of rows does not vanish.
fn rounded(mix: &Mix) -> Mix {
    let tokens = rows(mix.tokens());
    let rarer = rows(mix.decode.min(mix.prefill)).min(tokens);
    let decode = if mix.decode <= mix.prefill { rarer } else { tokens - rarer };
    Mix {
        decode,
        decode_context: to_parts(mix.decode_context),
        prefill: tokens - decode,
        prefill_keys: to_parts(mix.prefill_keys),
        prefill_kept: to_parts(mix.prefill_kept),
        seqs: rows(mix.seqs),
    }
}

/// The nearest multiple of 16, and small numbers as they are.
fn rows(count: u32) -> u32 {
    if count <= 64 { count } else { (count + 8) / 16 * 16 }
}

/// The nearest number of five binary digits after the first.
fn to_parts(value: f64) -> f64 {
    if value < 1.0 {
        return value.round();
    }
    let part = value.log2().floor().exp2() / 32.0;
    (value / part).round() * part
}

fn key(mix: &Mix) -> Key {
    let contexts = [mix.decode_context, mix.prefill_keys, mix.prefill_kept].map(f64::to_bits);
    ([mix.decode, mix.prefill, mix.seqs], contexts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_keeps_small_numbers_and_full_batches() {
        let mix = |decode, prefill| {
            let mix = Mix { decode, prefill, decode_context: 1000.0, prefill_keys: 3.0, prefill_kept: 77.7, seqs: 70 };
            let rounded = rounded(&mix);
            assert_eq!((rounded.decode_context, rounded.prefill_keys, rounded.prefill_kept), (1008.0, 3.0, 78.0));
            assert_eq!(rounded.seqs, 64);
            (rounded.decode, rounded.prefill)
        };
        assert_eq!(mix(3, 0), (3, 0));
        assert_eq!(mix(0, 130), (0, 128));
        assert_eq!(mix(2047, 1), (2047, 1));
        assert_eq!(mix(700, 1348), (704, 1344));
    }
}
