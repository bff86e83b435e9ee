//! What a replay comes to: throughput, latencies, batches, plans and what was used of the devices.
//!
//! Throughput and use are those of a window in which the load is steady: it begins when the requests of the warm-up have
//! ended, and ends when no request has yet to come and none waits any more, before batches drain. NanoFlow's authors
//! measure likewise: iterations after the first thousands, of a system that always has requests waiting.

use serde::Serialize;
use trefoil_passes::profile::{Network, Profile};
use trefoil_passes::simulate::totals::Totals;

use super::replay::{Answered, Ran, Replayed};

/// A replay in numbers. Times are seconds of simulated time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Report {
    pub(super) num_requests: usize,
    /// From the first arrival to the last token.
    pub(super) seconds: f64,
    pub(super) window: Window,
    pub(super) throughput: Throughput,
    pub(super) latency: Latency,
    pub(super) steps: Steps,
    pub(super) plans: Vec<PlanUse>,
    /// Steps that ran by another plan than the step before.
    pub(super) num_plan_switches: usize,
    pub(super) num_preemptions: usize,
    /// Share of the window in which a step runs.
    pub(super) busy: f64,
    /// Share of its peak that is used of each resource in the window.
    pub(super) utilisation: Vec<Used>,
}

/// The time in which throughput is measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Window {
    pub(super) start: f64,
    pub(super) end: f64,
}

/// Tokens and requests per second. A token of a prompt counts when it is read first, one of an output when it is sampled.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Throughput {
    pub(super) tokens_per_second: f64,
    pub(super) tokens_per_second_per_device: f64,
    pub(super) output_tokens_per_second: f64,
    pub(super) requests_per_second: f64,
}

/// Latencies of the requests after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Latency {
    /// From arrival to the first token.
    pub(super) ttft_seconds: Spread,
    /// From a token to the next, each request's mean; of requests with two tokens or more.
    pub(super) tpot_seconds: Spread,
    /// From arrival to the last token, over the number of output tokens.
    pub(super) normalized_seconds: Spread,
    /// From arrival to the last token.
    pub(super) end_to_end_seconds: Spread,
}

/// The steps of the window.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Steps {
    pub(super) count: usize,
    pub(super) seconds: Spread,
    pub(super) rows: Spread,
    pub(super) decode_rows: Spread,
    /// Decode rows over all rows of all steps.
    pub(super) decode_share: f64,
    pub(super) running: Spread,
    pub(super) waiting: Spread,
    pub(super) pages_in_use: Spread,
}

/// How a number is spread.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub(super) struct Spread {
    pub(super) mean: f64,
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
}

/// How much a plan ran, of all steps.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct PlanUse {
    pub(super) name: String,
    pub(super) num_steps: usize,
    pub(super) seconds: f64,
}

/// What was used of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Used {
    pub(super) name: &'static str,
    pub(super) share: f64,
}

impl Spread {
    /// By nearest ranks; zeros of no values.
    pub(super) fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let Some(max) = values.last().copied() else { return Self::default() };
        let rank = |share: f64| values[((share * values.len() as f64).ceil() as usize).clamp(1, values.len()) - 1];
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        Self { mean, p50: rank(0.5), p90: rank(0.9), p99: rank(0.99), max }
    }
}

impl Report {
    pub(super) fn of(replayed: &Replayed, names: &[&str], profile: &Profile, ranks: u32, num_warmups: usize) -> Self {
        let window = Window::of(replayed, num_warmups);
        let within = |at: f64| at > window.start && at <= window.end;
        let steps: Vec<Ran> = replayed.steps.iter().copied().filter(|step| within(step.end)).collect();
        let num_ended = replayed.requests.iter().filter(|request| within(request.last_token)).count();
        let warm = warm_up_end(replayed, num_warmups);
        let counted: Vec<Answered> =
            replayed.requests.iter().copied().filter(|request| request.last_token > warm).collect();
        let totals = steps.iter().map(|step| step.totals).fold(Totals::default(), Totals::plus);
        let seconds = window.seconds();
        Self {
            num_requests: replayed.requests.len(),
            seconds: replayed.end(),
            window,
            throughput: Throughput::of(&steps, num_ended, seconds, ranks),
            latency: Latency::of(&counted),
            steps: Steps::of(&steps),
            plans: plan_uses(replayed, names),
            num_plan_switches: replayed.steps.windows(2).filter(|pair| pair[0].plan != pair[1].plan).count(),
            num_preemptions: replayed.steps.iter().map(|step| step.num_preempted).sum(),
            busy: (totals.seconds / seconds).min(1.0),
            utilisation: utilisation(&totals, profile, seconds),
        }
    }
}

impl Replayed {
    /// When the last step ended.
    pub(super) fn end(&self) -> f64 {
        self.steps.last().map_or(0.0, |step| step.end)
    }
}

impl Window {
    fn of(replayed: &Replayed, num_warmups: usize) -> Self {
        let start = warm_up_end(replayed, num_warmups);
        let last_arrival = replayed.requests.last().map_or(0.0, |last| last.request.at);
        let last_full = replayed.steps.iter().rfind(|step| step.num_waiting > 0).map_or(0.0, |step| step.end);
        let end = last_arrival.max(last_full);
        // Too few requests to be steady at any time: all of the run.
        if end > start { Self { start, end } } else { Self { start: 0.0, end: replayed.end() } }
    }

    pub(super) fn seconds(&self) -> f64 {
        self.end - self.start
    }
}

/// When so many requests have ended.
fn warm_up_end(replayed: &Replayed, num_warmups: usize) -> f64 {
    let mut ends: Vec<f64> = replayed.requests.iter().map(|request| request.last_token).collect();
    ends.sort_by(f64::total_cmp);
    num_warmups.checked_sub(1).and_then(|last| ends.get(last)).copied().unwrap_or(0.0)
}

impl Throughput {
    fn of(steps: &[Ran], num_ended: usize, seconds: f64, ranks: u32) -> Self {
        let prompts: usize = steps.iter().map(|step| step.num_prompt_tokens).sum();
        let outputs: usize = steps.iter().map(|step| step.num_output_tokens).sum();
        let tokens_per_second = (prompts + outputs) as f64 / seconds;
        Self {
            tokens_per_second,
            tokens_per_second_per_device: tokens_per_second / f64::from(ranks),
            output_tokens_per_second: outputs as f64 / seconds,
            requests_per_second: num_ended as f64 / seconds,
        }
    }
}

impl Latency {
    fn of(requests: &[Answered]) -> Self {
        let spread = |value: fn(&Answered) -> f64| Spread::of(requests.iter().map(value));
        let gaps = requests.iter().filter(|request| request.request.lengths.output > 1);
        Self {
            ttft_seconds: spread(Answered::ttft),
            tpot_seconds: Spread::of(gaps.map(Answered::tpot)),
            normalized_seconds: spread(Answered::normalized),
            end_to_end_seconds: spread(Answered::end_to_end),
        }
    }
}

impl Answered {
    pub(super) fn ttft(&self) -> f64 {
        self.first_token - self.request.at
    }

    fn tpot(&self) -> f64 {
        (self.last_token - self.first_token) / (self.request.lengths.output - 1) as f64
    }

    pub(super) fn normalized(&self) -> f64 {
        self.end_to_end() / self.request.lengths.output as f64
    }

    fn end_to_end(&self) -> f64 {
        self.last_token - self.request.at
    }
}

impl Steps {
    fn of(steps: &[Ran]) -> Self {
        let spread = |value: &dyn Fn(&Ran) -> f64| Spread::of(steps.iter().map(value));
        let (rows, decode_rows) =
            (spread(&|step| f64::from(step.mix.tokens())), spread(&|step| f64::from(step.mix.decode)));
        Self {
            count: steps.len(),
            seconds: spread(&|step| step.end - step.start),
            rows,
            decode_rows,
            decode_share: if rows.mean > 0.0 { decode_rows.mean / rows.mean } else { 0.0 },
            running: spread(&|step| step.num_running as f64),
            waiting: spread(&|step| step.num_waiting as f64),
            pages_in_use: spread(&|step| step.num_pages_in_use as f64),
        }
    }
}

fn plan_uses(replayed: &Replayed, names: &[&str]) -> Vec<PlanUse> {
    let of_plan = |(number, name): (usize, &&str)| {
        let own = replayed.steps.iter().filter(|step| step.plan == number);
        let (num_steps, seconds) =
            own.fold((0, 0.0), |(steps, seconds), step| (steps + 1, seconds + step.totals.seconds));
        PlanUse { name: (*name).to_owned(), num_steps, seconds }
    };
    names.iter().enumerate().map(of_plan).collect()
}

/// What the work comes to of what a device could have done in that time.
pub(super) fn utilisation(totals: &Totals, profile: &Profile, seconds: f64) -> Vec<Used> {
    let used = |name, work: f64, peak: f64| Used { name, share: work / (peak * seconds) };
    let mut all = vec![
        used("compute", totals.flops, profile.compute.flops),
        used("memory", totals.bytes, profile.memory.bandwidth),
    ];
    all.extend(profile.network.map(|network: Network| used("network", totals.network, network.one_way())));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_the_nearest() {
        let spread = Spread::of((1..=200).rev().map(f64::from));
        assert_eq!(spread, Spread { mean: 100.5, p50: 100.0, p90: 180.0, p99: 198.0, max: 200.0 });
        assert_eq!(Spread::of(std::iter::once(3.0)), Spread { mean: 3.0, p50: 3.0, p90: 3.0, p99: 3.0, max: 3.0 });
        assert_eq!(Spread::of(std::iter::empty()), Spread::default());
    }
}
