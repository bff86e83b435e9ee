//! The requests of a run: how long they are, and when they arrive.

use std::path::Path;

use anyhow::{Context, bail, ensure};

use crate::args::SimulateServingArgs;
use crate::arrivals;
use crate::lengths::{self, Lengths, TraceLengths};

/// Requests without a trace, unless another number is asked for.
const DEFAULT_NUM_REQUESTS: usize = 5000;

/// A request on its way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Arriving {
    /// Seconds from the first arrival.
    pub(super) at: f64,
    pub(super) lengths: Lengths,
}

/// All requests in the order of their arrival.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Offer {
    pub(super) requests: Vec<Arriving>,
    /// Requests of the trace that are empty or too long.
    pub(super) num_skipped: usize,
    /// How they arrive, in words.
    pub(super) manner: String,
    /// Whether all arrive before the first step.
    pub(super) is_at_once: bool,
}

/// The requests that a workload and a rate stand for, none longer than `longest` tokens.
pub(super) fn offer(args: &SimulateServingArgs, longest: usize) -> anyhow::Result<Offer> {
    ensure!(args.num_requests != Some(0), "--num-requests is 0: there is nothing to simulate");
    let taken = take(args, longest)?;
    let (arrivals, manner) = arrive(args, &taken)?;
    let mut requests: Vec<_> =
        taken.requests.iter().zip(arrivals).map(|(lengths, at)| Arriving { at, lengths: *lengths }).collect();
    requests.sort_by(|a, b| a.at.total_cmp(&b.at));
    let first = requests.first().map_or(0.0, |request| request.at);
    requests.iter_mut().for_each(|request| request.at -= first);
    let is_at_once = requests.last().is_none_or(|last| last.at == 0.0);
    Ok(Offer { requests, num_skipped: taken.num_skipped, manner, is_at_once })
}

fn take(args: &SimulateServingArgs, longest: usize) -> anyhow::Result<TraceLengths> {
    let workload = &args.study.workload;
    let Some(lengths) = constant(workload)? else {
        return lengths::from_trace(Path::new(workload), args.num_requests.unwrap_or(usize::MAX), longest);
    };
    let num_tokens = lengths.input + lengths.output;
    ensure!(
        num_tokens <= longest,
        "--workload {workload}: a request takes {num_tokens} tokens, and the longest sequence has {longest}"
    );
    let count = args.num_requests.unwrap_or(DEFAULT_NUM_REQUESTS);
    Ok(TraceLengths { requests: vec![lengths; count], arrivals: None, num_skipped: 0 })
}

/// The lengths that `512:1024` stands for; `None` for a trace.
fn constant(workload: &str) -> anyhow::Result<Option<Lengths>> {
    let Some((input, output)) = workload.split_once(':').filter(|_| !Path::new(workload).is_file()) else {
        return Ok(None);
    };
    let whole = |text: &str| text.parse().ok().filter(|tokens| *tokens > 0);
    let lengths = whole(input).zip(whole(output)).map(|(input, output)| Lengths { input, output });
    lengths
        .map(Some)
        .with_context(|| format!("--workload {workload}: prompt and output are whole numbers above 0 here"))
}

/// When each of the requests arrives, and how that is called.
fn arrive(args: &SimulateServingArgs, taken: &TraceLengths) -> anyhow::Result<(Vec<f64>, String)> {
    let (count, workload) = (taken.requests.len(), &args.study.workload);
    let at_once = || (vec![0.0; count], "all at once".to_owned());
    match (args.rate, own_arrivals(taken)) {
        (Some(rate), _) if rate.is_infinite() => Ok(at_once()),
        (Some(rate), Some(own)) => {
            Ok((arrivals::at_rate(&own, rate), format!("as in the trace, at {rate} requests/s")))
        }
        (Some(rate), None) => Ok((arrivals::poisson(count, rate, args.seed), format!("Poisson, {rate} requests/s"))),
        (None, Some(own)) => Ok((own, "as in the trace".to_owned())),
        (None, None) if constant(workload)?.is_some() => Ok(at_once()),
        (None, None) => bail!(
            "the trace {workload} does not say when its requests arrive\n  help: --rate 5 for a Poisson process of 5 \
             requests/s, --rate inf for all at once"
        ),
    }
}

/// The trace's arrivals from 0 on, in order of the requests.
fn own_arrivals(taken: &TraceLengths) -> Option<Vec<f64>> {
    let arrivals = taken.arrivals.as_ref()?;
    let first = arrivals.iter().copied().fold(f64::INFINITY, f64::min);
    Some(arrivals.iter().map(|at| at - first).collect())
}
