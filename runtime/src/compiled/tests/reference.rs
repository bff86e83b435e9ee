//! The miniature model in plain f64 arithmetic, one whole sequence at a time, and its weights.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView, serialize_to_file};

use super::miniature::{EPS, FFN, HEAD, HEADS, HIDDEN, KV_HEADS, LAYERS, THETA, VOCAB};

/// A tensor: its shape and its numbers in row-major order.
pub(super) type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// Numbers that have no pattern, from their index.
fn noise(seed: u64, index: usize) -> f32 {
    let mut bits = (seed << 32 | index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    bits ^= bits >> 29;
    bits = bits.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (bits >> 40) as f32 / (1u32 << 24) as f32 - 0.5
}

/// The model's weights, the head tied to the embedding.
pub(super) fn tensors() -> Tensors {
    let mut tensors = Tensors::new();
    let mut add = |name: String, shape: Vec<usize>| {
        let (count, seed) = (shape.iter().product(), tensors.len() as u64 + 1);
        let scale = if shape.len() == 1 { 0.5 } else { 2.0 / (shape[1] as f32).sqrt() };
        let shift = if shape.len() == 1 { 1.0 } else { 0.0 };
        let numbers = (0..count).map(|index| shift + scale * noise(seed, index)).collect();
        tensors.insert(name, (shape, numbers));
    };
    add("embed".into(), vec![VOCAB, HIDDEN]);
    add("norm".into(), vec![HIDDEN]);
    for layer in 0..LAYERS {
        for (name, rows, columns) in [
            ("q", HEADS * HEAD, HIDDEN),
            ("k", KV_HEADS * HEAD, HIDDEN),
            ("v", KV_HEADS * HEAD, HIDDEN),
            ("o", HIDDEN, HEADS * HEAD),
            ("gate", FFN, HIDDEN),
            ("up", FFN, HIDDEN),
            ("down", HIDDEN, FFN),
        ] {
            add(format!("{layer}.{name}"), vec![rows, columns]);
        }
        ["n1", "n2"].iter().for_each(|name| add(format!("{layer}.{name}"), vec![HIDDEN]));
    }
    tensors
}

/// Writes the tensors as a checkpoint.
pub(super) fn save(tensors: &Tensors, dir: &Path) {
    let bytes: Vec<(&String, &Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, (shape, numbers))| (name, shape, numbers.iter().flat_map(|x| x.to_le_bytes()).collect()))
        .collect();
    let views = bytes
        .iter()
        .map(|(name, shape, bytes)| (name.as_str(), TensorView::new(Dtype::F32, (*shape).clone(), bytes).unwrap()));
    serialize_to_file(views, None, &dir.join("model.safetensors")).unwrap();
}

/// Logits after every token of a sequence, `[tokens, vocab]`.
pub(super) fn logits(tensors: &Tensors, tokens: &[u32]) -> Vec<Vec<f64>> {
    let model = Reference { tensors };
    let mut h: Vec<Vec<f64>> = tokens.iter().map(|token| model.row("embed", *token as usize)).collect();
    for layer in 0..LAYERS {
        h = model.layer(layer, h);
    }
    h.iter().map(|row| model.linear("embed", &model.norm("norm", row))).collect()
}

struct Reference<'a> {
    tensors: &'a Tensors,
}

impl Reference<'_> {
    fn row(&self, name: &str, row: usize) -> Vec<f64> {
        let (shape, numbers) = &self.tensors[name];
        let columns = shape[shape.len() - 1];
        numbers[row * columns..(row + 1) * columns].iter().map(|x| f64::from(*x)).collect()
    }

    fn linear(&self, name: &str, x: &[f64]) -> Vec<f64> {
        (0..self.tensors[name].0[0]).map(|row| dot(&self.row(name, row), x)).collect()
    }

    fn norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let root = (dot(x, x) / x.len() as f64 + f64::from(EPS)).sqrt();
        x.iter().zip(self.row(name, 0)).map(|(x, weight)| x / root * weight).collect()
    }

    fn layer(&self, layer: usize, h: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
        let name = |name: &str| format!("{layer}.{name}");
        let normed: Vec<_> = h.iter().map(|row| self.norm(&name("n1"), row)).collect();
        let [q, k, v] =
            ["q", "k", "v"].map(|w| normed.iter().map(|row| self.linear(&name(w), row)).collect::<Vec<_>>());
        let rotate = |rows: Vec<Vec<f64>>| rows.iter().enumerate().map(|(p, row)| rotated(row, p)).collect::<Vec<_>>();
        let (q, k) = (rotate(q), rotate(k));
        let mut out = Vec::new();
        for (position, h) in h.iter().enumerate() {
            let attn = attend(&q[position], &k[..=position], &v[..=position]);
            let h1 = sum(h, &self.linear(&name("o"), &attn));
            let n2 = self.norm(&name("n2"), &h1);
            let (gate, up) = (self.linear(&name("gate"), &n2), self.linear(&name("up"), &n2));
            let act: Vec<f64> = gate.iter().zip(&up).map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up).collect();
            out.push(sum(&h1, &self.linear(&name("down"), &act)));
        }
        out
    }
}

fn attend(q: &[f64], k: &[Vec<f64>], v: &[Vec<f64>]) -> Vec<f64> {
    let mut out = Vec::new();
    for head in 0..HEADS {
        let kv = head / (HEADS / KV_HEADS) * HEAD..(head / (HEADS / KV_HEADS) + 1) * HEAD;
        let q = &q[head * HEAD..(head + 1) * HEAD];
        let scores: Vec<f64> = k.iter().map(|k| (dot(q, &k[kv.clone()]) / (HEAD as f64).sqrt()).exp()).collect();
        let total: f64 = scores.iter().sum();
        let weighted = |column: usize| scores.iter().zip(v).map(|(score, v)| score / total * v[column]).sum::<f64>();
        out.extend(kv.clone().map(weighted));
    }
    out
}

fn rotated(row: &[f64], position: usize) -> Vec<f64> {
    let mut out = row.to_vec();
    for (head, i) in (0..row.len() / HEAD).flat_map(|head| (0..HEAD / 2).map(move |i| (head, i))) {
        let (sin, cos) = (position as f64 * THETA.powf(-2.0 * i as f64 / HEAD as f64)).sin_cos();
        let (a, b) = (head * HEAD + i, head * HEAD + HEAD / 2 + i);
        out[a] = row[a] * cos - row[b] * sin;
        out[b] = row[b] * cos + row[a] * sin;
    }
    out
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn sum(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}
