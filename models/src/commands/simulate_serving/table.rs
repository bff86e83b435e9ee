//! A simulated service on the terminal.

use trefoil_passes::simulate::units::{amount, percent, time};

use super::Simulated;
use super::report::{Report, Spread};
use crate::table::{Table, digits, fixed, whole};

/// What was served how, throughput, latencies, steps and plans.
pub(super) fn text(simulated: &Simulated) -> String {
    let report = &simulated.report;
    [heading(simulated), throughput(report), latencies(report), plans(report), prediction(simulated)].join("\n")
}

fn heading(simulated: &Simulated) -> String {
    let Simulated { graph, device, ranks, workload, arrivals, num_skipped, memory, report, .. } = simulated;
    let skipped = match num_skipped {
        0 => String::new(),
        _ => format!(", {num_skipped} skipped that are empty or longer than {} tokens", memory.longest_sequence),
    };
    format!(
        "{graph} on {ranks} × {device}, workload {workload}\n\
         requests  {}, {arrivals}{skipped}\n\
         memory    {} of weights; {} KV pages of {} tokens, {} at most in use\n\
         batcher   at most {} tokens and {} sequences in a step\n",
        whole(report.num_requests as f64),
        amount(memory.weight_bytes, "B"),
        whole(memory.num_pages as f64),
        memory.page_tokens,
        whole(report.steps.pages_in_use.max),
        whole(memory.max_num_batched_tokens as f64),
        whole(memory.max_num_seqs as f64),
    )
}

fn throughput(report: &Report) -> String {
    let (throughput, window) = (&report.throughput, &report.window);
    let used: Vec<_> = report.utilisation.iter().map(|used| format!("{} {}", used.name, percent(used.share))).collect();
    format!(
        "time        {}; measured from {} to {}\n\
         throughput  {} tokens/s in all, {} per device; {} output tokens/s, {} requests/s\n\
         used        {}; a step runs {} of the time\n",
        seconds(report.seconds),
        seconds(window.start),
        seconds(window.end),
        digits(throughput.tokens_per_second),
        digits(throughput.tokens_per_second_per_device),
        digits(throughput.output_tokens_per_second),
        digits(throughput.requests_per_second),
        used.join(", "),
        percent(report.busy),
    )
}

fn seconds(seconds: f64) -> String {
    if seconds >= 1.0 || seconds == 0.0 { format!("{} s", fixed(seconds, 1)) } else { time(seconds) }
}

fn latencies(report: &Report) -> String {
    let (latency, steps) = (&report.latency, &report.steps);
    let mut table = Table::new(["", "mean", "p50", "p90", "p99", "max"]);
    let mut row = |name: &str, spread: &Spread, scale: f64, decimals: usize| {
        let Spread { mean, p50, p90, p99, max } = *spread;
        let cells = [mean, p50, p90, p99, max].map(|value| fixed(value * scale, decimals));
        table.rows.push([vec![name.to_owned()], cells.to_vec()].concat());
    };
    row("TTFT, ms", &latency.ttft_seconds, 1e3, 1);
    row("TPOT, ms", &latency.tpot_seconds, 1e3, 2);
    row("normalized latency, ms/token", &latency.normalized_seconds, 1e3, 2);
    row("end to end, s", &latency.end_to_end_seconds, 1.0, 2);
    row("step, ms", &steps.seconds, 1e3, 2);
    row("rows of a step", &steps.rows, 1.0, 0);
    row("decode rows of a step", &steps.decode_rows, 1.0, 0);
    row("sequences running", &steps.running, 1.0, 0);
    row("sequences waiting", &steps.waiting, 1.0, 0);
    table.text()
}

fn plans(report: &Report) -> String {
    let num_steps: usize = report.plans.iter().map(|plan| plan.num_steps).sum();
    let seconds: f64 = report.plans.iter().map(|plan| plan.seconds).sum();
    let mut table = Table::new(["plan", "steps", "of all", "time", "of all"]);
    table.rows.extend(report.plans.iter().map(|plan| {
        vec![
            plan.name.clone(),
            whole(plan.num_steps as f64),
            percent(plan.num_steps as f64 / num_steps as f64),
            time(plan.seconds),
            percent(plan.seconds / seconds),
        ]
    }));
    let (switches, preemptions) = (report.num_plan_switches, report.num_preemptions);
    format!(
        "{}switched    {} times; {} of the rows measured are decode rows; {} preemptions\n",
        table.text(),
        whole(switches as f64),
        percent(report.steps.decode_share),
        whole(preemptions as f64),
    )
}

fn prediction(simulated: &Simulated) -> String {
    let prediction = &simulated.prediction;
    format!(
        "predicted   by {} simulated steps; of {} run in full, the time is off by {:+.2} % in all and {:.2} % at most\n",
        whole(prediction.num_simulated as f64),
        prediction.num_checked,
        100.0 * prediction.error,
        100.0 * prediction.largest_error,
    )
}
