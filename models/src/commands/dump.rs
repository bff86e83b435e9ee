//! `trefoil dump`: a graph after any pass, as text or as a picture, or the Rust that it becomes.

use anyhow::{anyhow, bail};
use trefoil_ir::graph::Graph;
use trefoil_passes::pipeline::{PassError, run_until};

use crate::args::{DumpArgs, DumpFormat};
use crate::exit::{Exit, OrExit, Outcome};
use crate::source::{self, Source};

/// Runs the command.
pub(crate) fn run(args: &DumpArgs) -> Outcome {
    let graph = source::graph(&args.graph).or_exit(Exit::Usage)?;
    let plan = source::plan(&args.plan).or_exit(Exit::Usage)?;
    print!("{}", text(args, &graph, &plan).or_exit(Exit::Invalid)?);
    Ok(())
}

fn text(args: &DumpArgs, source: &Source, plan: &Source) -> anyhow::Result<String> {
    if args.after == "emit" {
        return emitted(args, source, plan);
    }
    let loaded = source.load_graph()?;
    let graph = if args.after == "load" { loaded } else { after(args, loaded, source, plan)? };
    Ok(match args.format {
        DumpFormat::Text => trefoil_ir::text::print(&graph),
        DumpFormat::Dot => trefoil_ir::dot::dot(&graph),
    })
}

fn after(args: &DumpArgs, loaded: Graph, source: &Source, plan: &Source) -> anyhow::Result<Graph> {
    run_until(loaded, &plan.load_plan()?, &args.after).map_err(|error| match &error {
        PassError::UnknownPass { .. } => anyhow!("{error}, or `load` and `emit`"),
        PassError::Refused { .. } | PassError::Broken { .. } | PassError::WrongStage { .. } => {
            // The whole compilation says the same with the guilty lines of graph and plan.
            let drawn = trefoil_codegen::compile(&source.name, &source.text, &[(&plan.name, &plan.text)]);
            drawn.err().map_or_else(|| anyhow!("{error}"), anyhow::Error::new)
        }
    })
}

fn emitted(args: &DumpArgs, source: &Source, plan: &Source) -> anyhow::Result<String> {
    if args.format == DumpFormat::Dot {
        bail!("the generated Rust has no picture: leave out --format dot");
    }
    let compiled = trefoil_codegen::compile(&source.name, &source.text, &[(&plan.name, &plan.text)])?;
    Ok(trefoil_codegen::source(&compiled))
}
