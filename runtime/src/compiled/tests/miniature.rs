//! A miniature model as generated code would describe it: two layers with grouped heads, a rope, a gated feed-forward
//! and a tied head, with three plans.

use std::ops::Range;

use crate::checkpoint::Config;
use crate::device::cpu::CpuDevice;
use crate::launch::{
    Add, AddRmsNorm, Attention, CacheRef, Device, Embed, Function, GatedMul, KvWrite, Launcher, Linear, Point, Region,
    RmsNorm, Rope, RopeRef, Rows, Scores, StepTable, StreamGroup, StreamSpec, WeightRef,
};
use crate::model::{
    BoundModel, BufferRows, BufferSpec, CacheSpec, CompiledModel, CompiledPlan, ConfigFault, Names, Pairs, Part, Piece,
    RopeScaling, RopeSpec, Stored, Suits, WeightRole, WeightSpec,
};

pub(super) const VOCAB: usize = 48;
pub(super) const HIDDEN: usize = 64;
pub(super) const FFN: usize = 96;
pub(super) const LAYERS: usize = 2;
pub(super) const HEADS: usize = 4;
pub(super) const KV_HEADS: usize = 2;
pub(super) const HEAD: usize = 16;
pub(super) const EPS: f32 = 1e-5;
pub(super) const THETA: f64 = 10000.0;
const KV: usize = KV_HEADS * HEAD;

pub(super) static MINIATURE: CompiledModel<CpuDevice> =
    CompiledModel { name: "miniature", ranks: 1, serves: &["Miniature"], config_keys: &[], bind, plans: &PLANS };

const ANY: Suits = Suits { min_tokens: 0, min_decode: 0, max_tokens: None, max_decode: None };
const COMPUTE: StreamSpec = StreamSpec { name: "compute", group: StreamGroup::Compute, share: 1.0 };
const SECOND: StreamSpec = StreamSpec { name: "second", group: StreamGroup::Compute, share: 0.5 };
const MEMORY: StreamSpec = StreamSpec { name: "memory", group: StreamGroup::Memory, share: 0.5 };

static PLANS: [CompiledPlan<CpuDevice>; 5] = [
    CompiledPlan {
        name: "sequential",
        suits: ANY,
        device: None,
        streams: &[COMPUTE],
        num_events: 0,
        points: &[],
        multiple_of: 1,
        buffers,
        logits: (LOGITS, 0),
        embed: |l, _| embed(l, 0, 0..l.rows.tokens, 0),
        layers: |l, _, layers| layers.for_each(|layer| sequential_layer(l, layer)),
        head: |l, _| head(l, &[]),
    },
    // Two nano-batches on two streams; the second reads keys that the first has written.
    CompiledPlan {
        name: "halves",
        suits: Suits { min_tokens: 8, ..ANY },
        device: None,
        streams: &[COMPUTE, SECOND],
        num_events: 3,
        points: &[Point::Share(0.5)],
        multiple_of: 1,
        buffers,
        logits: (LOGITS, 0),
        embed: |l, _| halves(l).into_iter().enumerate().for_each(|(nano, rows)| embed(l, nano, rows, nano as u8)),
        layers: |l, _, layers| layers.for_each(|layer| halves_layer(l, layer)),
        head: |l, _| head(l, &[1]),
    },
    // Decode attention on a stream of its own beside prefill attention.
    CompiledPlan {
        name: "aside",
        suits: Suits { min_decode: 2, ..ANY },
        device: None,
        streams: &[COMPUTE, MEMORY],
        num_events: 2,
        points: &[],
        multiple_of: 1,
        buffers,
        logits: (LOGITS, 0),
        embed: |l, _| embed(l, 0, 0..l.rows.tokens, 0),
        layers: |l, _, layers| layers.for_each(|layer| aside_layer(l, layer)),
        head: |l, _| head(l, &[]),
    },
    // Made for another device: never taken, whatever it suits.
    CompiledPlan {
        name: "elsewhere",
        suits: ANY,
        device: Some("h200-141g"),
        streams: &[COMPUTE],
        num_events: 0,
        points: &[],
        multiple_of: 1,
        buffers,
        logits: (LOGITS, 0),
        embed: |_, _| unreachable!("plan for another device"),
        layers: |_, _, _| unreachable!("plan for another device"),
        head: |_, _| unreachable!("plan for another device"),
    },
    // Reads past a buffer, on the second of two streams that are alike and that nobody waits for.
    CompiledPlan {
        name: "faulty",
        suits: Suits { min_tokens: u32::MAX, ..ANY },
        device: None,
        streams: &[COMPUTE, COMPUTE],
        num_events: 0,
        points: &[],
        multiple_of: 1,
        buffers,
        logits: (LOGITS, 0),
        embed: |l, _| embed(l, 0, 0..l.rows.tokens, 0),
        layers: |l, _, _| {
            let past = l.region(N, 0..u32::MAX, 0, HIDDEN);
            l.device.add(l.site(1, "past", 1, Some(1)), Add { a: past, b: past, out: past });
        },
        head: |l, _| head(l, &[]),
    },
];

const H: usize = 0;
const N: usize = 1;
const QKV: usize = 2;
const ATTN: usize = 3;
const O: usize = 4;
const GATE_UP: usize = 5;
const ACT: usize = 6;
const DOWN: usize = 7;
const PICKED: usize = 8;
const LOGITS: usize = 9;

fn buffers(_: &BoundModel) -> Vec<BufferSpec> {
    let tokens = |columns| BufferSpec { rows: BufferRows::Tokens, columns };
    let seqs = |columns| BufferSpec { rows: BufferRows::Seqs, columns };
    let qkv = HEADS * HEAD + 2 * KV;
    vec![
        tokens(HIDDEN),
        tokens(HIDDEN),
        tokens(qkv),
        tokens(HEADS * HEAD),
        tokens(HIDDEN),
        tokens(2 * FFN),
        tokens(FFN),
        tokens(HIDDEN),
        seqs(HIDDEN),
        seqs(VOCAB),
    ]
}

fn bind(config: &Config) -> Result<BoundModel, Vec<ConfigFault>> {
    let _ = config;
    Ok(bound())
}

pub(super) fn bound() -> BoundModel {
    let every: Vec<usize> = (0..LAYERS).collect();
    let piece = |tensor: &str, rows| Piece {
        tensor: tensor.to_owned(),
        tied: None,
        rows,
        columns: HIDDEN,
        stored: Stored::default(),
    };
    let (experts, part) = (None, Part::Whole);
    let layered =
        |role, columns, pieces| WeightSpec { role, pieces, columns, experts, layers: Some(every.clone()), part };
    let (matrix, vector) = (WeightRole::Matrix, WeightRole::Vector);
    let head = Piece { tied: Some("embed".into()), ..piece("head", VOCAB) };
    let qkv = vec![piece("{layer}.q", HEADS * HEAD), piece("{layer}.k", KV), piece("{layer}.v", KV)];
    let gate_up = vec![piece("{layer}.gate", FFN), piece("{layer}.up", FFN)];
    let whole = |role, pieces| WeightSpec { role, pieces, columns: HIDDEN, experts, layers: None, part };
    BoundModel {
        dims: Vec::new(),
        params: Vec::new(),
        num_layers: LAYERS,
        vocab: VOCAB,
        blocks: vec![0; LAYERS],
        weights: vec![
            whole(WeightRole::Table, vec![piece("embed", VOCAB)]),
            layered(vector, HIDDEN, vec![piece("{layer}.n1", 1)]),
            layered(matrix, HIDDEN, qkv),
            layered(matrix, HEADS * HEAD, vec![piece("{layer}.o", HIDDEN)]),
            layered(vector, HIDDEN, vec![piece("{layer}.n2", 1)]),
            layered(matrix, HIDDEN, gate_up),
            layered(matrix, FFN, vec![Piece { columns: FFN, ..piece("{layer}.down", HIDDEN) }]),
            whole(vector, vec![piece("norm", 1)]),
            whole(matrix, vec![head]),
        ],
        caches: vec![CacheSpec {
            name: "kv".into(),
            kv_heads: KV_HEADS,
            head: HEAD,
            value: HEAD,
            layers: every.clone(),
        }],
        ropes: vec![RopeSpec { rotary: HEAD, pairs: Pairs::Halves, theta: THETA, scaling: RopeScaling::None }],
        context: None,
        names: Names::PLAIN,
    }
}

type L<'a> = Launcher<'a, CpuDevice>;

/// One nano-batch of one layer.
#[derive(Clone)]
struct Nano {
    stream: usize,
    nano: u8,
    layer: usize,
    rows: Range<u32>,
    share: Option<f32>,
}

impl Nano {
    fn site(&self, l: &L<'_>, node: &'static str) -> crate::launch::Site {
        crate::launch::Site { share: self.share, ..l.site(self.stream, node, self.nano, Some(self.layer)) }
    }

    fn weight(&self, weight: u16) -> WeightRef {
        WeightRef { weight, layer: self.layer as u16 }
    }

    fn region(&self, l: &L<'_>, buffer: usize, column: usize, num_columns: usize) -> Region {
        l.region(buffer, self.rows.clone(), column, num_columns)
    }
}

fn embed(l: &L<'_>, stream: usize, rows: Range<u32>, nano: u8) {
    let table = WeightRef { weight: 0, layer: 0 };
    let out = l.region(H, rows, 0, HIDDEN);
    l.device.embed(l.site(stream, "emb", nano, None), Embed { ids: StepTable::Ids, table, out });
}

/// From the layer's input to keys and values in the cache.
fn before_attention(l: &L<'_>, at: &Nano) {
    let (h, n) = (at.region(l, H, 0, HIDDEN), at.region(l, N, 0, HIDDEN));
    l.device.rms_norm(
        at.site(l, "n1"),
        RmsNorm { x: h, weight: Some(at.weight(1)), eps: EPS, group: HIDDEN as u32, out: n },
    );
    let qkv = at.region(l, QKV, 0, HEADS * HEAD + 2 * KV);
    l.device.linear(at.site(l, "qkv"), Linear { x: n, weight: at.weight(2), bias: None, out: qkv });
    let (q, k) = (at.region(l, QKV, 0, HEADS * HEAD), at.region(l, QKV, HEADS * HEAD, KV));
    for (node, x) in [("qr", q), ("kr", k)] {
        let (positions, table) = (StepTable::Positions, RopeRef(0));
        l.device.rope(at.site(l, node), Rope { x, positions, table, head: HEAD as u32, out: x });
    }
    let v = at.region(l, QKV, HEADS * HEAD + KV, KV);
    l.device.kv_write(at.site(l, "kv"), KvWrite { k, v, cache: cache(at.layer) });
}

fn attention(l: &L<'_>, at: &Nano) -> Attention {
    let (q, out) = (at.region(l, QKV, 0, HEADS * HEAD), at.region(l, ATTN, 0, HEADS * HEAD));
    Attention { q, cache: cache(at.layer), scores: Scores::plain(1.0 / (HEAD as f32).sqrt()), out }
}

fn decode_attention(l: &L<'_>, at: &Nano) {
    let at = Nano { rows: l.rows.decode_rows(at.rows.clone()), ..at.clone() };
    l.device.decode_attention(at.site(l, "decode"), attention(l, &at));
}

fn prefill_attention(l: &L<'_>, at: &Nano) {
    let at = Nano { rows: l.rows.prefill_rows(at.rows.clone()), ..at.clone() };
    l.device.prefill_attention(at.site(l, "prefill"), attention(l, &at));
}

fn after_attention(l: &L<'_>, at: &Nano) {
    let [h, n, o, down] = [H, N, O, DOWN].map(|buffer| at.region(l, buffer, 0, HIDDEN));
    let attn = at.region(l, ATTN, 0, HEADS * HEAD);
    l.device.linear(at.site(l, "o"), Linear { x: attn, weight: at.weight(3), bias: None, out: o });
    let norm = AddRmsNorm { a: h, b: o, weight: at.weight(4), eps: EPS, sum: h, out: n };
    l.device.add_rms_norm(at.site(l, "n2"), norm);
    let gate_up = at.region(l, GATE_UP, 0, 2 * FFN);
    l.device.linear(at.site(l, "gate_up"), Linear { x: n, weight: at.weight(5), bias: None, out: gate_up });
    let (gate, up, act) = (at.region(l, GATE_UP, 0, FFN), at.region(l, GATE_UP, FFN, FFN), at.region(l, ACT, 0, FFN));
    l.device.gated_mul(at.site(l, "act"), GatedMul { gate, up, by: Function::Silu, limit: 0.0, shift: 0.0, out: act });
    l.device.linear(at.site(l, "down"), Linear { x: act, weight: at.weight(6), bias: None, out: down });
    l.device.add(at.site(l, "h2"), Add { a: h, b: down, out: h });
}

fn cache(layer: usize) -> CacheRef {
    CacheRef { cache: 0, layer: layer as u16 }
}

fn sequential_layer(l: &L<'_>, layer: usize) {
    let at = Nano { stream: 0, nano: 0, layer, rows: 0..l.rows.tokens, share: None };
    before_attention(l, &at);
    decode_attention(l, &at);
    prefill_attention(l, &at);
    after_attention(l, &at);
}

fn halves(l: &L<'_>) -> [Range<u32>; 2] {
    let [start, middle, end] = l.rows.cut::<3>(&[Point::Share(0.5)], 1);
    [start..middle, middle..end]
}

fn halves_layer(l: &L<'_>, layer: usize) {
    let [first, second] = [0, 1].map(|nano| {
        let rows = halves(l)[nano].clone();
        // The first half leaves half of its stream's threads to the second.
        let share = (nano == 0).then_some(0.5);
        Nano { stream: nano, nano: nano as u8, layer, rows, share }
    });
    before_attention(l, &first);
    l.record(0, 0);
    before_attention(l, &second);
    l.wait(1, 0);
    for at in [&first, &second] {
        decode_attention(l, at);
        prefill_attention(l, at);
        after_attention(l, at);
    }
}

fn aside_layer(l: &L<'_>, layer: usize) {
    let at = Nano { stream: 0, nano: 0, layer, rows: 0..l.rows.tokens, share: None };
    before_attention(l, &at);
    l.record(0, 0);
    l.wait(1, 0);
    decode_attention(l, &Nano { stream: 1, ..at.clone() });
    l.record(1, 1);
    prefill_attention(l, &at);
    l.wait(0, 1);
    after_attention(l, &at);
}

/// The rows that are wanted come from all nano-batches, so the head waits for the streams `others`.
fn head(l: &L<'_>, others: &[usize]) {
    for other in others {
        l.record(*other, 2);
        l.wait(0, 2);
    }
    let whole = |weight| WeightRef { weight, layer: 0 };
    let (h, n) = (l.region(H, 0..l.rows.tokens, 0, HIDDEN), l.region(N, 0..l.rows.tokens, 0, HIDDEN));
    l.device.rms_norm(
        l.site(0, "norm", 0, None),
        RmsNorm { x: h, weight: Some(whole(7)), eps: EPS, group: HIDDEN as u32, out: n },
    );
    let picked = l.region(PICKED, 0..l.rows.seqs, 0, HIDDEN);
    l.device.rows(l.site(0, "rows", 0, None), Rows { x: n, at: StepTable::Last, out: picked });
    let logits = l.region(LOGITS, 0..l.rows.seqs, 0, VOCAB);
    l.device.linear(l.site(0, "logits", 0, None), Linear { x: picked, weight: whole(8), bias: None, out: logits });
}
