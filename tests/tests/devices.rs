//! The device suite: fresh random batches, every plan and thread count against the sequential plan, bit for bit, and
//! against the oracle.

use trefoil_runtime::weights::WeightDtype;
use trefoil_tests::goldens;
use trefoil_tests::oracle::{Oracle, Tensors};
use trefoil_tests::random::Random;
use trefoil_tests::steps::{self, Cut, Setting};

/// Sequences of unequal length in chunks of unequal size: prefills, decodes and both in one step.
fn random_cuts(random: &mut Random, vocab: usize) -> Vec<Cut> {
    let sequence = |random: &mut Random| {
        let num_tokens = 1 + random.below(90);
        let tokens: Vec<u32> = (0..num_tokens).map(|_| random.below(vocab) as u32).collect();
        let mut chunks = Vec::new();
        while chunks.iter().sum::<usize>() < num_tokens {
            let left = num_tokens - chunks.iter().sum::<usize>();
            let size = if random.below(2) == 0 { 1 } else { 1 + random.below(40) };
            chunks.push(size.min(left));
        }
        Cut { tokens, chunks }
    };
    (0..1 + random.below(12)).map(|_| sequence(random)).collect()
}

#[test]
fn every_plan_gives_the_bits_of_the_sequential_one() {
    let mut random = Random::fresh();
    for dtype in [WeightDtype::Float32, WeightDtype::Bfloat16] {
        let model = goldens::MODELS[random.below(goldens::MODELS.len())];
        let folder = goldens::folder(model);
        let cuts = random_cuts(&mut random, 128);
        let mut sequential = steps::executor(&folder, &Setting { dtype, ..Setting::plain("sequential") });
        let expected = steps::logits(&mut sequential, &cuts);
        for plan in ["sequential", "overlap-2"] {
            for num_threads in [1, 2, 3] {
                let mut executor = steps::executor(&folder, &Setting { dtype, num_threads, ..Setting::plain(plan) });
                // Twice, since a race need not show at once and stale pages must not matter.
                for _ in 0..2 {
                    let found = steps::logits(&mut executor, &cuts);
                    let same =
                        found.concat().iter().map(|x| x.to_bits()).eq(expected.concat().iter().map(|x| x.to_bits()));
                    assert!(same, "{random}: {model} by {plan} on {num_threads} threads differs from sequential");
                }
            }
        }
    }
}

#[test]
fn random_sequences_agree_with_the_oracle() {
    let mut random = Random::fresh();
    for model in goldens::MODELS {
        let folder = goldens::folder(model);
        let tensors = Tensors::of_folder(&folder, |name| name.starts_with("model"));
        let graph = goldens::graph(model);
        let oracle = Oracle::new(&graph, &goldens::config(&folder), &tensors);
        let cuts = random_cuts(&mut random, 128);
        let mut executor = steps::executor(&folder, &Setting::plain("overlap-2"));
        let found = steps::logits(&mut executor, &cuts);
        for (cut, found) in cuts.iter().zip(found) {
            let expected = oracle.logits(&cut.tokens);
            if oracle.is_undecided() {
                continue;
            }
            for (position, row) in expected.rows().enumerate() {
                let row: Vec<f32> = row.iter().map(|&logit| logit as f32).collect();
                let own = &found[position * row.len()..(position + 1) * row.len()];
                let difference = goldens::relative_difference(own, &row);
                assert!(difference <= 1e-4, "{random}: {model}, position {position} differs by {difference:.1e}");
            }
        }
    }
}
