//! What must hold of a graph at each stage, checked after every pass and independently of how the passes work.
//!
//! A broken rule of stage Loaded is a mistake of the loader (which reports the porter's own mistakes, with other codes);
//! one of a later stage is a mistake of a pass. Rules of a stage hold at all later stages too, unless said otherwise.
//!
//! | code | rule |
//! |---|---|
//! | T2001 | every id is one of its table's |
//! | T2002 | values that one body gives have different names, and so have blocks, sizes and settings, and streams |
//! | T2003 | a value is given before it is read: every row of it that the reader may touch |
//! | T2004 | a node reads values of its own body and inputs, and gives values of its own body |
//! | T2005 | what a node gives has the type that follows from what it reads |
//! | T2006 | what a node reads fits its operator |
//! | T2007 | a value is given once; inputs and what a block takes, never |
//! | T2008 | a node gives as many values as its operator |
//! | T2009 | blocks take and give the type that their `Repeat` passes, and a `Repeat` has blocks |
//! | T2010 | at stage Loaded, exactly one attention uses a cache; at all stages, only nodes of its block do |
//! | T2011 | a weight of a block's layers is read in that block, a weight of the whole model in the main body |
//! | T2012 | the model gives one row per sequence, as the model's elements |
//! | T2013 | the main body is nodes, chained repeats, nodes; blocks repeat nothing |
//! | T2014 | operators that passes make are not there before the pass: none at stage Loaded |
//! | T2015 | the tensors of a weight make it up: vectors end to end, all others one below the other |
//! | T2016 | a weight of experts counts them; what reads it reads the choice of a `Route` among as many |
//! | T2101 | from Lowered on, no `Attention` is left |
//! | T2102 | every `KvWrite` stands before the attentions that may read what it writes, and each cache has one |
//! | T2103 | decode and prefill attention of a cache give the same value from the same queries, and come in pairs |
//! | T2201 | from Split on, the graph knows its cuts, and every node that launches has a range |
//! | T2202 | ranges begin and end at cuts, and are not empty |
//! | T2203 | the ranges of the nodes that give a value are apart, and leave out nothing that is read, per kind of rows |
//! | T2204 | what has a row per sequence is not cut |
//! | T2205 | what does not launch is not cut |
//! | T2206 | cuts of one kind rise; shares lie between 0 and 1; cuts are rounded to a positive number of rows |
//! | T2301 | from Grouped on, the graph knows its streams, and every node that launches has one |
//! | T2302 | that stream is one of them |
//! | T2303 | shares of streams and of nodes lie above 0 and are at most 1 |
//! | T2401 | at Scheduled, there is a schedule |
//! | T2402 | its launches are the nodes that launch, each once, in the section and block of their body |
//! | T2403 | its sections follow the main body: nodes, a repeat for each `Repeat`, nodes |
//! | T2404 | events and streams of records and waits are among those there are |
//! | T2405 | every value that is given has a home, once the first has one |
//! | T2406 | a home lies in its buffer, has the buffer's kind of rows and the value's columns |
//! | T2407 | a window of columns lives in the home of what it is a window of, at the window's place |
//! | T2408 | what goes from layer to layer has one home |
//! | T3001… | launches that touch the same bytes are ordered: [`schedule`], asked when nothing else is wrong |
//!
//! Not checked: what only a config or a batch tells (that `heads` is a multiple of `kv_heads`, that quotients leave no
//! rest, that cuts of different kinds rise together: the cuts of a real batch are clamped by who computes them); that
//! sizes are over names the graph defines (the loader sees to that, and passes only combine them); that a weight's
//! tensors are in a checkpoint; that what a pass made computes what the porter wrote, which is for the oracle;
//! that names of nano-operations differ; values that nothing gives any more, which passes leave behind.

pub mod schedule;

mod body;
mod homes;
mod launches;
mod layers;
mod lowered;
mod split;
mod streams;
mod tables;
mod weights;

use crate::diag::Diagnostic;
use crate::graph::{Graph, Stage};

/// The rules of one file: what a graph breaks of them.
type Rules = fn(&Graph) -> Vec<Diagnostic>;

/// Everything that is wrong with a graph, by the rules of its stage, in the order of the rules.
pub fn graph(graph: &Graph) -> Vec<Diagnostic> {
    let mut mistakes = tables::mistakes(graph);
    if !mistakes.is_empty() {
        return mistakes;
    }
    mistakes.extend(body::mistakes(graph));
    mistakes.extend(layers::mistakes(graph));
    mistakes.extend(weights::mistakes(graph));
    let rules: [(Stage, Rules); 5] = [
        (Stage::Lowered, lowered::mistakes),
        (Stage::Split, split::mistakes),
        (Stage::Grouped, streams::mistakes),
        (Stage::Scheduled, launches::mistakes),
        (Stage::Scheduled, homes::mistakes),
    ];
    mistakes.extend(rules.iter().filter(|(stage, _)| graph.stage >= *stage).flat_map(|(_, rules)| rules(graph)));
    if mistakes.is_empty() && graph.stage == Stage::Scheduled {
        mistakes = schedule::hazards(graph);
    }
    mistakes
}
