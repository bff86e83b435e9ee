//! A page with the picture and the step's numbers.

use super::canvas::escape;
use crate::simulate::report::Report;
use crate::simulate::units::{amount, percent, time};

const STYLE: &str = "\
:root{color-scheme:light dark}body{font:14px/1.45 system-ui,'Segoe UI',sans-serif;margin:24px auto;max-width:1280px;\
padding:0 16px;background:#fff;color:#1f2933}svg{max-width:100%;height:auto}\
table{border-collapse:collapse;margin:0 0 20px}caption{text-align:left;font-weight:600;padding:4px 0}\
th,td{padding:3px 14px 3px 0;text-align:right;border-bottom:1px solid #d5dbe1;font-variant-numeric:tabular-nums}\
th:first-child,td:first-child{text-align:left}th{font-weight:500;color:#66707c}\
.tables{display:flex;flex-wrap:wrap;gap:0 56px;align-items:flex-start}\
@media (prefers-color-scheme:dark){body{background:#15191f;color:#e3e8ee}th{color:#98a4b1}th,td{border-color:#3a434e}}";

/// The page.
pub(super) fn page(title: &str, svg: &str, report: &Report) -> String {
    let tables = [step(report), resources(report), streams(report), nodes(report), critical_path(report)].concat();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n{svg}<div class=\"tables\">\n{tables}</div>\n</body>\n</html>\n",
        escape(title)
    )
}

fn table(caption: &str, head: &[&str], rows: Vec<Vec<String>>) -> String {
    let row = |tag: &str, cells: Vec<String>| {
        let cells: String = cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let head = row("th", head.iter().map(|cell| (*cell).to_owned()).collect());
    let rows: String = rows.into_iter().map(|cells| row("td", cells)).collect();
    format!("<table><caption>{}</caption>\n{head}{rows}</table>\n", escape(caption))
}

fn step(report: &Report) -> String {
    let rows = [
        ("time", time(report.seconds)),
        ("rows of the batch", report.tokens.to_string()),
        ("rows per second", format!("{:.0}", report.tokens_per_second)),
        ("any stream busy", percent(report.busy_seconds / report.seconds)),
        ("more than one busy", percent(report.overlap_seconds / report.seconds)),
    ];
    table("Step", &["", ""], rows.map(|(name, value)| vec![name.to_owned(), value]).to_vec())
}

fn resources(report: &Report) -> String {
    let row = |used: &crate::simulate::report::ResourceUse| {
        let unit = if used.name == "compute" { "FLOP" } else { "B" };
        let peak = amount(used.peak, &format!("{unit}/s"));
        vec![used.name.to_owned(), amount(used.work, unit), peak, percent(used.utilisation)]
    };
    table("Resources", &["", "work", "peak", "used"], report.resources.iter().map(row).collect())
}

fn streams(report: &Report) -> String {
    let row = |stream: &crate::simulate::report::StreamUse| {
        let part = percent(stream.busy_seconds / report.seconds);
        vec![stream.name.clone(), time(stream.busy_seconds), part]
    };
    table("Streams", &["", "busy", "of the step"], report.streams.iter().map(row).collect())
}

fn nodes(report: &Report) -> String {
    let row = |node: &crate::simulate::report::NodeUse| {
        let (launches, speed) = (node.num_launches.to_string(), format!("{:.2}", node.seconds_alone / node.seconds));
        let operator = node.operator.to_owned();
        vec![node.node.clone(), operator, launches, time(node.seconds), time(node.seconds_alone), speed]
    };
    let head = ["", "operator", "launches", "time", "alone", "speed"];
    table("Nodes", &head, report.nodes.iter().map(row).collect())
}

fn critical_path(report: &Report) -> String {
    let row = |node: &crate::simulate::report::NodeTime| {
        vec![node.node.clone(), time(node.seconds), percent(node.seconds / report.seconds)]
    };
    table("Critical path", &["", "time", "of the step"], report.critical_path.iter().map(row).collect())
}
