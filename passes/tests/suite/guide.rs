//! The pass of the guide `passes/README.md` does what the guide says.

use trefoil_ir::schedule::{Section, Step};
use trefoil_passes::pipeline::{passes, run};

#[path = "../../examples/aside.rs"]
mod aside;

#[test]
fn what_is_short_is_put_aside_and_the_schedule_stays_sound() {
    let (graph, plan) = aside::llama();
    let streams_of_norms = |passes: &[Box<dyn trefoil_passes::pipeline::Pass>]| {
        let compiled = run(graph.clone(), &plan, passes).expect("no race, no lost value");
        let streams = compiled.streams.clone().expect("streams");
        let schedule = compiled.schedule.expect("a schedule");
        let Section::Repeat { blocks, .. } = &schedule.sections[1] else { panic!("no layers") };
        let norms = blocks[0].1.iter().filter_map(|step| match step {
            Step::Launch(launch) if launch.node == "n2" => Some(streams[launch.stream].name.clone()),
            Step::Launch(_) | Step::Record { .. } | Step::Wait { .. } => None,
        });
        norms.collect::<Vec<_>>()
    };
    assert_eq!(streams_of_norms(&passes()), ["compute", "compute"]);
    assert_eq!(streams_of_norms(&aside::passes_with_aside()), ["aside", "aside"]);
}
