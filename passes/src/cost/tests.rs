//! What experts cost: Mixtral 8x7B on the A100 of the paper.

use serde_json::Value;
use trefoil_ir::bind::{Bound, bind};
use trefoil_ir::graph::{Graph, Literal};

use super::*;
use crate::pipeline::run_until;
use crate::plan::Plan;
use crate::profile::{Profile, ResourceKey};

const HIDDEN: f64 = 4096.0;
const FFN: f64 = 14336.0;
const EXPERTS_IN_ALL: f64 = 8.0;
const TOP_K: f64 = 2.0;

struct Mixtral {
    graph: Graph,
    bound: Bound,
    profile: Profile,
}

impl Mixtral {
    fn of_ranks(ranks: u32) -> Self {
        let graph = trefoil_ir::load::load("mixtral", include_str!("../../../models/graphs/mixtral.ron")).unwrap();
        let plan = Plan::load("sequential", include_str!("../../../models/plans/sequential.ron")).unwrap();
        let graph = run_until(graph, &Plan { ranks: Some(ranks), ..plan }, "shard").unwrap();
        let config: Value =
            serde_json::from_str(include_str!("../../../bench/configs/mixtral-8x7b/config.json")).unwrap();
        let literal = |key: &str| match config.get(key)? {
            Value::Number(number) => number.as_f64().map(Literal::Number),
            Value::String(text) => Some(Literal::Text(text.clone())),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        let bound = bind(&graph, &literal).unwrap();
        let text = include_str!("../../../models/devices/a100-80g-x8.ron");
        let profile = Profile::load("a100-80g-x8", text, &|_| None, &[]).unwrap();
        Self { graph, bound, profile }
    }

    fn model(&self) -> Model<'_> {
        Model { graph: &self.graph, bound: &self.bound, profile: &self.profile }
    }

    fn op(&self, name: &str) -> &Op {
        let found = self.graph.bodies().flat_map(|(_, body)| body).find(|node| node.name == name);
        &found.unwrap_or_else(|| panic!("no {name}")).op
    }

    fn load(&self, name: &str, rows: f64) -> Load {
        self.model().load_of_rows(self.op(name), Rows { rows, ..Rows::default() })
    }
}

#[test]
fn a_token_is_computed_with_the_experts_it_goes_to() {
    let Mixtral { graph, bound, profile } = Mixtral::of_ranks(1);
    let footprint = Footprint::of(&graph, &bound, &profile, false);
    let of_experts = 32.0 * EXPERTS_IN_ALL * 3.0 * HIDDEN * FFN;
    assert_eq!(footprint.parameters, bound.num_parameters(&graph) as f64);
    assert_eq!(footprint.active_parameters, footprint.parameters - of_experts * (1.0 - TOP_K / EXPERTS_IN_ALL));
    assert_eq!(footprint.weight_bytes, 2.0 * footprint.parameters);
}

#[test]
fn few_rows_touch_few_experts() {
    let mixtral = Mixtral::of_ranks(1);
    let matrix = HIDDEN * FFN;
    for (rows, experts) in [(1.0, 2.0), (4.0, 5.0), (2048.0, 8.0)] {
        let load = mixtral.load("down", rows);
        let moved = rows * TOP_K * (FFN + HIDDEN);
        assert_eq!(load.bytes, 2.0 * (experts * matrix + moved), "{rows} rows");
        assert_eq!(load.flops, 2.0 * rows * TOP_K * matrix);
    }
    assert_eq!(mixtral.load("gate", 1.0).bytes, 2.0 * (2.0 * matrix + HIDDEN + TOP_K * FFN), "all read the same row");
}

#[test]
fn the_rows_of_an_expert_fill_tiles_of_their_own() {
    let mut mixtral = Mixtral::of_ranks(1);
    assert_eq!(mixtral.load("gate", 1.0).bound_by, ResourceKey::Memory);
    let load = mixtral.load("gate", 2048.0);
    assert_eq!(load.bound_by, ResourceKey::Compute);
    assert!(mixtral.model().least_seconds(mixtral.op("gate"), load) < load.seconds);
    // Matrices at no cost leave the tiles: 16 rows for each expert or 128, and a tile has 128.
    mixtral.profile.memory.bandwidth *= 1e3;
    let seconds = |rows| mixtral.load("gate", rows).seconds;
    assert!((seconds(512.0) / seconds(64.0) - 1.0).abs() < 1e-9, "{} and {}", seconds(64.0), seconds(512.0));
    assert!(seconds(1024.0) > 1.6 * seconds(512.0));
}

#[test]
fn a_profile_may_know_the_kernel_of_experts() {
    let mut mixtral = Mixtral::of_ranks(1);
    let as_product = mixtral.load("gate", 2048.0).seconds;
    let slow = mixtral.profile.kernels["*"].clone();
    mixtral.profile.kernels.insert("ExpertLinear".to_owned(), slow);
    assert!(mixtral.load("gate", 2048.0).seconds > as_product);
}

#[test]
fn routing_and_combining_move_what_they_read_and_write() {
    let mixtral = Mixtral::of_ranks(1);
    let (route, combine) = (mixtral.load("route", 100.0), mixtral.load("moe", 100.0));
    assert_eq!(route.bytes, 100.0 * (2.0 * (EXPERTS_IN_ALL + TOP_K) + 4.0 * TOP_K));
    assert_eq!(combine.bytes, 100.0 * 2.0 * (TOP_K * HIDDEN + TOP_K + HIDDEN));
    assert_eq!(combine.flops, 100.0 * 2.0 * TOP_K * HIDDEN);
    assert_eq!((route.bound_by, combine.bound_by), (ResourceKey::Memory, ResourceKey::Memory));
}

#[test]
fn ranks_divide_experts_and_send_what_a_dense_layer_sends() {
    let (whole, part) = (Mixtral::of_ranks(1), Mixtral::of_ranks(8));
    assert_eq!(whole.load("down", 2048.0).flops, 8.0 * part.load("down", 2048.0).flops);
    let is_sum = |op: &Op| matches!(op, Op::AllReduce { .. });
    let sums: Vec<_> = part.graph.bodies().flat_map(|(_, body)| body).filter(|node| is_sum(&node.op)).collect();
    assert_eq!(sums.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["o_sum", "moe_sum"]);
    for sum in sums {
        assert_eq!(part.load(&sum.name, 2048.0).network, 2.0 * 7.0 / 8.0 * 2048.0 * HIDDEN * 2.0);
    }
}
