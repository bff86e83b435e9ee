//! Wrong graphs and plans: all mistakes at once, each under its line.

use super::{LLAMA, OVERLAP, SEQUENTIAL};
use trefoil_codegen::compile;

#[test]
fn a_mistake_in_the_graph_is_drawn_under_its_line() {
    let graph = LLAMA.replace("\"q\": Linear(x: \"n1\"", "\"q\": Linear(x: \"n9\"");
    let mistakes = compile("llama", &graph, &[SEQUENTIAL]).unwrap_err();
    insta::assert_snapshot!(mistakes);
}

#[test]
fn mistakes_of_the_graph_and_of_all_plans_come_together() {
    let graph = LLAMA.replace("gives: \"logits\"", "gives: \"logit\"");
    let plans = [("a", "Plan("), ("plans/b.ron", &OVERLAP.1.replace("Share(0.5)", "Share(1.5)"))];
    let mistakes = compile("llama", &graph, &plans).unwrap_err();
    let files: Vec<_> = mistakes.0.iter().map(|mistake| mistake.file.as_str()).collect();
    assert_eq!(files, ["graphs/llama.ron", "plans/a.ron", "plans/b.ron"], "{mistakes}");
}

#[test]
fn a_plan_that_speaks_of_a_node_the_graph_lacks_is_drawn_in_the_plan() {
    let plan = OVERLAP.1.replace("\"*\": [1]", "\"*\": [1], \"nowhere\": []");
    let mistakes = compile("llama", LLAMA, &[("mine", &plan)]).unwrap_err();
    assert_eq!(mistakes.0.len(), 1, "{mistakes}");
    assert_eq!((mistakes.0[0].code, mistakes.0[0].file.as_str()), ("T1101", "plans/mine.ron"));
    assert!(mistakes.0[0].text.contains("^"), "{mistakes}");
}

#[test]
fn two_plans_of_one_name_are_refused() {
    let mistakes = compile("llama", LLAMA, &[SEQUENTIAL, ("plans/llama/sequential.ron", OVERLAP.1)]).unwrap_err();
    assert_eq!(mistakes.0[0].code, "T3022", "{mistakes}");
}
