//! The compiler and the launch functions cut a dense batch at the same rows.

use trefoil_ir::graph::{self, Split};
use trefoil_runtime::launch::{Point, StepRows};

#[test]
fn simulated_batches_are_cut_as_launched_ones_are() {
    let rules = [Point::Share(0.3), Point::DecodeShare(0.9), Point::Tokens(700)];
    let points = rules.map(|rule| match rule {
        Point::Share(share) => graph::Point::Share(share),
        Point::Tokens(tokens) => graph::Point::Tokens(tokens),
        Point::DecodeShare(share) => graph::Point::DecodeShare(share),
    });
    for multiple_of in [0, 1, 16, 128] {
        let split = Split { points: points.to_vec(), multiple_of };
        for tokens in (0..3000).step_by(7) {
            for decode in [0, tokens / 3, tokens] {
                let launched: [u32; 5] = StepRows { tokens, decode, seqs: 0 }.cut(&rules, multiple_of);
                assert_eq!(split.cut(tokens, decode), launched, "{decode} of {tokens} rows by {multiple_of}");
            }
        }
    }
}
