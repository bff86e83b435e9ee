//! Holds a graph against a golden, position by position, without building it into the binary:
//!
//! ```text
//! cargo run -p trefoil-tests --example compare -- models/graphs/olmo2.ron olmo2
//! ```
//!
//! The oracle computes, in f64. Where the first difference stands says what is wrong; `models/README.md` tells how.

use std::process::ExitCode;

use trefoil_ir::diag::render_all;
use trefoil_ir::load::load;
use trefoil_tests::goldens;
use trefoil_tests::oracle::{Oracle, Tensors};

/// Differences from here on are no rounding.
const WRONG: f32 = 2e-5;
/// Positions to a line.
const PER_LINE: usize = 10;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [file, model] = arguments.as_slice() else {
        eprintln!("usage: compare GRAPH.ron MODEL, where MODEL is a folder of tests/parity");
        return ExitCode::from(2);
    };
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{file}: {error}"));
    let graph = match load("graph", &text) {
        Ok(graph) => graph,
        Err(mistakes) => {
            eprint!("{}", render_all(&mistakes, file, &text));
            return ExitCode::from(3);
        }
    };
    let folder = goldens::folder(model);
    let tensors = Tensors::of_folder(&folder, |name| name.starts_with("model"));
    let oracle = Oracle::new(&graph, &goldens::config(&folder), &tensors);
    let mut is_right = true;
    for sequence in goldens::sequences(model, "logits") {
        let logits = oracle.logits(&sequence.tokens);
        let difference = |(position, row): (usize, &[f64])| {
            let row: Vec<f32> = row.iter().map(|&logit| logit as f32).collect();
            goldens::relative_difference(&row, sequence.row(position))
        };
        let differences: Vec<_> = logits.rows().enumerate().map(difference).collect();
        is_right &= show(&differences);
    }
    ExitCode::from(u8::from(!is_right))
}

/// Prints the differences of a sequence's positions; whether none is wrong.
fn show(differences: &[f32]) -> bool {
    let first = differences.iter().position(|difference| *difference > WRONG);
    let verdict = first.map_or("agrees".to_owned(), |first| format!("differs from position {first} on"));
    println!("sequence of {} tokens: {verdict}", differences.len());
    for (line, part) in differences.chunks(PER_LINE).enumerate() {
        let numbers: Vec<_> = part.iter().map(|difference| format!("{difference:.0e}")).collect();
        println!("  {:>3}: {}", line * PER_LINE, numbers.join(" "));
    }
    first.is_none()
}
