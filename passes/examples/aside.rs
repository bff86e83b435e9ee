//! The pass of the guide in `passes/README.md`: puts what is short aside.
//!
//! Norms, additions and gates are bound by memory and take a tenth of a layer. On the stream of the products they keep
//! products waiting; on a stream of their own they run beside those of the other nano-batch. The stream is the plan's
//! second one for memory; without one the pass changes nothing.
//!
//! `cargo run -p trefoil-passes --example aside` shows the streams of a layer before and after.

use trefoil_ir::diag::Diagnostic;
use trefoil_ir::graph::{Graph, Stage};
use trefoil_ir::ids::StreamId;
use trefoil_ir::op::Op;
use trefoil_ir::schedule::Group;
use trefoil_passes::pipeline::{Ctx, Pass, passes, run};
use trefoil_passes::plan::Plan;

/// The pass.
pub(crate) struct Aside;

impl Pass for Aside {
    fn name(&self) -> &'static str {
        "aside"
    }
    fn needs(&self) -> Stage {
        Stage::Grouped
    }
    fn gives(&self) -> Stage {
        Stage::Grouped
    }
    fn run(&self, graph: &mut Graph, _: &Ctx) -> Result<(), Vec<Diagnostic>> {
        let Some(aside) = second_for_memory(graph) else { return Ok(()) };
        for block in graph.blocks.values_mut() {
            for node in block.nodes.iter_mut().filter(|node| is_short(&node.op)) {
                node.stream = Some(aside);
            }
        }
        Ok(())
    }
}

fn second_for_memory(graph: &Graph) -> Option<StreamId> {
    let streams = graph.streams.as_ref()?;
    streams.iter().filter(|(_, stream)| stream.group == Group::Memory).map(|(id, _)| id).nth(1)
}

fn is_short(op: &Op) -> bool {
    match op {
        Op::RmsNorm { .. }
        | Op::LayerNorm { .. }
        | Op::AddRmsNorm { .. }
        | Op::Join { .. }
        | Op::Add { .. }
        | Op::GatedMul { .. }
        | Op::Apply { .. } => true,
        Op::Embed { .. }
        | Op::Linear { .. }
        | Op::Rope { .. }
        | Op::Attention { .. }
        | Op::Route { .. }
        | Op::ExpertLinear { .. }
        | Op::Combine { .. }
        | Op::Rows { .. }
        | Op::Repeat { .. }
        | Op::KvWrite { .. }
        | Op::DecodeAttention { .. }
        | Op::PrefillAttention { .. }
        | Op::Columns { .. }
        | Op::AllReduce { .. }
        | Op::AllGather { .. } => false,
    }
}

/// All passes, with the one of the guide where its stage is.
pub(crate) fn passes_with_aside() -> Vec<Box<dyn Pass>> {
    let mut all = passes();
    let order = all.iter().position(|pass| pass.name() == "order").unwrap_or(all.len());
    all.insert(order, Box::new(Aside));
    all
}

/// Llama and the plan of the guide.
pub(crate) fn llama() -> (Graph, Plan) {
    let graph = trefoil_ir::load::load("llama", include_str!("../../models/graphs/llama.ron")).expect("a sound graph");
    let plan = Plan::load("aside", include_str!("aside.ron")).expect("a sound plan");
    (graph, plan)
}

#[allow(dead_code, reason = "the test that keeps the guide true takes this file as a module")]
fn main() {
    let (graph, plan) = llama();
    for (title, passes) in [("before", passes()), ("after", passes_with_aside())] {
        let compiled = run(graph.clone(), &plan, &passes).expect("a plan that compiles");
        println!("{title}:");
        for node in &compiled.blocks.values().next().expect("a kind of layer").nodes {
            if let (Some(stream), Some(streams)) = (node.stream, &compiled.streams) {
                println!("  {:12} {}", node.name, streams[stream].name);
            }
        }
    }
}
