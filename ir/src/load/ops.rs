//! From the form of an operator to the operator: its names looked up, its weights entered.

use super::Loader;
use super::body::Scope;
use super::form::{OpForm, ScalingForm};
use super::mistakes::suggest;
use super::source::Raw;
use crate::diag::Diagnostic;
use crate::dim::Dim;
use crate::graph::WeightRole;
use crate::ids::{BlockId, CacheId, Id, ValueId};
use crate::op::{Op, RopeScaling};

impl<'a> Loader<'a> {
    /// The operator; `None` after a mistake in one of its fields, when all of them have been looked at.
    pub(super) fn op(&mut self, scope: &Scope, raw: Raw<'a>, form: OpForm<'a>) -> Option<Op> {
        match form {
            OpForm::Embed { ids, weight, rows, out } => {
                let (ids, rows, columns) = (self.value(scope, ids), self.bound_dim(rows), self.bound_dim(out));
                let tensor = self.tensor_name(scope, weight, WeightRole::Table);
                Some(Op::Embed { ids: ids?, weight: self.weight(scope, tensor?, rows?, columns?)? })
            }
            OpForm::RmsNorm { x, weight, eps } => {
                let (x, eps) = (self.value(scope, x), self.param(eps));
                let tensor = self.tensor_name(scope, weight, WeightRole::Vector);
                Some(Op::RmsNorm { x: x?, weight: self.vector_like(scope, tensor?, x?)?, eps: eps? })
            }
            OpForm::Linear { x, weight, out, bias, tied } => self.linear(scope, x, weight, out, (bias, tied)),
            OpForm::Rope { x, pos, head, theta, scaling } => {
                let (x, pos, head) = (self.value(scope, x), self.value(scope, pos), self.bound_dim(head));
                let (theta, scaling) = (self.param(theta), scaling.map(|scaling| self.scaling(scaling)));
                let scaling = if let Some(scaling) = scaling { Some(scaling?) } else { None };
                Some(Op::Rope { x: x?, pos: pos?, head: head?, theta: theta?, scaling })
            }
            OpForm::Attention { q, k, v, cache, mask } => {
                let (q, k, v) = (self.value(scope, q), self.value(scope, k), self.value(scope, v));
                let cache = self.cache(scope, cache);
                Some(Op::Attention { q: q?, k: k?, v: v?, cache: cache?, mask: mask.into() })
            }
            OpForm::Add { a, b } => {
                let (a, b) = (self.value(scope, a), self.value(scope, b));
                Some(Op::Add { a: a?, b: b? })
            }
            OpForm::GatedMul { gate, up, by } => {
                let (gate, up) = (self.value(scope, gate), self.value(scope, up));
                Some(Op::GatedMul { gate: gate?, up: up?, by: by.into() })
            }
            OpForm::Route { x, top_k, scoring, renormalize } => {
                let (x, top_k) = (self.value(scope, x), self.bound_dim(top_k));
                Some(Op::Route { x: x?, top_k: top_k?, scoring: scoring.into(), renormalize })
            }
            OpForm::ExpertLinear { x, experts, weight, num_experts, out } => {
                let (x, experts) = (self.value(scope, x), self.value(scope, experts));
                let (num_experts, out) = (self.bound_dim(num_experts), self.bound_dim(out));
                let tensor = self.tensor_name(scope, weight, WeightRole::Experts);
                let inner = self.inner_of_experts(x?, experts?)?;
                let weight = self.weight(scope, tensor?.of_experts(num_experts?), out?, inner)?;
                Some(Op::ExpertLinear { x: x?, experts: experts?, weight })
            }
            OpForm::Combine { x, shares } => {
                let (x, shares) = (self.value(scope, x), self.value(scope, shares));
                Some(Op::Combine { x: x?, shares: shares? })
            }
            OpForm::Rows { x, at } => {
                let (x, at) = (self.value(scope, x), self.value(scope, at));
                Some(Op::Rows { x: x?, at: at? })
            }
            OpForm::Repeat { blocks, times, with } => self.repeat(scope, raw, blocks, times, with),
        }
    }

    fn linear(
        &mut self,
        scope: &Scope,
        x: Raw<'a>,
        weight: Raw<'a>,
        out: Raw<'a>,
        (bias, tied): (bool, Option<Raw<'a>>),
    ) -> Option<Op> {
        let (x, out) = (self.value(scope, x), self.bound_dim(out));
        let tensor = self.tensor_name(scope, weight, WeightRole::Matrix);
        let tied = tied.map(|tied| self.tie(tied));
        let tied = if let Some(tied) = tied { Some(tied?) } else { None };
        let (x, out, tensor) = (x?, out?, tensor?);
        let bias = bias.then(|| tensor.bias());
        let inner = self.columns_of(x)?;
        let weight = self.weight(scope, tensor.tied_to(tied), out.clone(), inner)?;
        let bias = bias.map(|bias| self.weight(scope, bias, Dim::constant(1), out));
        let bias = if let Some(bias) = bias { Some(bias?) } else { None };
        Some(Op::Linear { x, weight, bias })
    }

    /// Columns of an expert's matrix: those of `x`, of which each expert of a row may have its own.
    fn inner_of_experts(&mut self, x: ValueId, experts: ValueId) -> Option<Dim> {
        let columns = self.columns_of(x)?;
        let top_k = self.columns_of(experts)?;
        Some(if top_k == Dim::constant(1) { columns } else { columns.exact_quotient(&top_k).unwrap_or(columns) })
    }

    fn scaling(&mut self, form: ScalingForm<'a>) -> Option<RopeScaling> {
        match form {
            ScalingForm::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                let (factor, low) = (self.param(factor), self.param(low_freq_factor));
                let (high, context) = (self.param(high_freq_factor), self.param(original_context));
                Some(RopeScaling::Llama3 {
                    factor: factor?,
                    low_freq_factor: low?,
                    high_freq_factor: high?,
                    original_context: context?,
                })
            }
        }
    }

    fn cache(&mut self, scope: &Scope, raw: Raw<'a>) -> Option<CacheId> {
        let text = self.reader.text(raw)?;
        let found = scope.caches.get(&text.value).copied();
        if found.is_none() {
            let place = self.reader.place(text.raw);
            let mistake = Diagnostic::new("T0207", place, format!("there is no cache `{}` here", text.value));
            let help = if scope.block.is_some() {
                suggest(&text.value, scope.caches.keys().map(String::as_str))
            } else {
                "layers keep caches: attention stands in a block".to_owned()
            };
            self.reader.report(mistake.help(help));
        }
        found
    }

    fn repeat(&mut self, scope: &Scope, raw: Raw<'a>, blocks: Raw<'a>, times: Raw<'a>, with: Raw<'a>) -> Option<Op> {
        if scope.block.is_some() {
            let place = self.reader.place(raw.0);
            let mistake = Diagnostic::new("T0505", place, "a block repeats blocks");
            self.reader
                .report(mistake.help("`Repeat` stands in the main body; name several blocks there to alternate"));
        }
        let names: Vec<Raw<'a>> = self.reader.read(blocks)?;
        if names.is_empty() {
            let place = self.reader.place(blocks.0);
            self.reader
                .report(Diagnostic::new("T0507", place, "no block to repeat").help("name one or several blocks"));
        }
        let found: Vec<_> = names.iter().map(|&name| self.block_by_name(name)).collect();
        let found: Option<Vec<_>> = found.into_iter().collect();
        let (times, with) = (self.bound_dim(times), self.passed(scope, with, found.as_deref().unwrap_or_default()));
        let blocks = found.filter(|blocks| !blocks.is_empty())?;
        let (times, with) = (times?, with?);
        self.do_alternate(&names, &blocks).then_some(Op::Repeat { blocks, times, with })
    }

    fn block_by_name(&mut self, raw: Raw<'a>) -> Option<BlockId> {
        let text = self.reader.text(raw)?;
        let found = self.graph.blocks.values().position(|block| block.name == text.value);
        if found.is_none() {
            let place = self.reader.place(text.raw);
            let names = self.graph.blocks.values().map(|block| block.name.as_str());
            let mistake = Diagnostic::new("T0206", place, format!("there is no block `{}`", text.value));
            let mistake = mistake.help(suggest(&text.value, names));
            self.reader.report(mistake);
        }
        found.map(BlockId::new)
    }

    /// What `with` passes to the first layer, its key being the name the blocks take.
    fn passed(&mut self, scope: &Scope, raw: Raw<'a>, blocks: &[BlockId]) -> Option<ValueId> {
        let entries = self.reader.entries(raw);
        if entries.len() != 1 {
            let place = self.reader.place(raw.0);
            let mistake = Diagnostic::new("T0503", place, format!("`with` passes {} values", entries.len()));
            self.reader.report(mistake.help("pass the one value that the first layer takes"));
            return None;
        }
        let (name, value) = entries.into_iter().next()?;
        for &block in blocks {
            let block = &self.graph.blocks[block];
            let taken = &self.graph.values[block.takes].name;
            if *taken != name.value {
                let message = format!("the block `{}` takes `{taken}`, not `{}`", block.name, name.value);
                let help = format!("write `\"{taken}\": …`, and let blocks that alternate take the same name");
                let place = self.reader.place(name.raw);
                self.reader.report(Diagnostic::new("T0503", place, message).help(help));
            }
        }
        self.value(scope, value)
    }
}
