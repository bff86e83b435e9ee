//! Which models a graph and its plans become: one for each number of ranks that plans ask for.
//!
//! A plan that names a number of ranks belongs to that model alone, and a plan that does not to all of them. So
//! `sequential`, which names none, is sharded like the plans it stands beside, and is the first of every model. A model
//! for one device alone is named after the graph, one for eight ranks `GRAPH_tp8`.

use std::collections::BTreeSet;

use trefoil_ir::graph::{Definition, Graph};
use trefoil_ir::ids::{Id, Table};
use trefoil_passes::plan::Plan;

use crate::compile::{Compiled, PlannedGraph};
use crate::names::ident;

/// A model for one number of ranks.
pub(crate) struct Model<'a> {
    /// How many ranks.
    pub(crate) ranks: u32,
    /// The porter's graph under the model's name, with the sizes and settings of its plans' graphs.
    pub(crate) graph: Graph,
    /// Its plans.
    pub(crate) plans: Vec<&'a PlannedGraph>,
}

/// The names of the modules of a graph with plans of these texts. A plan that does not load asks for nothing.
pub fn module_names(graph: &str, plans: &[&str]) -> Vec<String> {
    let loaded: Vec<_> = plans.iter().filter_map(|text| Plan::load("", text).ok()).collect();
    counts(&loaded).into_iter().map(|ranks| ident(&name(graph, ranks)).to_string()).collect()
}

/// The numbers of ranks that there are models for.
pub(crate) fn counts(plans: &[Plan]) -> BTreeSet<u32> {
    let counts: BTreeSet<_> = plans.iter().map(ranks_of).collect();
    if counts.is_empty() { BTreeSet::from([1]) } else { counts }
}

/// The plan as it is for this many ranks; `None` if it is for another number.
pub(crate) fn for_ranks(plan: &Plan, ranks: u32) -> Option<Plan> {
    match plan.ranks {
        None if ranks > 1 => Some(Plan { ranks: Some(ranks), ..plan.clone() }),
        None => Some(plan.clone()),
        Some(own) => (own == ranks).then(|| plan.clone()),
    }
}

/// The models, those of fewer ranks first.
pub(crate) fn models(compiled: &Compiled) -> Vec<Model<'_>> {
    let plans: Vec<_> = compiled.plans.iter().map(|planned| planned.plan.clone()).collect();
    counts(&plans).into_iter().map(|ranks| model(compiled, ranks)).collect()
}

fn ranks_of(plan: &Plan) -> u32 {
    plan.ranks.unwrap_or(1)
}

fn name(graph: &str, ranks: u32) -> String {
    if ranks == 1 { graph.to_owned() } else { format!("{graph}_tp{ranks}") }
}

fn model(compiled: &Compiled, ranks: u32) -> Model<'_> {
    let plans: Vec<_> = compiled.plans.iter().filter(|planned| ranks_of(&planned.plan) == ranks).collect();
    let mut graph = compiled.graph.clone();
    graph.name = name(&graph.name, ranks);
    if ranks > 1 {
        graph.dims = all_definitions(plans.iter().map(|planned| &planned.graph.dims));
        graph.params = all_definitions(plans.iter().map(|planned| &planned.graph.params));
    }
    Model { ranks, graph, plans }
}

/// The definitions of several tables, each once: plans that gather have sizes that others do without.
fn all_definitions<'a, I: Id + 'a>(tables: impl Iterator<Item = &'a Table<I, Definition>>) -> Table<I, Definition> {
    let mut all: Table<I, Definition> = Table::default();
    for definition in tables.flat_map(Table::values) {
        if all.values().all(|known| known.name != definition.name) {
            all.push(definition.clone());
        }
    }
    all
}
