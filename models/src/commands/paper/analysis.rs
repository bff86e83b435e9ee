//! The analysis of the paper's section 3: table 2, figure 2 and figure 3. All of it follows from specifications.

use anyhow::{Context, anyhow};
use trefoil_passes::analyze::{Operator, Rank, operators};
use trefoil_passes::cost::{Footprint, Mix, Workload};
use trefoil_passes::profile::Profile;

use super::comparison::{Comparison, grid, summary};
use super::published::{
    ACCELERATORS, FIGURE_2, FIGURE_2_DECIMALS, FIGURE_3, FIGURE_3_DECIMALS, FigureRow, ROUND_PARAMETERS, TABLE_2,
    TABLE_2_COLUMNS, TABLE_2_DECIMALS, TABLE_2_TOTAL, WORKLOADS,
};
use super::subject::{Loaded, device, model};
use crate::table::wrap;

const NOTHING_CALIBRATED: &str = "Calibrated: nothing. Predicted: everything, from the sizes of the model, the lengths of \
                                  the workload and the peaks of the accelerators' specifications.";

/// How far ours may be off: estimated cells of table 2, and figures.
const TABLE_2_SHARE: f64 = 0.02;
const FIGURE_SHARE: f64 = 0.03;

/// Estimated cells of table 2.
pub(super) fn table_2_section() -> anyhow::Result<String> {
    let comparisons = table_2()?;
    let setting = "LLaMA-2-70B on eight A100 80 GB, 2,048 tokens: 1,365 decode rows over 1,024 tokens each, and 683 \
                   prefill rows of prompts of 512. All layers and devices together. Ours, and published in parentheses.";
    let method = "As in the paper, the arithmetic of prefill attention is counted without the discount of the causal \
                  mask, 512 keys for each row; elsewhere Trefoil counts the 256 that a row sees in the mean. The \
                  paper's last column, which was measured, is no part of this section.";
    let table = grid("operation", &comparisons);
    Ok([
        "## Table 2: what each operation costs\n\n".to_owned(),
        introduction(setting, method),
        table,
        "\n".to_owned(),
        summary(&comparisons, TABLE_2_SHARE),
    ]
    .concat())
}

/// Figure 2.
pub(super) fn figure_2_section() -> anyhow::Result<String> {
    let comparisons = figure_2()?;
    let setting = "Tensor parallelism over eight devices, by model and accelerator; for the 405 B one of two pipeline \
                   stages. Ours, and published in parentheses. Below 1 the network can hide behind the products.";
    let method = "Links count in one direction, and `n - 1` for `n` devices, as in the paper's numbers though not in its \
                  formula. Published are the values for round billions of parameters; ours are the parameters of the \
                  graph, of a mixture of experts those that one token is computed with.";
    let table = grid("accelerator", &comparisons);
    Ok([
        "## Figure 2: time of the network over time of compute\n\n".to_owned(),
        introduction(setting, method),
        table,
        "\n".to_owned(),
        summary(&comparisons, FIGURE_SHARE),
        not_compared(FIGURE_2)?,
    ]
    .concat())
}

/// Figure 3.
pub(super) fn figure_3_section() -> anyhow::Result<String> {
    let comparisons = figure_3()?;
    let setting = "A100 80 GB, at the largest dense batch whose keys and values fit. Ours, and published in parentheses. \
                   Below 1 the iteration is bound by compute.";
    let table = grid("model, devices", &comparisons);
    Ok([
        "## Figure 3: time of memory over time of compute\n\n".to_owned(),
        introduction(setting, "The datasets enter by the mean lengths of the paper's table 4."),
        table,
        "\n".to_owned(),
        summary(&comparisons, FIGURE_SHARE),
        in_round_billions()?,
        experts_held()?,
        not_compared(FIGURE_3)?,
    ]
    .concat())
}

fn introduction(setting: &str, method: &str) -> String {
    format!("{}\n{}\n", wrap(setting), wrap(&format!("{NOTHING_CALIBRATED} {method}")))
}

fn known(name: &str) -> anyhow::Result<Loaded> {
    model(name)?.with_context(|| format!("no graph is compiled in for {name}"))
}

fn table_2() -> anyhow::Result<Vec<Comparison>> {
    let (model, profile) = (known("llama-2-70b")?, device("a100-80g")?);
    let workload = Workload::constant(512.0, 1024.0);
    let mix = Mix { prefill_keys: workload.prompt_of_row, ..workload.mix(2048) };
    let (graph, bound) = model.sharded(8)?;
    let ours = operators(&model.on(&profile, 8), &Rank { graph: &graph, bound: &bound }, &mix);
    let mut comparisons = vec![];
    let mut total = [0.0; 6];
    for row in TABLE_2 {
        let mut sum = [0.0; 6];
        for node in row.nodes {
            let found = ours.iter().find(|operator| operator.name == *node);
            let operator = found.ok_or_else(|| anyhow!("the sharded graph has no node `{node}`"))?;
            sum = add(sum, table_2_cells(operator));
        }
        total = add(total, sum);
        comparisons.extend(cells(row.name, &TABLE_2_COLUMNS, &row.cells, &sum, &TABLE_2_DECIMALS));
    }
    comparisons.extend(cells("total", &TABLE_2_COLUMNS[3..], &TABLE_2_TOTAL, &total[3..], &TABLE_2_DECIMALS[3..]));
    Ok(comparisons)
}

fn table_2_cells(operator: &Operator) -> [f64; 6] {
    let Operator { flops, memory_bytes, network_bytes, times, .. } = operator;
    let giga = |amount: &f64| amount / 1e9;
    let milli = |seconds: f64| seconds * 1e3;
    let amounts = (giga(flops), giga(memory_bytes), giga(network_bytes));
    [amounts.0, amounts.1, amounts.2, milli(times.compute), milli(times.memory), milli(times.network)]
}

fn add(a: [f64; 6], b: [f64; 6]) -> [f64; 6] {
    std::array::from_fn(|column| a[column] + b[column])
}

fn cells(row: &str, columns: &[&str], published: &[f64], ours: &[f64], decimals: &[usize]) -> Vec<Comparison> {
    let numbers = published.iter().zip(ours).zip(decimals);
    let cell = |(column, ((published, ours), decimals)): (&&str, ((&f64, &f64), &usize))| Comparison {
        row: row.to_owned(),
        column: (*column).to_owned(),
        published: *published,
        ours: *ours,
        decimals: *decimals,
    };
    columns.iter().zip(numbers).map(cell).collect()
}

/// A row per accelerator and a column per model.
fn figure_2() -> anyhow::Result<Vec<Comparison>> {
    let mut comparisons = vec![];
    for (column, (accelerator, device_name)) in ACCELERATORS.iter().enumerate() {
        let profile = device(device_name)?;
        for row in FIGURE_2 {
            let Some(loaded) = model(row.model)? else { continue };
            comparisons.push(Comparison {
                row: (*accelerator).to_owned(),
                column: row.model.to_owned(),
                published: row.values[column],
                ours: network_over_compute(&loaded, &profile, row.ranks),
                decimals: FIGURE_2_DECIMALS,
            });
        }
    }
    Ok(comparisons)
}

fn network_over_compute(model: &Loaded, profile: &Profile, ranks: u32) -> f64 {
    let subject = model.on(profile, ranks);
    // The size of the batch divides out.
    let times = subject.iteration(&subject.footprint(), 2048.0).times;
    times.network / times.compute
}

/// A row per model and a column per workload.
fn figure_3() -> anyhow::Result<Vec<Comparison>> {
    // The published numbers of a mixture of experts come out if memory holds only what one token is computed with.
    figure_3_with(|_, footprint| Some(footprint.of_active_parameters()))
}

/// Figure 3 for models by name and footprint, with the footprint that `held` gives; not for those it gives none.
fn figure_3_with(held: impl Fn(&str, Footprint) -> Option<Footprint>) -> anyhow::Result<Vec<Comparison>> {
    let profile = device("a100-80g")?;
    let mut comparisons = vec![];
    for row in FIGURE_3 {
        let Some(loaded) = model(row.model)? else { continue };
        let subject = loaded.on(&profile, row.ranks);
        let Some(held) = held(row.model, subject.footprint()) else { continue };
        for ((name, prompt, output), published) in WORKLOADS.iter().zip(row.values) {
            let largest = held.capacity(&profile, row.ranks, &Workload::constant(*prompt, *output))?.largest_batch;
            let times = subject.iteration(&held, largest).times;
            comparisons.push(Comparison {
                row: format!("{}, {}", row.model, row.ranks),
                column: (*name).to_owned(),
                published,
                ours: times.memory / times.compute,
                decimals: FIGURE_3_DECIMALS,
            });
        }
    }
    Ok(comparisons)
}

/// Figure 3 by the paper's own numbers of parameters.
fn figure_3_in_round_billions() -> anyhow::Result<Vec<Comparison>> {
    figure_3_with(|name, footprint| {
        let (_, parameters) = ROUND_PARAMETERS.into_iter().find(|(model, _)| *model == name)?;
        let weight_bytes = footprint.weight_bytes / footprint.parameters * parameters;
        Some(Footprint { parameters, active_parameters: parameters, weight_bytes, ..footprint })
    })
}

/// What of figure 3 is outside, and what comes of it by the paper's own numbers of parameters.
fn in_round_billions() -> anyhow::Result<String> {
    let comparisons = figure_3_in_round_billions()?;
    let all = figure_3()?;
    let outside: Vec<_> = all.iter().filter(|cell| !cell.is_within(FIGURE_SHARE)).map(Comparison::what).collect();
    let billions = ROUND_PARAMETERS.map(|(model, parameters)| format!("{} billion for {model}", parameters / 1e9));
    let text = format!(
        "Outside are: {}. The paper counts fewer parameters than the graphs have. With {} it is:",
        outside.join("; "),
        billions.join(" and ")
    );
    let (table, far) = (grid("model, devices", &comparisons), summary(&comparisons, FIGURE_SHARE));
    Ok(format!("\n{}\n{table}\n{far}", wrap(&text)))
}

/// What figure 3 is with all experts in memory, where there are experts.
fn experts_held() -> anyhow::Result<String> {
    let comparisons = figure_3_with(|_, all| (all.active_parameters < all.parameters).then_some(all))?;
    if comparisons.is_empty() {
        return Ok(String::new());
    }
    let text = "The published row of a mixture of experts is nearest if memory holds no more parameters than one token is \
                computed with, which no server can do; those are the rows above. With all experts in memory it is:";
    let (table, far) = (grid("model, devices", &comparisons), summary(&comparisons, FIGURE_SHARE));
    Ok(format!("\n{}\n{table}\n{far}", wrap(text)))
}

fn not_compared<const N: usize>(rows: &[FigureRow<N>]) -> anyhow::Result<String> {
    let mut missing = vec![];
    for row in rows {
        if model(row.model)?.is_none() {
            missing.push(row.model);
        }
    }
    if missing.is_empty() {
        return Ok(String::new());
    }
    Ok("\n".to_owned() + &wrap(&format!("Not compared, as no graph is compiled in for them: {}.", missing.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_within(comparisons: &[Comparison], share: f64) {
        let off: Vec<_> = comparisons.iter().filter(|comparison| !comparison.is_within(share)).collect();
        assert!(off.is_empty(), "more than {} % off: {off:#?}", share * 100.0);
    }

    #[test]
    fn every_estimated_cell_of_table_2_is_met() {
        let comparisons = table_2().unwrap();
        assert_eq!(comparisons.len(), 7 * 6 + 3);
        all_within(&comparisons, TABLE_2_SHARE);
    }

    #[test]
    fn figure_2_is_met() {
        let comparisons = figure_2().unwrap();
        assert!(comparisons.len() >= 5 * 13);
        all_within(&comparisons, FIGURE_SHARE);
    }

    fn outside(comparisons: &[Comparison]) -> Vec<String> {
        comparisons.iter().filter(|cell| !cell.is_within(FIGURE_SHARE)).map(Comparison::what).collect()
    }

    /// The graphs of the last two have 2 % and 1 % more parameters than the paper says. One cell that its own numbers do
    /// not give either is left.
    #[test]
    fn figure_3_is_met_but_for_cells_that_are_named() {
        let comparisons = figure_3().unwrap();
        assert_eq!(comparisons.len(), 4 * 6);
        let named = ["mixtral-8x7b, 8, Splitwise", "mixtral-8x7b, 8, ShareGPT", "qwen2-72b, 8, ShareGPT"];
        assert_eq!(outside(&comparisons), named);
        assert_eq!(outside(&figure_3_in_round_billions().unwrap()), named[..1]);
    }

    #[test]
    fn the_mixtral_of_figure_3_holds_its_active_parameters_alone() {
        let (model, profile) = (known("mixtral-8x7b").unwrap(), device("a100-80g").unwrap());
        let subject = model.on(&profile, 8);
        let all = subject.footprint();
        let ratio = |held: Footprint| {
            let largest = held.capacity(&profile, 8, &Workload::constant(512.0, 1024.0)).unwrap().largest_batch;
            let times = subject.iteration(&held, largest).times;
            times.memory / times.compute
        };
        assert!((ratio(all.of_active_parameters()) / 0.58 - 1.0).abs() < 0.03);
        assert!((ratio(all) / 0.58 - 1.0).abs() > 0.09);
    }
}
