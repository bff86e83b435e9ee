//! A replay in equal parts of its time.

use serde::Serialize;
use trefoil_passes::profile::Profile;
use trefoil_passes::simulate::totals::Totals;

use super::replay::{Ran, Replayed};
use super::report::{Used, utilisation};

/// A part of a replay's time. Rows and sequences are means over its time, those of idle time zero.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Moment {
    pub(super) start: f64,
    pub(super) end: f64,
    pub(super) decode_rows: f64,
    pub(super) prefill_rows: f64,
    pub(super) running: f64,
    pub(super) waiting: f64,
    pub(super) pages_in_use: f64,
    /// Share of the time in which steps of each plan run, by the number of the plan.
    pub(super) plan_shares: Vec<f64>,
    pub(super) utilisation: Vec<Used>,
    /// Of the requests that ended in it, if any did.
    pub(super) normalized_seconds: Option<f64>,
    /// Of the requests that had their first token in it, if any had.
    pub(super) ttft_seconds: Option<f64>,
}

/// The replay in `count` parts.
pub(super) fn over_time(replayed: &Replayed, count: usize, num_plans: usize, profile: &Profile) -> Vec<Moment> {
    let length = replayed.end() / count as f64;
    let part = |number: usize| (number as f64 * length, (number + 1) as f64 * length);
    (0..count).map(|number| moment(replayed, part(number), num_plans, profile)).collect()
}

fn moment(replayed: &Replayed, (start, end): (f64, f64), num_plans: usize, profile: &Profile) -> Moment {
    let steps = &replayed.steps;
    let first = steps.partition_point(|step| step.end <= start);
    let of_steps: Vec<(&Ran, f64)> = steps[first..]
        .iter()
        .take_while(|step| step.start < end)
        .map(|step| (step, covered(step, start, end)))
        .collect();
    let mean = |value: &dyn Fn(&Ran) -> f64| sum(of_steps.iter().map(|(step, share)| value(step) * share));
    let plan_share = |plan: usize| mean(&|step| if step.plan == plan { 1.0 } else { 0.0 });
    let rate = |work: fn(&Totals) -> f64| mean(&|step| work(&step.totals) / (step.end - step.start));
    let rates = Totals {
        seconds: 1.0,
        flops: rate(|totals| totals.flops),
        bytes: rate(|totals| totals.bytes),
        network: rate(|totals| totals.network),
    };
    let within = |at: f64| at > start && at <= end;
    let requests = &replayed.requests;
    Moment {
        start,
        end,
        decode_rows: mean(&|step| f64::from(step.mix.decode)),
        prefill_rows: mean(&|step| f64::from(step.mix.prefill)),
        running: mean(&|step| step.num_running as f64),
        waiting: mean(&|step| step.num_waiting as f64),
        pages_in_use: mean(&|step| step.num_pages_in_use as f64),
        plan_shares: (0..num_plans).map(plan_share).collect(),
        utilisation: utilisation(&rates, profile, 1.0),
        normalized_seconds: mean_of(requests.iter().filter(|r| within(r.last_token)).map(|r| r.normalized())),
        ttft_seconds: mean_of(requests.iter().filter(|r| within(r.first_token)).map(|r| r.ttft())),
    }
}

/// The share of a stretch of time that a step covers.
fn covered(step: &Ran, start: f64, end: f64) -> f64 {
    (step.end.min(end) - step.start.max(start)) / (end - start)
}

/// A sum that is 0, and not -0, of nothing.
fn sum(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(0.0, |sum, value| sum + value)
}

fn mean_of(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (count, sum) = values.fold((0usize, 0.0), |(count, sum), value| (count + 1, sum + value));
    (count > 0).then(|| sum / count as f64)
}
