//! `trefoil paper`: the numbers that NanoFlow's authors published, and what Trefoil gives in their place.
//!
//! A section is a function that gives its Markdown; adding one is a line in [`sections`].

mod analysis;
mod cases;
mod comparison;
mod published;
mod subject;

use anyhow::Context;

use crate::args::PaperArgs;
use crate::exit::Outcome;

const TITLE: &str = "\
# Against the paper

NanoFlow (OSDI'25, arXiv 2408.12757v2) published what its cost model gives and what its engine reached. This file sets
Trefoil's numbers beside them. Each section says what in it is calibrated, that is, fitted to published measurements and
so no test of anything, and what is predicted. `trefoil paper --out docs/paper.md` writes it.
";

/// One section of the file.
type Section = fn() -> anyhow::Result<String>;

/// All sections, in order.
fn sections() -> Vec<Section> {
    vec![analysis::table_2_section, analysis::figure_2_section, analysis::figure_3_section]
}

/// Runs the command.
pub(crate) fn run(args: &PaperArgs) -> Outcome {
    if args.search {
        return Ok(cases::find_all(&args.plans, args.judgements, args.only.as_deref())?);
    }
    let sections = sections().into_iter().map(|section| section()).collect::<anyhow::Result<Vec<_>>>()?;
    let text = format!("{TITLE}\n{}", sections.join("\n"));
    match &args.out {
        Some(path) => std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?,
        None => print!("{text}"),
    }
    Ok(())
}
