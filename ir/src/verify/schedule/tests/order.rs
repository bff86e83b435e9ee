//! Events: each missing one is found, none is asked for in vain.

use super::super::{Order, hazards, needless_waits, remove_wait};
use super::tiny::{EMBED, HEAD, OVERLAP, codes, messages, tiny, tiny_of};

#[test]
fn a_correct_schedule_raises_no_alarm() {
    let graph = tiny(EMBED, OVERLAP, HEAD);
    assert_eq!(messages(&graph), "");
    assert_eq!(needless_waits(&graph), []);
    assert_eq!(messages(&tiny_of(EMBED, &[OVERLAP, OVERLAP, OVERLAP], HEAD)), "");
}

#[test]
fn every_missing_wait_is_found() {
    let whole = tiny(EMBED, OVERLAP, HEAD);
    for number in 0.. {
        let mut graph = whole.clone();
        let Some(wait) = remove_wait(graph.schedule.as_mut().unwrap(), number) else { break };
        assert!(codes(&graph).iter().any(|code| ["T3001", "T3002", "T3003"].contains(code)), "{wait:?}");
    }
}

#[test]
fn every_missing_record_is_found() {
    for event in 0..4 {
        let layer = without_line(OVERLAP, &format!("> e{event}"));
        assert_eq!(codes(&tiny(EMBED, &layer, HEAD)), ["T3010"], "e{event}");
    }
}

#[test]
fn a_needless_wait_is_named() {
    let graph = tiny(EMBED, &OVERLAP.replace("m < e2", "m < e2\n m < e0"), HEAD);
    assert_eq!(hazards(&graph), []);
    assert_eq!(needless_waits(&graph).len(), 1);
}

#[test]
fn what_is_not_ordered_can_overlap() {
    let graph = tiny(EMBED, OVERLAP, HEAD);
    let order = Order::of(&graph);
    let at = |layer, node, nano| order.find(0, Some(layer), node, nano).unwrap();
    assert!(order.side_by_side(at(0, "dec", 0), at(0, "a", 1)));
    assert!(order.side_by_side(at(1, "dec", 1), at(1, "g", 0)));
    assert!(order.before(at(0, "dec", 0), at(0, "g", 0)));
    assert!(order.before(at(0, "dec", 1), at(1, "a", 0)));
    assert!(!order.before(at(0, "g", 0), at(0, "dec", 0)));
    assert!(order.find(0, Some(0), "nowhere", 0).is_none());
}

#[test]
fn a_read_before_the_write_has_ended() {
    let graph = tiny(EMBED, &without_event(OVERLAP, 0), HEAD);
    let found = messages(&graph);
    assert!(
        found.contains(
            "T3001: read after write (RAW): `dec#0` (layer 0, stream `memory`) reads `a`, and nothing makes it come \
             after `a#0` (layer 0, stream `compute`) has written `a`"
        ),
        "{found}"
    );
    assert!(found.contains("`kv#0` (layer 0, stream `compute`) has written cache `kv`"), "{found}");
}

/// A second reader on the other stream, which the next layer overwrites unless it waits.
const SIDE: &str = "
    c a#0 0..2
    c > e0
    m < e0
    m side#0 0..2
    m > e1
    c kv#0 0..2
    c dec#0 0..2
    c pre#0 0..2
    c g#0 0..2
";

#[test]
fn a_write_of_the_next_layer_before_the_read_has_ended() {
    let waits_at_the_end = format!("c < e1\n{HEAD}");
    let graph = tiny(EMBED, SIDE, &waits_at_the_end);
    let found = messages(&graph);
    assert_eq!(codes(&graph), ["T3002"], "{found}");
    assert!(found.contains("`a#0` (layer 1, stream `compute`) writes `a`"), "{found}");
    assert!(found.contains("after `side#0` (layer 0, stream `memory`) has read `a`"), "{found}");
    assert_eq!(messages(&tiny(EMBED, &format!("c < e1\n{SIDE}"), &waits_at_the_end)), "");
}

#[test]
fn two_writes_of_the_same_rows() {
    let both = OVERLAP.replace("c pre#0", "c dec#0 0..1\n c pre#0");
    let graph = tiny(EMBED, &both, HEAD);
    assert_eq!(codes(&graph), ["T3003"], "{}", messages(&graph));
}

const HEAD_ELSEWHERE: &str = "
    c > e8
    m < e8
    m rows#0 0..2
    m logits#0 0..2
";

#[test]
fn a_write_of_the_next_step_before_the_read_has_ended() {
    let graph = tiny(EMBED, OVERLAP, HEAD_ELSEWHERE);
    let found = messages(&graph);
    assert_eq!(codes(&graph), ["T3002"], "{found}");
    assert!(found.contains("the next step's `emb#0` (stream `compute`) writes `emb`"), "{found}");
    let embed = format!("c < e9\n{EMBED}");
    assert_eq!(messages(&tiny(&embed, OVERLAP, &format!("{HEAD_ELSEWHERE} m > e9"))), "");
}

#[test]
fn layers_of_two_kinds_come_in_any_order() {
    let quiet = "c a#0 0..2\n c kv#0 0..2\n c dec#0 0..2\n c pre#0 0..2\n c g#0 0..2";
    let head = format!("c < e1\n{HEAD}");
    let races = "`a#0` (layer 1, stream `compute`) writes `a`";
    let alone = messages(&tiny_of(EMBED, &[SIDE, quiet], &head));
    assert!(alone.contains(races) && alone.contains("`side#0` (layer 0, stream `memory`) has read `a`"), "{alone}");
    let in_the_other = messages(&tiny_of(EMBED, &[SIDE, &format!("c < e1\n{quiet}")], &head));
    assert!(in_the_other.contains(races), "the other text need not come in between: {in_the_other}");
    assert_eq!(messages(&tiny_of(EMBED, &[&format!("c < e1\n{SIDE}"), quiet], &head)), "");
}

#[test]
fn a_launch_may_not_outlast_its_step() {
    let embed = format!("c < e1\n{EMBED}");
    let graph = tiny(&embed, &format!("c < e1\n{SIDE}"), HEAD);
    let found = messages(&graph);
    assert_eq!(codes(&graph), ["T3007"], "{found}");
    assert!(
        found.contains("`side#0` (layer 2, stream `memory`) may still run when stream `compute` has ended"),
        "{found}"
    );
}

#[test]
fn rows_that_nothing_has_written() {
    let lacks_rows = OVERLAP.replace("c g#1 1..2", "");
    assert_eq!(codes(&tiny(EMBED, &lacks_rows, HEAD)), ["T3005"]);
    let lacks_prefill = OVERLAP.replace("c pre#1 1..2", "");
    assert_eq!(codes(&tiny(EMBED, &lacks_prefill, HEAD)), ["T3005"]);
    let reads_too_early = OVERLAP.replace("c kv#1 1..2", "").replace("c < e1", "c kv#1 1..2\n c < e1");
    assert!(codes(&tiny(EMBED, &reads_too_early, HEAD)).contains(&"T3005"));
    assert_eq!(codes(&tiny(EMBED, OVERLAP, "")), ["T3005"], "nothing gives the result");
}

#[test]
fn streams_and_events_that_do_not_exist() {
    assert_eq!(codes(&tiny("nowhere emb#0 0..2", OVERLAP, HEAD)), ["T3012"]);
    let far = OVERLAP.replace("e3", "e77");
    assert_eq!(codes(&tiny(EMBED, &far, HEAD)), ["T3013", "T3013"][..1]);
}

/// `text` without the record and the wait of an event.
fn without_event(text: &str, event: usize) -> String {
    let text = without_line(text, &format!("> e{event}"));
    without_line(&text, &format!("< e{event}"))
}

fn without_line(text: &str, part: &str) -> String {
    text.lines().filter(|line| !line.contains(part)).map(|line| format!("{line}\n")).collect()
}
