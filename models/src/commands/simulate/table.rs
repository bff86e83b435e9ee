//! A simulated step on the terminal.

use trefoil_passes::simulate::report::{NodeUse, Report};
use trefoil_passes::simulate::units::{amount, percent, time};

use super::Simulated;

/// What is being simulated, the plan beside the sequential one, and where the time goes.
pub(super) fn text(simulated: &Simulated) -> String {
    [heading(simulated) + sharding(simulated), comparison(simulated), nodes(&simulated.report)].join("\n")
}

fn heading(simulated: &Simulated) -> String {
    let Simulated { graph, device, ranks, workload, batch, memory, .. } = simulated;
    format!(
        "{graph} on {ranks} × {device}, workload {workload}\n\
         batch     {} rows: {} decode, {:.0} tokens each, and {} prefill\n\
         memory    {} of weights; room for {:.0} tokens, {:.0} sequences, a batch of {:.0}\n",
        batch.decode + batch.prefill,
        batch.decode,
        batch.decode_context,
        batch.prefill,
        amount(memory.weight_bytes, "B"),
        memory.kv_tokens.floor(),
        memory.sequences.floor(),
        memory.largest_batch.floor(),
    )
}

/// A word about devices that nothing is divided among.
fn sharding(simulated: &Simulated) -> &'static str {
    let has_collectives = simulated.report.nodes.iter().any(|node| node.network > 0.0);
    match simulated.ranks > 1 && !has_collectives {
        true => "note      the plan does not divide the model: each device is simulated doing all of it\n",
        false => "",
    }
}

fn comparison(simulated: &Simulated) -> String {
    let (own, other) = (&simulated.report, &simulated.sequential);
    let mut rows = vec![
        [String::new(), simulated.plan.to_owned(), "sequential".to_owned(), "ratio".to_owned()],
        row("step", [own.seconds, other.seconds], time),
        row("rows per second", [own.tokens_per_second, other.tokens_per_second], |rate| format!("{rate:.0}")),
    ];
    for (used, before) in own.resources.iter().zip(&other.resources) {
        rows.push(row(&format!("{} used", used.name), [used.utilisation, before.utilisation], percent));
    }
    let part = |report: &Report, seconds: f64| seconds / report.seconds;
    let overlapped = [part(own, own.overlap_seconds), part(other, other.overlap_seconds)];
    rows.push(row("streams overlap", overlapped, percent));
    let streams = own.streams.iter().map(|stream| {
        let busy = percent(part(own, stream.busy_seconds));
        [format!("stream {}", stream.name), busy, String::new(), String::new()]
    });
    rows.extend(streams);
    aligned(&rows)
}

fn row(name: &str, values: [f64; 2], show: impl Fn(f64) -> String) -> [String; 4] {
    let ratio = if values[1] > 0.0 { format!("{:.2}", values[0] / values[1]) } else { String::new() };
    [name.to_owned(), show(values[0]), show(values[1]), ratio]
}

fn nodes(report: &Report) -> String {
    let head = ["node", "launches", "time", "alone", "speed", "critical"].map(str::to_owned);
    let mut nodes: Vec<&NodeUse> = report.nodes.iter().collect();
    nodes.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    let rows = nodes.into_iter().map(|node| {
        let on_path = report.critical_path.iter().find(|time| time.node == node.node);
        [
            node.node.clone(),
            node.num_launches.to_string(),
            time(node.seconds),
            time(node.seconds_alone),
            format!("{:.2}", node.seconds_alone / node.seconds),
            on_path.map_or(String::new(), |path| percent(path.seconds / report.seconds)),
        ]
    });
    aligned(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
}

/// Columns of their widest cell, the first one to the left and all others to the right.
fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| match column {
            0 => format!("{cell:width$}"),
            _ => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("   ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}
