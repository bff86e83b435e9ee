//! Compiled models against Hugging Face transformers: teacher-forced logits of every position.

use std::path::PathBuf;

use trefoil_runtime::weights::WeightDtype;
use trefoil_tests::goldens::{self, MODELS, Sequence};
use trefoil_tests::steps::{self, Cut, Setting};

/// The plans that every model is compiled with.
const PLANS: &[&str] = &["sequential", "overlap-2"];

fn cuts(sequences: &[Sequence], cut: impl Fn(&[u32]) -> Cut) -> Vec<Cut> {
    sequences.iter().map(|sequence| cut(&sequence.tokens)).collect()
}

#[test]
fn float32_agrees_to_one_in_ten_thousand() {
    let mut wrong = vec![];
    for model in MODELS {
        let sequences = goldens::sequences(model, "logits");
        for plan in PLANS {
            let mut executor = steps::executor(&goldens::folder(model), &Setting::plain(plan));
            let found = steps::logits(&mut executor, &cuts(&sequences, Cut::whole));
            let worst = worst_difference(&found, &sequences);
            println!("{model} by {plan}: {worst:.1e}");
            if worst > 1e-4 {
                wrong.push(format!("{model} by {plan} differs by {worst:.1e}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn worst_difference(found: &[Vec<f32>], sequences: &[Sequence]) -> f32 {
    let of_sequence = |(found, sequence): (&Vec<f32>, &Sequence)| {
        let rows = found.chunks(sequence.vocab()).enumerate();
        rows.fold(0f32, |worst, (position, row)| worst.max(goldens::relative_difference(row, sequence.row(position))))
    };
    found.iter().zip(sequences).map(of_sequence).fold(0f32, f32::max)
}

#[test]
fn bfloat16_chooses_the_same_token_wherever_the_choice_is_clear() {
    for model in MODELS {
        let sequences = goldens::sequences(model, "logits_bf16_weights");
        let (folder, dtype) = bf16_checkpoint(model);
        for plan in PLANS {
            let mut executor = steps::executor(&folder, &Setting { dtype, ..Setting::plain(plan) });
            let found = steps::logits(&mut executor, &cuts(&sequences, Cut::whole));
            for (found, sequence) in found.iter().zip(&sequences) {
                let num_clear = check_choices(model, plan, found, sequence);
                assert!(num_clear * 2 > sequence.tokens.len(), "{model}: too few clear choices to mean anything");
            }
        }
    }
}

/// The checkpoint in bf16, or the one in f32 to be rounded while it is loaded.
fn bf16_checkpoint(model: &str) -> (PathBuf, WeightDtype) {
    let folder = goldens::folder(model);
    let own = folder.join("bf16");
    if own.is_dir() { (own, WeightDtype::Auto) } else { (folder, WeightDtype::Bfloat16) }
}

/// Compares the best token of each position, and gives the number of those where the reference's margin says that it
/// must agree.
fn check_choices(model: &str, plan: &str, found: &[f32], sequence: &Sequence) -> usize {
    let mut num_clear = 0;
    for (position, row) in found.chunks(sequence.vocab()).enumerate() {
        let (best, margin) = choice(sequence.row(position));
        if margin > 0.1 {
            num_clear += 1;
            assert_eq!(choice(row).0, best, "{model} by {plan}, position {position}, margin {margin}");
        }
    }
    num_clear
}

/// The best token and its distance from the second best.
fn choice(row: &[f32]) -> (usize, f32) {
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
    (order[0], row[order[0]] - row[order[1]])
}

#[test]
fn however_a_prompt_is_cut_the_logits_are_the_same_bits() {
    for model in MODELS {
        let sequences = goldens::sequences(model, "logits");
        let mut executor = steps::executor(&goldens::folder(model), &Setting::plain("sequential"));
        let whole = steps::logits(&mut executor, &cuts(&sequences, Cut::whole));
        let alone: Vec<_> = sequences
            .iter()
            .flat_map(|sequence| steps::logits(&mut executor, &[Cut::whole(&sequence.tokens)]))
            .collect();
        let ways = [
            ("alone", alone),
            ("in chunks of 3", steps::logits(&mut executor, &cuts(&sequences, |tokens| Cut::chunked(tokens, 3)))),
            ("in chunks of 32", steps::logits(&mut executor, &cuts(&sequences, |tokens| Cut::chunked(tokens, 32)))),
            (
                "decoded from the second token",
                steps::logits(&mut executor, &cuts(&sequences, |tokens| Cut::decoded(tokens, 1))),
            ),
            (
                "decoded from the fifth token",
                steps::logits(&mut executor, &cuts(&sequences, |tokens| Cut::decoded(tokens, 4))),
            ),
        ];
        for (way, logits) in ways {
            assert!(same_bits(&logits, &whole), "{model}: {way}, the logits differ");
        }
    }
}

fn same_bits(a: &[Vec<f32>], b: &[Vec<f32>]) -> bool {
    let bits = |logits: &[Vec<f32>]| logits.concat().iter().map(|logit| logit.to_bits()).collect::<Vec<_>>();
    bits(a) == bits(b)
}
