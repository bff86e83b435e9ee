//! Paged attention: one sequence's rows, cut and computed in every way.
#![allow(unsafe_code, reason = "cache pages are raw memory")]

use half::bf16;

use super::{Random, UNTOUCHED, all, assert_close, assert_same_bits, on_every_path};
use crate::cpu::{ElementType, KvPages, KvSlot, MatMut, MatRef, Span, attention, attention_items, kv_write};

#[derive(Clone, Copy, Debug)]
struct Shape {
    element: ElementType,
    kv_heads: usize,
    group: usize,
    head: usize,
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
    ]
}

/// One sequence with its pages scattered in a cache that is NaN wherever nothing was written.
struct Sequence {
    shape: Shape,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    pages: Vec<u32>,
    num_pages: usize,
}

impl Sequence {
    fn new(random: &mut Random, shape: Shape) -> Self {
        let num_pages = shape.num_tokens.div_ceil(shape.page_tokens) + 3;
        let mut pages: Vec<u32> = (0..num_pages as u32).collect();
        random.shuffle(&mut pages);
        let mut values = |heads: usize| random.values(shape.num_tokens * heads * shape.head);
        Sequence {
            shape,
            q: values(shape.heads()),
            k: values(shape.kv_heads),
            v: values(shape.kv_heads),
            pages,
            num_pages,
        }
    }

    fn memory(&self) -> Vec<u8> {
        let Shape { element, kv_heads, head, page_tokens, .. } = self.shape;
        vec![0xff; self.num_pages * KvPages::bytes_per_page(element, kv_heads, head, page_tokens)]
    }

    fn cache(&self, memory: &mut [u8]) -> KvPages {
        let Shape { element, kv_heads, head, page_tokens, .. } = self.shape;
        // SAFETY: `memory` made room for these pages, and one thread uses them.
        unsafe { KvPages::from_raw(memory.as_mut_ptr(), element, self.num_pages, kv_heads, head, page_tokens) }
    }

    fn write(&self, cache: &KvPages, tokens: std::ops::Range<usize>) {
        let page_tokens = self.shape.page_tokens;
        let slots: Vec<KvSlot> = (0..self.shape.num_tokens)
            .map(|token| KvSlot { page: self.pages[token / page_tokens], offset: (token % page_tokens) as u32 })
            .collect();
        let columns = self.shape.kv_heads * self.shape.head;
        let view = |values| MatRef::new(values, self.shape.num_tokens, columns);
        kv_write(view(&self.k), view(&self.v), &slots, cache, tokens);
    }

    /// Runs the spans' items in the order given by `cuts`, or all at once.
    fn attend(&self, cache: &KvPages, spans: &[Span<'_>], random: Option<&mut Random>) -> Vec<f32> {
        let columns = self.shape.heads() * self.shape.head;
        let mut result = vec![UNTOUCHED; self.shape.num_tokens * columns];
        let out = MatMut::new(&mut result, self.shape.num_tokens, columns);
        let q = MatRef::new(&self.q, self.shape.num_tokens, columns);
        let items = attention_items(spans, self.shape.heads(), cache);
        for items in random.map_or_else(|| all(items), |random| random.cuts(items)) {
            attention(q, spans, cache, self.shape.scale(), out, items);
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
        let Shape { kv_heads, group, head, num_tokens, .. } = self.shape;
        for (token, q_head) in (0..num_tokens).flat_map(|token| (0..kv_heads * group).map(move |head| (token, head))) {
            let at = (token * kv_heads * group + q_head) * head;
            let q = &self.q[at..at + head];
            let stored = |values: &[f32], key: usize, i: usize| {
                self.shape.stored(values[(key * kv_heads + q_head / group) * head + i])
            };
            let score = |key| (0..head).map(|i| f64::from(q[i]) * stored(&self.k, key, i)).sum::<f64>();
            let weights: Vec<f64> = (0..=token).map(|key| (score(key) * f64::from(self.shape.scale())).exp()).collect();
            let total: f64 = weights.iter().sum();
            for i in 0..head {
                let sum: f64 = (0..=token).map(|key| weights[key] * stored(&self.v, key, i)).sum();
                let what = format!("{:?}, token {token}, head {q_head}, element {i}", self.shape);
                assert_close(&what, found[at + i], sum / total, 2e-6);
            }
        }
    }
}

#[test]
fn attention_matches_the_reference_on_every_path() {
    let mut random = Random::new();
    for shape in shapes() {
        let sequence = Sequence::new(&mut random, shape);
        sequence.check(&on_every_path(&format!("{shape:?}"), || sequence.prefill()));
    }
}

#[test]
fn decode_equals_prefill_while_later_slots_are_unwritten() {
    let mut random = Random::new();
    for shape in shapes() {
        let sequence = Sequence::new(&mut random, shape);
        let expected = sequence.prefill();
        let mut memory = sequence.memory();
        let cache = sequence.cache(&mut memory);
        let columns = shape.heads() * shape.head;
        for token in 0..shape.num_tokens {
            sequence.write(&cache, token..token + 1);
            let found = sequence.attend(&cache, &[sequence.span(token..token + 1)], None);
            let row = token * columns..(token + 1) * columns;
            assert_same_bits(&format!("{shape:?}, token {token}"), &expected[row.clone()], &found[row]);
        }
    }
}

#[test]
fn attention_does_not_depend_on_chunks_or_items() {
    let mut random = Random::new();
    for shape in shapes() {
        let sequence = Sequence::new(&mut random, shape);
        let expected = sequence.prefill();
        let mut memory = sequence.memory();
        let cache = sequence.cache(&mut memory);
        sequence.write(&cache, 0..shape.num_tokens);
        let chunks = random.cuts(shape.num_tokens);
        let spans: Vec<_> = chunks.into_iter().map(|rows| sequence.span(rows)).collect();
        let found = sequence.attend(&cache, &spans, Some(&mut random));
        assert_same_bits(&format!("{shape:?}"), &expected, &found);
    }
}

#[test]
fn a_poisoned_token_spares_the_rows_before_it() {
    let mut random = Random::new();
    for shape in shapes() {
        let mut sequence = Sequence::new(&mut random, shape);
        let expected = sequence.prefill();
        let poisoned = random.below(shape.num_tokens);
        let columns = shape.kv_heads * shape.head;
        for values in [&mut sequence.k, &mut sequence.v] {
            values[poisoned * columns..(poisoned + 1) * columns].fill(random.pick(&[f32::NAN, f32::INFINITY]));
        }
        let found = sequence.prefill();
        let before = poisoned * shape.heads() * shape.head;
        assert_same_bits(&format!("{shape:?}, token {poisoned}"), &expected[..before], &found[..before]);
    }
}

#[test]
fn spans_of_several_sequences_and_idle_spans_share_a_call() {
    let mut random = Random::new();
    let shape = Shape { num_tokens: 80, ..shapes()[4] };
    let sequence = Sequence::new(&mut random, shape);
    let expected = sequence.prefill();
    let mut memory = sequence.memory();
    let cache = sequence.cache(&mut memory);
    sequence.write(&cache, 0..shape.num_tokens);
    let spans = [sequence.span(79..80), sequence.span(5..5), sequence.span(30..79), sequence.span(0..30)];
    assert_same_bits("spans", &expected, &sequence.attend(&cache, &spans, Some(&mut random)));
}
