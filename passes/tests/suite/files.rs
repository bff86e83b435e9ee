//! Every pass on small graphs and plans, one case per file, and every mistake a plan can have on its line.

use crate::cases::{self, Case};

#[test]
fn cases_are_as_their_files_say() {
    let files = cases::files();
    assert!(!files.is_empty(), "no cases in tests/files/passes");
    let complaints: Vec<_> = files.iter().filter_map(|file| cases::check(file)).collect();
    assert!(complaints.is_empty(), "{}\n\nrun again with BLESS=1 to rewrite what is expected", complaints.join("\n\n"));
}

#[test]
fn a_case_can_fail_in_each_of_its_ways() {
    let head = "run: lower\ngraph: llama\n";
    let plan = "=== plan\nPlan(suits: (), points: [], streams: [Stream(name: \"s\", group: Compute, share: 1.0)],\n";
    let good = format!("{head}check: KvWrite\n{plan}order: AsWritten)\n");
    assert_eq!(Case::parse(&good).complaint(), None);
    for wrong in [
        format!("{head}check: AllReduce\n{plan}order: AsWritten)\n"),
        format!("{head}check: PrefillAttention\ncheck: KvWrite\n{plan}order: AsWritten)\n"),
        format!("{head}check-not: KvWrite\n{plan}order: AsWritten)\n"),
        format!("{head}{plan}order: AsWritten)\n=== expect nodes\nblock none\n"),
        format!("{head}{plan}order: AsWritten) //~ T1001 nothing\n"),
        format!("{head}{plan}order: Backwards)\n"),
        format!("{head}{plan}order: Backwards) //~ T1002\n"),
    ] {
        assert!(Case::parse(&wrong).complaint().is_some(), "{wrong}");
    }
}

#[test]
fn blessing_makes_a_case_expect_what_is_found() {
    let head = "run: lower\ngraph: llama\n";
    let plan = "=== plan\nPlan(suits: (), points: [], streams: [Stream(name: \"s\", group: Compute, share: 1.0)],\n";
    for wrong in [
        format!("{head}{plan}order: AsWritten)\n=== expect nodes\nblock none\n"),
        format!("{head}{plan}order: Backwards) //~ T1002 other\n"),
    ] {
        let mut case = Case::parse(&wrong);
        case.bless();
        assert_eq!(case.complaint(), None, "{wrong}");
    }
}
