//! From texts to launch schedules: loads a graph and its plans, and runs the passes for each plan.

use std::collections::BTreeMap;
use std::fmt;

use trefoil_ir::diag::{Diagnostic, Place};
use trefoil_ir::graph::Graph;
use trefoil_ir::verify::schedule::hazards;
use trefoil_passes::pipeline::{self, PassError};
use trefoil_passes::plan::Plan;

use crate::{launchable, ranks};

/// A graph with a verified launch schedule for each of its plans.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// As the porter wrote it.
    pub graph: Graph,
    /// By number of ranks, and then in the order in which they were given. A plan that names no number of ranks stands
    /// here for every number that some plan names.
    pub plans: Vec<PlannedGraph>,
}

/// A graph after all passes of one plan.
#[derive(Debug, Clone)]
pub struct PlannedGraph {
    /// The plan, with the number of ranks that the graph is divided among.
    pub plan: Plan,
    /// The graph with its launch schedule.
    pub graph: Graph,
}

/// A mistake in one of the texts, drawn under the line it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderedMistake {
    /// Its code, such as `T0203`.
    pub code: &'static str,
    /// The text, as it was named.
    pub file: String,
    /// The message, the guilty line and the help.
    pub text: String,
}

/// All that is wrong with a graph and its plans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(pub Vec<RenderedMistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<_> = self.0.iter().map(|mistake| mistake.text.trim_end()).collect();
        write!(f, "{}", texts.join("\n\n"))
    }
}

impl std::error::Error for Mistakes {}

/// Compiles a graph with its plans, each given with its name. A name that is a path shows in messages as it is.
///
/// # Errors
/// Everything that is wrong with the texts; a plan that does not fit the graph; a schedule that is not safe to launch.
pub fn compile(name: &str, text: &str, plans: &[(&str, &str)]) -> Result<Compiled, Mistakes> {
    let source = Source::new(name, "graphs", text);
    let graph = source.mistakes_of(trefoil_ir::load::load(&source.name(), text));
    let plans: Vec<_> = plans.iter().map(|(name, text)| Source::new(name, "plans", text)).collect();
    let repeated = repeated_names(&plans);
    let loaded = plans.iter().map(|source| source.mistakes_of(Plan::load(&source.name(), source.text)));
    let (loaded, mistakes) = all_or_mistakes(loaded);
    let mistakes = [repeated, mistakes].concat();
    let graph = match graph {
        Ok(graph) if mistakes.is_empty() => graph,
        Ok(_) => return Err(Mistakes(mistakes)),
        Err(own) => return Err(Mistakes([own, mistakes].concat())),
    };
    let counts = ranks::counts(&loaded);
    let for_ranks = |ranks: u32| {
        let files = loaded.iter().zip(&plans);
        files.filter_map(move |(plan, file)| Some((ranks::for_ranks(plan, ranks)?, file)))
    };
    let jobs = counts.into_iter().flat_map(for_ranks);
    let (plans, mistakes) = all_or_mistakes(jobs.map(|(plan, file)| schedule(&graph, &source, plan, file)));
    if mistakes.is_empty() { Ok(Compiled { graph, plans }) } else { Err(Mistakes(without_repeats(mistakes))) }
}

/// Each mistake once: a plan for several numbers of ranks may make it for each.
fn without_repeats(mistakes: Vec<RenderedMistake>) -> Vec<RenderedMistake> {
    let mut once: Vec<RenderedMistake> = vec![];
    for mistake in mistakes {
        if !once.contains(&mistake) {
            once.push(mistake);
        }
    }
    once
}

fn schedule(
    graph: &Graph,
    source: &Source<'_>,
    plan: Plan,
    file: &Source<'_>,
) -> Result<PlannedGraph, Vec<RenderedMistake>> {
    let scheduled = pipeline::compile(graph.clone(), &plan).map_err(|error| refusal(&error, source, file))?;
    let unsafe_to_launch = [hazards(&scheduled), launchable::mistakes(&scheduled)].concat();
    if unsafe_to_launch.is_empty() {
        Ok(PlannedGraph { plan, graph: scheduled })
    } else {
        Err(source.render(&unsafe_to_launch))
    }
}

/// Why the passes gave no schedule, drawn in the graph's or the plan's file.
fn refusal(error: &PassError, graph: &Source<'_>, plan: &Source<'_>) -> Vec<RenderedMistake> {
    match error {
        PassError::Refused { mistakes, .. } => {
            let is_of_plan = |mistake: &&Diagnostic| ("T1000".."T1200").contains(&mistake.code);
            let (of_plan, of_graph): (Vec<_>, Vec<_>) = mistakes.iter().partition(is_of_plan);
            let of_graph = of_graph.into_iter().map(|mistake| graph.draw(mistake));
            of_graph.chain(of_plan.into_iter().map(|mistake| plan.draw(mistake))).collect()
        }
        PassError::Broken { .. } | PassError::UnknownPass { .. } | PassError::WrongStage { .. } => {
            let message = format!("with plan `{}`: {error}", plan.name());
            graph.render(&[Diagnostic::new("T3021", Place::default(), message)])
        }
    }
}

fn repeated_names(plans: &[Source<'_>]) -> Vec<RenderedMistake> {
    let mut seen = BTreeMap::new();
    plans
        .iter()
        .filter_map(|plan| {
            let first = seen.insert(plan.name(), plan.label.clone())?;
            let message = format!("plan `{}` is given twice, the first time as {first}", plan.name());
            Some(plan.draw(&Diagnostic::new("T3022", Place::default(), message)))
        })
        .collect()
}

fn all_or_mistakes<T>(
    results: impl Iterator<Item = Result<T, Vec<RenderedMistake>>>,
) -> (Vec<T>, Vec<RenderedMistake>) {
    let (mut all, mut mistakes) = (vec![], vec![]);
    for result in results {
        match result {
            Ok(one) => all.push(one),
            Err(own) => mistakes.extend(own),
        }
    }
    (all, mistakes)
}

/// A text with the name it is shown by.
struct Source<'a> {
    label: String,
    text: &'a str,
}

impl<'a> Source<'a> {
    fn new(name: &str, folder: &str, text: &'a str) -> Self {
        let is_path = name.contains(['.', '/']);
        let label = if is_path { name.to_owned() } else { format!("{folder}/{name}.ron") };
        Self { label, text }
    }

    /// The file's name without folder and ending.
    fn name(&self) -> String {
        let file = self.label.rsplit('/').next().unwrap_or_default();
        file.strip_suffix(".ron").unwrap_or(file).to_owned()
    }

    fn mistakes_of<T>(&self, result: Result<T, Vec<Diagnostic>>) -> Result<T, Vec<RenderedMistake>> {
        result.map_err(|mistakes| self.render(&mistakes))
    }

    fn render(&self, mistakes: &[Diagnostic]) -> Vec<RenderedMistake> {
        mistakes.iter().map(|mistake| self.draw(mistake)).collect()
    }

    fn draw(&self, mistake: &Diagnostic) -> RenderedMistake {
        let text = mistake.render(&self.label, self.text);
        RenderedMistake { code: mistake.code, file: self.label.clone(), text }
    }
}
