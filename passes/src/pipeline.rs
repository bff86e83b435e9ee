//! The list of passes, and the driver that runs them and checks the graph after each.

use std::fmt;

use trefoil_ir::diag::{Diagnostic, meant};
use trefoil_ir::graph::{Graph, Stage};
use trefoil_ir::verify;

use crate::plan::Plan;
use crate::{fuse, hand_on, lower, memory, nano_batch, order, shard, stream_groups, sync};

/// One step from the porter's graph towards the launch schedule.
pub trait Pass {
    /// Its name, as `dump --after` takes it.
    fn name(&self) -> &'static str;
    /// The stage of the graphs it takes.
    fn needs(&self) -> Stage;
    /// The stage of the graphs it gives.
    fn gives(&self) -> Stage;
    /// Rewrites the graph; the driver sets its stage afterwards. What it cannot do is told as diagnostics about the
    /// graph or the plan, never by giving a graph that breaks a rule.
    fn run(&self, graph: &mut Graph, ctx: &Ctx) -> Result<(), Vec<Diagnostic>>;
}

/// What passes may look at beside the graph.
#[derive(Debug, Clone, Copy)]
pub struct Ctx<'a> {
    /// The plan that is being compiled.
    pub plan: &'a Plan,
}

/// All passes, in the order in which they run. A new pass is a file and a line here.
pub fn passes() -> Vec<Box<dyn Pass>> {
    vec![
        Box::new(lower::Lower),
        Box::new(hand_on::HandOn),
        Box::new(fuse::Fuse),
        Box::new(nano_batch::NanoBatch),
        Box::new(shard::Shard),
        Box::new(stream_groups::StreamGroups),
        Box::new(order::Order),
        Box::new(sync::Sync),
        Box::new(memory::Memory),
    ]
}

/// Why a graph and a plan give no schedule.
#[derive(Debug, Clone, PartialEq)]
pub enum PassError {
    /// There is no such pass.
    UnknownPass {
        /// What was asked for.
        name: String,
        /// All there are, in order.
        known: Vec<&'static str>,
    },
    /// A pass was given a graph of another stage than it takes.
    WrongStage {
        /// The pass.
        pass: &'static str,
        /// The stage it takes.
        needs: Stage,
        /// The stage the graph has.
        found: Stage,
    },
    /// The graph or the plan asks for something impossible.
    Refused {
        /// The pass that said so.
        pass: &'static str,
        /// What is wrong, with places in the graph's file or, for codes T1000 to T1199, in the plan's.
        mistakes: Vec<Diagnostic>,
    },
    /// The graph that a pass gave, or the one given to the first pass, breaks a rule of its stage: a mistake of the
    /// compiler.
    Broken {
        /// The pass, `None` for the graph given to the first one.
        pass: Option<&'static str>,
        /// The rules.
        rules: Vec<Diagnostic>,
        /// The graph that breaks them, as text.
        graph: String,
    },
}

/// Runs all passes.
pub fn compile(graph: Graph, plan: &Plan) -> Result<Graph, PassError> {
    run(graph, plan, &passes())
}

/// Runs the passes up to and with the one named.
pub fn run_until(graph: Graph, plan: &Plan, name: &str) -> Result<Graph, PassError> {
    let mut passes = passes();
    let Some(last) = passes.iter().position(|pass| pass.name() == name) else {
        let known = passes.iter().map(|pass| pass.name()).collect();
        return Err(PassError::UnknownPass { name: name.to_owned(), known });
    };
    passes.truncate(last + 1);
    run(graph, plan, &passes)
}

/// Runs the given passes, verifying the graph before the first and after each.
pub fn run(mut graph: Graph, plan: &Plan, passes: &[Box<dyn Pass>]) -> Result<Graph, PassError> {
    check(&graph, None)?;
    for pass in passes {
        let (name, needs) = (pass.name(), pass.needs());
        if graph.stage != needs {
            return Err(PassError::WrongStage { pass: name, needs, found: graph.stage });
        }
        pass.run(&mut graph, &Ctx { plan }).map_err(|mistakes| PassError::Refused { pass: name, mistakes })?;
        graph.stage = pass.gives();
        check(&graph, Some(name))?;
    }
    Ok(graph)
}

fn check(graph: &Graph, pass: Option<&'static str>) -> Result<(), PassError> {
    let rules = verify::graph(graph);
    if rules.is_empty() {
        return Ok(());
    }
    Err(PassError::Broken { pass, rules, graph: trefoil_ir::text::print(graph) })
}

impl fmt::Display for PassError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PassError::UnknownPass { name, known } => {
                write!(f, "there is no pass `{name}`; the passes are {}", known.join(", "))?;
                meant(name, known).map_or(Ok(()), |near| write!(f, " (did you mean `{near}`?)"))
            }
            PassError::WrongStage { pass, needs, found } => {
                write!(f, "pass `{pass}` takes graphs of stage {needs:?}, and this one is {found:?}")
            }
            PassError::Refused { pass, mistakes } => {
                write!(f, "pass `{pass}` refused:")?;
                write_all(f, mistakes)
            }
            PassError::Broken { pass, rules, graph } => {
                match pass {
                    Some(pass) => write!(f, "pass `{pass}` gave a graph that breaks a rule:")?,
                    None => write!(f, "the graph breaks a rule before any pass has run:")?,
                }
                write_all(f, rules)?;
                write!(f, "\n\n{graph}")
            }
        }
    }
}

fn write_all(f: &mut fmt::Formatter<'_>, mistakes: &[Diagnostic]) -> fmt::Result {
    mistakes.iter().try_for_each(|mistake| {
        write!(f, "\n  {}: {}", mistake.code, mistake.message)?;
        mistake.help.as_ref().map_or(Ok(()), |help| write!(f, " (help: {help})"))
    })
}

impl std::error::Error for PassError {}
