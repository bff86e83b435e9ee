//! Buffers: reused too early, shared by columns, written in place.

use crate::dim::Dim;
use crate::graph::{Graph, Node};
use crate::ids::{BlockId, BufferId, Id, Table, ValueId};
use crate::op::Op;
use crate::schedule::{Buffer, BufferRows, Home, Section, Step};

use super::tiny::{EMBED, HEAD, OVERLAP, codes, messages, tiny, value_of};

const SEQUENTIAL: &str = "
    c a#0 0..2
    c kv#0 0..2
    c dec#0 0..2
    c pre#0 0..2
    c g#0 0..2
";

/// Homes by name: what the layers carry in m0, the rest where it is said.
fn housed(layer: &str, homes: &[(Option<usize>, &str, usize)]) -> Graph {
    let mut graph = tiny(EMBED, layer, HEAD);
    let carried = [(None, "emb", 0), (None, "out", 0), (Some(0), "h", 0), (Some(0), "g", 0)];
    let per_sequence = [(None, "rows", 1), (None, "logits", 2)];
    let mut places = vec![None; graph.values.len()];
    for (block, name, buffer) in carried.iter().chain(&per_sequence).chain(homes) {
        places[value_of(&graph, *block, name).index()] = Some(home(*buffer, Dim::constant(0), Dim::name("hidden")));
    }
    let buffers = (0..6).map(|number| Buffer {
        rows: if [1, 2].contains(&number) { BufferRows::Seqs } else { BufferRows::Tokens },
        columns: vec![Dim::name("hidden")],
    });
    let schedule = graph.schedule.as_mut().unwrap();
    schedule.buffers = buffers.collect();
    schedule.homes = Table::from_iter(places);
    graph
}

fn home(buffer: usize, column: Dim, columns: Dim) -> Home {
    Home { buffer: BufferId::new(buffer), column, columns }
}

fn set_home(graph: &mut Graph, value: ValueId, home: Home) {
    graph.schedule.as_mut().unwrap().homes[value] = Some(home);
}

#[test]
fn places_of_their_own_are_fine() {
    let graph = housed(OVERLAP, &[(Some(0), "a", 3), (Some(0), "dec", 4)]);
    assert_eq!(messages(&graph), "");
}

#[test]
fn a_buffer_reused_before_its_last_reader_ran() {
    let layer = SEQUENTIAL.replace("c g#0", "c side#0 0..2\n c g#0");
    let homes = |side| [(Some(0), "a", 3), (Some(0), "dec", 4), (Some(0), "side", side)];
    assert_eq!(messages(&housed(&layer, &homes(5))), "");
    let graph = housed(&layer, &homes(4));
    let found = messages(&graph);
    assert_eq!(codes(&graph), ["T3004"], "{found}");
    let expected = "`side#0` (layer 0, stream `compute`) has overwritten `dec` in m4 before `g#0` (layer 0, stream \
                    `compute`) reads it";
    assert!(found.contains(expected), "{found}");
    let graph = housed(SEQUENTIAL, &[(Some(0), "a", 0), (Some(0), "dec", 3)]);
    assert!(messages(&graph).contains("has overwritten `h` in m0 before `g#0`"), "{}", messages(&graph));
}

#[test]
fn a_buffer_reused_on_the_other_stream_without_an_event() {
    let layer = OVERLAP.replace("m dec#1", "m side#1").replace("c pre#1", "c dec#1 1..2\n c pre#1");
    let homes = |side| [(Some(0), "a", 3), (Some(0), "dec", 4), (Some(0), "side", side)];
    assert_eq!(messages(&housed(&layer, &homes(5))), "");
    let graph = housed(&layer, &homes(4));
    assert!(codes(&graph).contains(&"T3003"), "{}", messages(&graph));
}

#[test]
fn windows_of_columns_are_apart_only_where_that_is_sure() {
    let layer = OVERLAP.replace("m dec#1", "m side#1").replace("c pre#1", "c dec#1 1..2\n c pre#1");
    let mut graph = housed(&layer, &[(Some(0), "a", 3), (Some(0), "dec", 4), (Some(0), "side", 4)]);
    let side = value_of(&graph, Some(0), "side");
    let hidden = Dim::name("hidden");
    set_home(&mut graph, side, home(4, hidden.clone(), hidden.clone()));
    assert_eq!(messages(&graph), "", "beside each other");
    set_home(&mut graph, side, home(4, Dim::name("head"), hidden));
    assert!(codes(&graph).contains(&"T3003"), "`head` may be less than `hidden`");
}

#[test]
fn only_what_works_in_place_may_write_over_what_it_reads() {
    let graph = housed(SEQUENTIAL, &[(Some(0), "a", 3), (Some(0), "dec", 3)]);
    assert!(codes(&graph).contains(&"T3006"), "attention over its queries");
    let mut graph = housed(SEQUENTIAL, &[(Some(0), "a", 3), (Some(0), "dec", 4)]);
    assert_eq!(messages(&graph), "", "`g` is added over `h`");
    let g = value_of(&graph, Some(0), "g");
    set_home(&mut graph, g, home(0, Dim::constant(1), Dim::name("hidden")));
    let found = codes(&graph);
    assert_eq!(found, ["T3008"], "shifted by a column, it is not where the next layer looks: {found:?}");
}

#[test]
fn every_launched_value_needs_a_home() {
    let graph = housed(SEQUENTIAL, &[(Some(0), "a", 3)]);
    assert!(messages(&graph).contains("`dec#0` needs `dec`, which has no buffer"), "{}", messages(&graph));
}

#[test]
fn a_window_of_a_value_lives_in_it() {
    let mut graph = housed(SEQUENTIAL, &[(Some(0), "a", 3), (Some(0), "dec", 4)]);
    let (a, side) = (value_of(&graph, Some(0), "a"), value_of(&graph, Some(0), "side"));
    let window = Op::Columns { x: a, from: Dim::constant(0), width: Dim::name("hidden") };
    let block = BlockId::new(0);
    let number = graph.blocks[block].nodes.iter().position(|node| node.outputs.contains(&side)).unwrap();
    let place = graph.blocks[block].place;
    graph.blocks[block].nodes[number] = Node {
        name: "side".to_owned(),
        op: window,
        outputs: vec![side],
        range: None,
        stream: None,
        share: None,
        place,
    };
    let Section::Repeat { blocks, .. } = &mut graph.schedule.as_mut().unwrap().sections[1] else { unreachable!() };
    for step in &mut blocks[0].1 {
        let Step::Launch(launch) = step else { continue };
        launch.op.operands_mut().into_iter().filter(|value| **value == a).for_each(|value| *value = side);
    }
    assert_eq!(messages(&graph), "");
}
