//! Paged attention: one sequence's rows, cut and computed in every way.
#![allow(unsafe_code, reason = "cache pages are raw memory")]

use half::bf16;

use super::{Random, UNTOUCHED, all, assert_close, assert_same_bits, on_every_path};
use crate::cpu::{
    ElementType, KvPages, KvSlot, MatMut, MatRef, Scores, Span, alibi_slopes, attention, attention_items, kv_write,
};

#[derive(Clone, Copy, Debug)]
struct Shape {
    element: ElementType,
    kv_heads: usize,
    group: usize,
    head: usize,
    /// Of a head of V.
    value: usize,
    page_tokens: usize,
    num_tokens: usize,
}

impl Shape {
    fn heads(&self) -> usize {
        self.kv_heads * self.group
    }

    fn scale(&self) -> f32 {
        1.0 / (self.head as f32).sqrt()
    }

    /// As the cache stores it.
    fn stored(&self, value: f32) -> f64 {
        match self.element {
            ElementType::Bf16 => f64::from(bf16::from_f32(value).to_f32()),
            ElementType::F32 => f64::from(value),
        }
    }
}

fn shapes() -> Vec<Shape> {
    let shape = |element, (kv_heads, group, head), (page_tokens, num_tokens)| Shape {
        element,
        kv_heads,
        group,
        head,
        value: head,
        page_tokens,
        num_tokens,
    };
    let (bf16, f32) = (ElementType::Bf16, ElementType::F32);
    vec![
        shape(bf16, (1, 1, 16), (32, 1)),
        shape(f32, (2, 1, 16), (32, 40)),
        shape(bf16, (2, 2, 32), (64, 70)),
        shape(f32, (1, 4, 64), (32, 33)),
        shape(bf16, (2, 4, 64), (64, 150)),
        shape(bf16, (2, 1, 80), (32, 65)),
        shape(f32, (1, 2, 80), (96, 100)),
        shape(bf16, (1, 8, 128), (64, 97)),
        shape(f32, (1, 3, 40), (32, 64)),
        shape(bf16, (1, 50, 16), (32, 35)),
        // Values narrower and wider than keys.
        Shape { value: 14, ..shape(f32, (2, 1, 20), (32, 40)) },
        Shape { value: 24, ..shape(bf16, (3, 2, 20), (64, 70)) },
        Shape { value: 128, ..shape(bf16, (2, 1, 192), (64, 97)) },
        Shape { value: 1, ..shape(f32, (1, 3, 33), (32, 65)) },
        Shape { value: 100, ..shape(f32, (1, 4, 16), (32, 33)) },
    ]
}

/// How scores are made, with what they borrow.
#[derive(Clone, Debug, Default)]
struct Kind {
    softcap: f32,
    window: usize,
    sinks: Option<Vec<f32>>,
    slopes: Option<Vec<f32>>,
}

impl Kind {
    /// Every feature alone, and any of them together.
    fn each(random: &mut Random, shape: Shape) -> Vec<Kind> {
        let heads = shape.heads();
        let plain = Kind::default();
        let window = 1 + random.below(shape.num_tokens);
        let sinks = Some(random.values(heads).iter().map(|sink| 2.0 * sink).collect::<Vec<_>>());
        let slopes = Some(alibi_slopes(heads));
        let softcap = random.pick(&[0.5, 2.0, 30.0]);
        vec![
            plain.clone(),
            Kind { softcap, ..plain.clone() },
            Kind { window, ..plain.clone() },
            Kind { window: random.pick(&[1, 2, 31, 32, 33, 64, usize::MAX]), ..plain.clone() },
            Kind { sinks: sinks.clone(), ..plain.clone() },
            Kind { slopes: slopes.clone(), ..plain },
            Kind { softcap, window, sinks, slopes },
        ]
    }

    fn any(random: &mut Random, shape: Shape) -> Kind {
        let kinds = Kind::each(random, shape);
        kinds[random.below(kinds.len())].clone()
    }

    /// What the softmax takes of a product, from the keys that the row at `position` sees.
    fn score(&self, product: f64, head: usize, key: usize, position: usize) -> f64 {
        let softcap = f64::from(self.softcap);
        let bounded = if softcap > 0.0 { softcap * (product / softcap).tanh() } else { product };
        let slope = self.slopes.as_ref().map_or(0.0, |slopes| f64::from(slopes[head]));
        bounded + slope * (key as f64 - position as f64)
    }

    fn sees(&self, key: usize, position: usize) -> bool {
        key <= position && (self.window == 0 || position - key < self.window)
    }
}

/// One sequence with its pages scattered in a cache that is NaN wherever nothing was written.
struct Sequence {
    shape: Shape,
    kind: Kind,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    pages: Vec<u32>,
    num_pages: usize,
}

impl Sequence {
    fn new(random: &mut Random, shape: Shape, kind: Kind) -> Self {
        let num_pages = shape.num_tokens.div_ceil(shape.page_tokens) + 3;
        let mut pages: Vec<u32> = (0..num_pages as u32).collect();
        random.shuffle(&mut pages);
        let mut values = |heads: usize, width: usize| random.values(shape.num_tokens * heads * width);
        Sequence {
            shape,
            kind,
            q: values(shape.heads(), shape.head),
            k: values(shape.kv_heads, shape.head),
            v: values(shape.kv_heads, shape.value),
            pages,
            num_pages,
        }
    }

    fn memory(&self) -> Vec<u8> {
        let Shape { element, kv_heads, head, value, page_tokens, .. } = self.shape;
        vec![0xff; self.num_pages * KvPages::bytes_per_page(element, kv_heads, (head, value), page_tokens)]
    }

    fn cache(&self, memory: &mut [u8]) -> KvPages {
        let Shape { element, kv_heads, head, value, page_tokens, .. } = self.shape;
        // SAFETY: `memory` made room for these pages, and one thread uses them.
        unsafe { KvPages::from_raw(memory.as_mut_ptr(), element, self.num_pages, kv_heads, (head, value), page_tokens) }
    }

    fn write(&self, cache: &KvPages, tokens: std::ops::Range<usize>) {
        let page_tokens = self.shape.page_tokens;
        let slots: Vec<KvSlot> = (0..self.shape.num_tokens)
            .map(|token| KvSlot { page: self.pages[token / page_tokens], offset: (token % page_tokens) as u32 })
            .collect();
        let Shape { kv_heads, head, value, num_tokens, .. } = self.shape;
        let (k, v) =
            (MatRef::new(&self.k, num_tokens, kv_heads * head), MatRef::new(&self.v, num_tokens, kv_heads * value));
        kv_write(k, v, &slots, cache, tokens);
    }

    fn scores(&self) -> Scores<'_> {
        let Kind { softcap, window, sinks, slopes } = &self.kind;
        let (sinks, slopes) = (sinks.as_deref(), slopes.as_deref());
        Scores { scale: self.shape.scale(), softcap: *softcap, window: *window, sinks, slopes }
    }

    /// Runs the spans' items in the order given by `cuts`, or all at once.
    fn attend(&self, cache: &KvPages, spans: &[Span<'_>], random: Option<&mut Random>) -> Vec<f32> {
        let columns = self.shape.heads() * self.shape.value;
        let mut result = vec![UNTOUCHED; self.shape.num_tokens * columns];
        let out = MatMut::new(&mut result, self.shape.num_tokens, columns);
        let q = MatRef::new(&self.q, self.shape.num_tokens, self.shape.heads() * self.shape.head);
        let items = attention_items(spans, self.shape.heads(), cache);
        for items in random.map_or_else(|| all(items), |random| random.cuts(items)) {
            attention(q, spans, cache, &self.scores(), out, items);
        }
        result
    }

    fn span(&self, rows: std::ops::Range<usize>) -> Span<'_> {
        Span { first_row: rows.start, num_rows: rows.len(), position: rows.start, pages: &self.pages }
    }

    /// The whole sequence as one prefill span.
    fn prefill(&self) -> Vec<f32> {
        let mut memory = self.memory();
        let cache = self.cache(&mut memory);
        self.write(&cache, 0..self.shape.num_tokens);
        self.attend(&cache, &[self.span(0..self.shape.num_tokens)], None)
    }

    fn check(&self, found: &[f32]) {
        let Shape { kv_heads, group, head, value, num_tokens, .. } = self.shape;
        for (token, q_head) in (0..num_tokens).flat_map(|token| (0..kv_heads * group).map(move |head| (token, head))) {
            let of_head = token * kv_heads * group + q_head;
            let q = &self.q[of_head * head..(of_head + 1) * head];
            let stored = |values: &[f32], width: usize, key: usize, i: usize| {
                self.shape.stored(values[(key * kv_heads + q_head / group) * width + i])
            };
            let product = |key| (0..head).map(|i| f64::from(q[i]) * stored(&self.k, head, key, i)).sum::<f64>();
            let scaled = |key| product(key) * f64::from(self.shape.scale());
            let keys: Vec<usize> = (0..num_tokens).filter(|key| self.kind.sees(*key, token)).collect();
            let weight = |key: &usize| self.kind.score(scaled(*key), q_head, *key, token).exp();
            let weights: Vec<f64> = keys.iter().map(weight).collect();
            let sink = self.kind.sinks.as_ref().map_or(0.0, |sinks| f64::from(sinks[q_head]).exp());
            let total: f64 = weights.iter().sum::<f64>() + sink;
            for i in 0..value {
                let stored = |key: &usize| stored(&self.v, value, *key, i);
                let sum: f64 = keys.iter().zip(&weights).map(|(key, weight)| weight * stored(key)).sum();
                let what = format!("{:?}, {:?}, token {token}, head {q_head}, element {i}", self.shape, self.kind);
                assert_close(&what, found[of_head * value + i], sum / total, 2e-6);
            }
        }
    }
}

#[test]
fn attention_matches_the_reference_on_every_path() {
    let mut random = Random::new();
    for shape in shapes() {
        for kind in Kind::each(&mut random, shape) {
            let sequence = Sequence::new(&mut random, shape, kind.clone());
            sequence.check(&on_every_path(&format!("{shape:?}, {kind:?}"), || sequence.prefill()));
        }
    }
}

#[test]
fn decode_equals_prefill_while_later_slots_are_unwritten() {
    let mut random = Random::new();
    for shape in shapes() {
        let kind = Kind::any(&mut random, shape);
        let sequence = Sequence::new(&mut random, shape, kind.clone());
        let expected = sequence.prefill();
        let mut memory = sequence.memory();
        let cache = sequence.cache(&mut memory);
        let columns = shape.heads() * shape.value;
        for token in 0..shape.num_tokens {
            sequence.write(&cache, token..token + 1);
            let found = sequence.attend(&cache, &[sequence.span(token..token + 1)], None);
            let row = token * columns..(token + 1) * columns;
            assert_same_bits(&format!("{shape:?}, {kind:?}, token {token}"), &expected[row.clone()], &found[row]);
        }
    }
}

#[test]
fn attention_does_not_depend_on_chunks_or_items() {
    let mut random = Random::new();
    for shape in shapes() {
        for kind in Kind::each(&mut random, shape) {
            let sequence = Sequence::new(&mut random, shape, kind.clone());
            let expected = sequence.prefill();
            let mut memory = sequence.memory();
            let cache = sequence.cache(&mut memory);
            sequence.write(&cache, 0..shape.num_tokens);
            let chunks = random.cuts(shape.num_tokens);
            let spans: Vec<_> = chunks.into_iter().map(|rows| sequence.span(rows)).collect();
            let found = sequence.attend(&cache, &spans, Some(&mut random));
            assert_same_bits(&format!("{shape:?}, {kind:?}"), &expected, &found);
        }
    }
}

#[test]
fn a_poisoned_token_spares_the_rows_that_do_not_see_it() {
    let mut random = Random::new();
    for shape in shapes() {
        let window = 1 + random.below(shape.num_tokens);
        for kind in [Kind::any(&mut random, shape), Kind { window, ..Kind::any(&mut random, shape) }] {
            let mut sequence = Sequence::new(&mut random, shape, kind.clone());
            let expected = sequence.prefill();
            let poisoned = random.below(shape.num_tokens);
            for (values, width) in [(&mut sequence.k, shape.head), (&mut sequence.v, shape.value)] {
                let columns = shape.kv_heads * width;
                values[poisoned * columns..(poisoned + 1) * columns].fill(random.pick(&[f32::NAN, f32::INFINITY]));
            }
            let found = sequence.prefill();
            let columns = shape.heads() * shape.value;
            for token in (0..shape.num_tokens).filter(|token| !kind.sees(poisoned, *token)) {
                let row = token * columns..(token + 1) * columns;
                let what = format!("{shape:?}, {kind:?}, token {token} beside {poisoned}");
                assert_same_bits(&what, &expected[row.clone()], &found[row]);
            }
        }
    }
}

#[test]
fn what_lies_outside_the_window_is_not_read() {
    let mut random = Random::new();
    for shape in shapes() {
        let kind = Kind { window: 1 + random.below(shape.num_tokens), ..Kind::any(&mut random, shape) };
        let mut sequence = Sequence::new(&mut random, shape, kind.clone());
        let expected = sequence.prefill();
        let first = random.below(shape.num_tokens);
        let seen = (first + 1).saturating_sub(kind.window);
        let mut memory = sequence.memory();
        let cache = sequence.cache(&mut memory);
        // The other slots stay NaN; pages without any visible slot are no pages at all.
        sequence.write(&cache, seen..shape.num_tokens);
        sequence.pages[..seen / shape.page_tokens].fill(u32::MAX);
        let found = sequence.attend(&cache, &[sequence.span(first..shape.num_tokens)], Some(&mut random));
        let rows = first * shape.heads() * shape.value..;
        assert_same_bits(&format!("{shape:?}, {kind:?}, from {first}"), &expected[rows.clone()], &found[rows]);
    }
}

#[test]
fn spans_of_several_sequences_and_idle_spans_share_a_call() {
    let mut random = Random::new();
    let shape = Shape { num_tokens: 80, ..shapes()[4] };
    for kind in Kind::each(&mut random, shape) {
        let sequence = Sequence::new(&mut random, shape, kind);
        let expected = sequence.prefill();
        let mut memory = sequence.memory();
        let cache = sequence.cache(&mut memory);
        sequence.write(&cache, 0..shape.num_tokens);
        let spans = [sequence.span(79..80), sequence.span(5..5), sequence.span(30..79), sequence.span(0..30)];
        assert_same_bits("spans", &expected, &sequence.attend(&cache, &spans, Some(&mut random)));
    }
}

#[test]
fn a_sink_far_above_or_below_all_scores_takes_everything_or_nothing() {
    let mut random = Random::new();
    let shape = shapes()[4];
    let mut sequence = Sequence::new(&mut random, shape, Kind::default());
    let plain = sequence.prefill();
    for below in [-1e4, f32::NEG_INFINITY] {
        sequence.kind.sinks = Some(vec![below; shape.heads()]);
        assert_same_bits("nothing", &plain, &sequence.prefill());
    }
    sequence.kind.sinks = Some(vec![1e4; shape.heads()]);
    assert_same_bits("everything", &vec![0.0; plain.len()], &sequence.prefill());
}

#[test]
fn alibi_slopes_are_those_of_the_paper() {
    let expected = [0.5, 0.25, 0.125, 0.0625, 0.031_25, 0.015_625, 0.007_812_5, 0.003_906_25];
    assert_same_bits("8 heads", &expected, &alibi_slopes(8));
    let more = [1u8, 3, 5, 7].map(|odd| 2.0f32.powf(-0.5 * f32::from(odd)));
    for (found, expected) in alibi_slopes(12).iter().zip(expected.iter().chain(&more)) {
        assert_close("12 heads", *found, f64::from(*expected), 1e-7 * f64::from(*expected));
    }
    for heads in [0, 1, 3, 12, 16, 71] {
        assert_eq!(alibi_slopes(heads).len(), heads);
    }
    assert_eq!(alibi_slopes(1), [0.003_906_25]);
}
