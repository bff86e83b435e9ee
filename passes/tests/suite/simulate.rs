//! Schedules on device profiles: what the shipped plans come to, and that what is written of them can be read.

use serde_json::Value;
use trefoil_ir::bind::{Bound, bind};
use trefoil_ir::graph::{Graph, Literal};
use trefoil_ir::ids::{EventId, Id, StreamId};
use trefoil_ir::schedule::{Launch, Section, Step};
use trefoil_passes::cost::{Mix, Model, Workload};
use trefoil_passes::pipeline;
use trefoil_passes::plan::Plan;
use trefoil_passes::profile::Profile;
use trefoil_passes::simulate::picture::View;
use trefoil_passes::simulate::totals::Totals;
use trefoil_passes::simulate::{Simulation, seconds, tasks};

use crate::cases;

/// Llama 3 8B with another number of layers.
fn size(key: &str, num_layers: f64) -> Option<Literal> {
    Some(match key {
        "hidden_act" => Literal::Text("silu".to_owned()),
        "vocab_size" => Literal::Number(128_256.0),
        "hidden_size" => Literal::Number(4096.0),
        "intermediate_size" => Literal::Number(14_336.0),
        "num_hidden_layers" => Literal::Number(num_layers),
        "num_attention_heads" => Literal::Number(32.0),
        "num_key_value_heads" => Literal::Number(8.0),
        "rms_norm_eps" => Literal::Number(1e-5),
        _ => return None,
    })
}

struct Compiled {
    graph: Graph,
    bound: Bound,
    profile: Profile,
}

impl Compiled {
    fn by(plan: &str) -> Self {
        Self::with_layers(plan, 4.0)
    }

    fn with_layers(plan: &str, num_layers: f64) -> Self {
        let loaded = trefoil_ir::load::load("llama", &cases::shipped("graphs", "llama")).unwrap();
        let bound = bind(&loaded, &|key: &str| size(key, num_layers)).unwrap();
        let plan = Plan::load(plan, &cases::shipped("plans", plan)).unwrap();
        let graph = pipeline::compile(loaded, &plan).unwrap_or_else(|error| panic!("{error}"));
        let profile = Profile::load("a100", &cases::shipped("devices", "a100-80g-x8"), &|_| None, &[]).unwrap();
        Self { graph, bound, profile }
    }

    fn model(&self) -> Model<'_> {
        Model { graph: &self.graph, bound: &self.bound, profile: &self.profile }
    }
}

fn mix() -> Mix {
    Workload::constant(512.0, 1024.0).mix(768)
}

fn is_close(a: f64, b: f64) {
    assert!((a - b).abs() <= 1e-9 * b.abs(), "{a} is not {b}");
}

#[test]
fn one_stream_takes_as_long_as_its_launches() {
    let compiled = Compiled::by("sequential");
    let (model, mix) = (compiled.model(), mix());
    let simulation = Simulation::of(&model, &mix);
    is_close(simulation.run.end, simulation.tasks.iter().map(|task| task.load.seconds).sum());
    is_close(seconds(&model, &mix), simulation.run.end);
    assert_eq!(simulation.num_layers(), 4);
    let report = simulation.report(7);
    assert_eq!(report.overlap_seconds, 0.0);
    is_close(report.critical_path.iter().map(|node| node.seconds).sum(), report.seconds);
    is_close(report.nodes.iter().map(|node| node.seconds).sum(), report.seconds);
    for used in &report.resources {
        let mean = used.over_time.iter().sum::<f64>() / 7.0;
        assert!((mean - used.utilisation).abs() < 1e-9, "{}: {mean} is not {}", used.name, used.utilisation);
    }
}

#[test]
fn attention_overlaps_products_as_the_plan_says() {
    let compiled = Compiled::by("overlap-2");
    let simulation = Simulation::of(&compiled.model(), &mix());
    let report = simulation.report(1);
    assert!(report.overlap_seconds > 0.05 * report.seconds, "{report:?}");
    is_close(report.critical_path.iter().map(|node| node.seconds).sum(), report.seconds);
    let span = |node: &str, nano| {
        let is_it = |site: &&tasks::Site| site.node == node && site.nano == nano && site.layer == Some(1);
        let number = simulation.sites.iter().position(|site| is_it(&site)).unwrap();
        simulation.run.spans[number]
    };
    let (attention, product) = (span("attn_decode", 0), span("qkv", 1));
    assert!(attention.start < product.end && product.start < attention.end);
    assert!(span("qkv", 0).end <= attention.start && attention.end <= span("o", 0).start);
}

/// A launch of the first layer on another stream.
fn launch(compiled: &Compiled, stream: usize) -> Step {
    let schedule = compiled.graph.schedule.as_ref().unwrap();
    let Section::Repeat { blocks, .. } = &schedule.sections[1] else { panic!("no layers") };
    let launches = blocks[0].1.iter().find_map(|step| match step {
        Step::Launch(launch) => Some(launch),
        Step::Record { .. } | Step::Wait { .. } => None,
    });
    Step::Launch(Launch { stream: StreamId::new(stream), ..launches.unwrap().clone() })
}

#[test]
fn waits_are_for_the_latest_record_before_them() {
    let mut compiled = Compiled::by("overlap-2");
    let on = |stream| launch(&compiled, stream);
    let record = |stream, event| Step::Record { stream: StreamId::new(stream), event: EventId::new(event) };
    let wait = |stream, event| Step::Wait { stream: StreamId::new(stream), event: EventId::new(event) };
    let steps = vec![
        wait(1, 0), // nothing has been recorded
        on(0),
        record(0, 0),
        on(0),
        wait(1, 0),
        record(1, 1), // stands for what its stream waits for
        on(1),        // after the first
        on(1),
        record(0, 0), // again, for the second
        wait(1, 0),
        on(1), // after the second
        wait(0, 1),
        on(0), // after the first, by the other stream
    ];
    compiled.graph.schedule.as_mut().unwrap().sections = vec![Section::Once(steps)];
    let after: Vec<_> = tasks::of(&compiled.model(), &mix()).tasks.into_iter().map(|task| task.after).collect();
    assert_eq!(after, [vec![], vec![], vec![0], vec![], vec![1], vec![0]]);
}

#[test]
fn the_trace_is_json_with_lanes_launches_and_counters() {
    let compiled = Compiled::by("overlap-2");
    let simulation = Simulation::of(&compiled.model(), &mix());
    let trace: Value = serde_json::from_str(&simulation.trace()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let count = |phase: &str| events.iter().filter(|event| event["ph"] == phase).count();
    let num_launches = simulation.tasks.iter().filter(|task| task.load.seconds > 0.0).count();
    assert_eq!((count("X"), count("C")), (num_launches, 3 * (simulation.run.pieces.len() + 1)));
    let attention = events.iter().find(|event| event["name"] == "attn_decode#1").unwrap();
    assert_eq!((&attention["args"]["operator"], &attention["args"]["layer"]), (&"DecodeAttention".into(), &0.into()));
    assert!(attention["args"]["speed"].as_f64().is_some_and(|speed| speed > 0.0 && speed <= 1.0));
}

/// Every tag is closed in its turn, and nothing comes from elsewhere.
fn assert_well_formed(text: &str) {
    let mut open = Vec::new();
    for tag in text.split('<').skip(1) {
        let (tag, after) = tag.split_once('>').unwrap_or_else(|| panic!("<{tag} has no end"));
        assert!(!after.contains('>'), "{after:?} is not escaped");
        let name = tag.trim_start_matches('/').split([' ', '\n', '/']).next().unwrap();
        match tag {
            _ if tag.starts_with('/') => assert_eq!(open.pop(), Some(name), "</{name}> closes another"),
            _ if tag.ends_with('/') || tag.starts_with('!') || name == "meta" => {}
            _ => open.push(name),
        }
    }
    assert!(open.is_empty(), "{open:?} are not closed");
    assert!(!text.contains("href") && !text.contains("<script") && !text.contains("NaN") && !text.contains("inf\""));
}

#[test]
fn pictures_are_well_formed_and_stand_alone() {
    let compiled = Compiled::by("overlap-2");
    let simulation = Simulation::of(&compiled.model(), &mix());
    assert_eq!(simulation.middle_layers(), 1..3);
    for layers in [1..3, 0..4, 0..0] {
        let view = View { title: "a & b < c".to_owned(), layers };
        let svg = simulation.svg(&view);
        assert_well_formed(&svg);
        assert!(svg.contains("a &amp; b &lt; c") && svg.contains("attn_decode#0 (DecodeAttention)"));
        assert_well_formed(&simulation.html(&view, &simulation.report(10)));
    }
}

#[test]
fn a_graph_without_a_schedule_does_nothing() {
    let mut compiled = Compiled::by("sequential");
    compiled.graph.schedule = None;
    let (model, mix) = (compiled.model(), mix());
    let simulation = Simulation::of(&model, &mix);
    assert_eq!((simulation.run.end, simulation.report(4).tokens_per_second), (0.0, 0.0));
    assert_well_formed(&simulation.svg(&View { title: String::new(), layers: simulation.middle_layers() }));
}

#[test]
fn a_few_layers_tell_what_all_of_them_do() {
    for plan in ["sequential", "overlap-2"] {
        let compiled = Compiled::with_layers(plan, 60.0);
        for mix in [16, 300, 768, 2048].map(|tokens| Workload::constant(512.0, 1024.0).mix(tokens)) {
            let (all, few) = (Totals::of(&compiled.model(), &mix), Totals::by_few_layers(&compiled.model(), &mix));
            is_close(all.seconds, seconds(&compiled.model(), &mix));
            assert!((few.seconds / all.seconds - 1.0).abs() < 0.002, "{plan}, {mix:?}: {few:?} for {all:?}");
            for (few, all) in [(few.flops, all.flops), (few.bytes, all.bytes)] {
                is_close(few, all);
            }
            assert_eq!((few.network, all.network), (0.0, 0.0));
        }
    }
    let short = Compiled::by("overlap-2");
    assert_eq!(Totals::by_few_layers(&short.model(), &mix()), Totals::of(&short.model(), &mix()));
}
