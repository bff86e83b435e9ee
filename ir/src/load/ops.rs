//! From the form of an operator to the operator: its names looked up, its weights entered.

use super::Loader;
use super::body::Scope;
use super::form::{FunctionForm, GroupsForm, KindsForm, OpForm, ScalingForm};
use super::mistakes::suggest;
use super::source::{Entries, Raw};
use crate::diag::Diagnostic;
use crate::dim::{Dim, Expr};
use crate::graph::{Literal, WeightRole};
use crate::ids::{BlockId, CacheId, Id, ParamId, ValueId, WeightId};
use crate::op::{Function, Groups, Op, Pattern, RopeScaling, Score, Switch};

impl<'a> Loader<'a> {
    /// The operator; `None` after a mistake in one of its fields, when all of them have been looked at.
    pub(super) fn op(&mut self, scope: &Scope, raw: Raw<'a>, form: OpForm<'a>) -> Option<Op> {
        match form {
            OpForm::Embed { ids, weight, rows, out } => {
                let (ids, rows, columns) = (self.value(scope, ids), self.bound_dim(rows), self.bound_dim(out));
                let tensor = self.tensor_name(scope, weight, WeightRole::Table);
                Some(Op::Embed { ids: ids?, weight: self.weight(scope, tensor?, rows?, columns?)? })
            }
            OpForm::RmsNorm { x, weight, eps, group } => {
                let (weight, _, x, group) = self.norm(scope, x, (weight, None), group)?;
                Some(Op::RmsNorm { x, weight, eps: self.param(eps)?, group })
            }
            OpForm::LayerNorm { x, weight, bias, eps, group } => {
                let (weight, bias, x, group) = self.norm(scope, x, (weight, bias), group)?;
                Some(Op::LayerNorm { x, weight, bias, eps: self.param(eps)?, group })
            }
            OpForm::Linear { x, weight, out, bias, tied } => self.linear(scope, x, weight, out, (bias, tied)),
            OpForm::Rope { x, pos, head, theta, rotary, pairs, scaling } => {
                let (x, pos, head) = (self.value(scope, x), self.value(scope, pos), self.bound_dim(head));
                let (theta, rotary) = (self.param(theta), self.optional_dim(rotary));
                let scaling = scaling.map_or(Some(None), |scaling| self.scaling(scaling).map(Some));
                let (x, pos, head, theta) = (x?, pos?, head?, theta?);
                Some(Op::Rope { x, pos, head, theta, rotary: rotary?, pairs: pairs.into(), scaling: scaling? })
            }
            OpForm::Attention { q, k, v, cache, mask, scale, softcap, window, sinks, alibi } => {
                let (q, k, v) = (self.value(scope, q), self.value(scope, k), self.value(scope, v));
                let cache = self.cache(scope, cache);
                let (scale, softcap) = (self.optional_param(scale), self.optional_param(softcap));
                let window = self.optional_param(window);
                let (q, k, v, cache) = (q?, k?, v?, cache?);
                let sinks = sinks.map_or(Some(None), |sinks| self.sinks(scope, sinks, (q, cache)).map(Some));
                let score = Score { scale: scale?, softcap: softcap?, window: window?, sinks: sinks?, alibi };
                Some(Op::Attention { q, k, v, cache, mask: mask.into(), score })
            }
            OpForm::Join { a, b, heads } => {
                let (a, b, heads) = (self.value(scope, a), self.value(scope, b), self.bound_dim(heads));
                Some(Op::Join { a: a?, b: b?, heads: heads? })
            }
            OpForm::Add { a, b } => {
                let (a, b) = (self.value(scope, a), self.value(scope, b));
                Some(Op::Add { a: a?, b: b? })
            }
            OpForm::GatedMul { gate, up, by, limit, shift } => {
                let (gate, up, by) = (self.value(scope, gate), self.value(scope, up), self.function(by));
                let (limit, shift) = (self.optional_param(limit), self.optional_param(shift));
                Some(Op::GatedMul { gate: gate?, up: up?, by: by?, limit: limit?, shift: shift? })
            }
            OpForm::Apply { x, by } => {
                let (x, by) = (self.value(scope, x), self.function(by));
                Some(Op::Apply { x: x?, by: by? })
            }
            OpForm::Route { x, top_k, scoring, renormalize, bias, groups } => {
                let (x, top_k, renormalize) = (self.value(scope, x), self.bound_dim(top_k), self.switch(renormalize));
                let bias = bias.map_or(Some(None), |bias| self.route_bias(scope, bias, x?).map(Some));
                let groups = groups.map_or(Some(None), |groups| self.groups(groups).map(Some));
                let (x, top_k, renormalize) = (x?, top_k?, renormalize?);
                Some(Op::Route { x, top_k, scoring: scoring.into(), renormalize, bias: bias?, groups: groups? })
            }
            OpForm::ExpertLinear { x, experts, weight, num_experts, out, bias } => {
                self.expert_linear(scope, (x, experts), (weight, bias), (num_experts, out))
            }
            OpForm::Combine { x, shares } => {
                let (x, shares) = (self.value(scope, x), self.value(scope, shares));
                Some(Op::Combine { x: x?, shares: shares? })
            }
            OpForm::Rows { x, at } => {
                let (x, at) = (self.value(scope, x), self.value(scope, at));
                Some(Op::Rows { x: x?, at: at? })
            }
            OpForm::Repeat { blocks, times, with, kinds } => self.repeat(scope, raw, (blocks, kinds), times, with),
        }
    }

    /// Weight, bias, operand and group of a norm.
    #[allow(clippy::type_complexity, reason = "what a norm has, each part of it named where it is taken")]
    fn norm(
        &mut self,
        scope: &Scope,
        x: Raw<'a>,
        (weight, bias): (Option<Raw<'a>>, Option<Raw<'a>>),
        group: Option<Raw<'a>>,
    ) -> Option<(Option<WeightId>, Option<WeightId>, ValueId, Option<Dim>)> {
        let (x, group) = (self.value(scope, x), self.optional_dim(group));
        let tensor = weight.map_or(Some(None), |weight| self.tensor_name(scope, weight, WeightRole::Vector).map(Some));
        let tensor = tensor?;
        let bias = self.bias(scope, bias, tensor.as_ref(), WeightRole::Vector)?;
        let (x, group) = (x?, group?);
        let weight = self.norm_vector(scope, tensor, x, group.as_ref())?;
        let bias = self.norm_vector(scope, bias, x, group.as_ref())?;
        Some((weight, bias, x, group))
    }

    fn linear(
        &mut self,
        scope: &Scope,
        x: Raw<'a>,
        weight: Raw<'a>,
        out: Raw<'a>,
        (bias, tied): (Option<Raw<'a>>, Option<Raw<'a>>),
    ) -> Option<Op> {
        let (x, out) = (self.value(scope, x), self.bound_dim(out));
        let tensor = self.tensor_name(scope, weight, WeightRole::Matrix);
        let tied = tied.map_or(Some(None), |tied| self.tie(tied).map(Some))?;
        let (x, out, tensor) = (x?, out?, tensor?);
        let bias = self.bias(scope, bias, Some(&tensor), WeightRole::Vector)?;
        let inner = self.columns_of(x)?;
        let weight = self.weight(scope, tensor.tied_to(tied), out.clone(), inner)?;
        let bias = bias.map_or(Some(None), |bias| self.weight(scope, bias, Dim::constant(1), out).map(Some))?;
        Some(Op::Linear { x, weight, bias })
    }

    fn expert_linear(
        &mut self,
        scope: &Scope,
        (x, experts): (Raw<'a>, Raw<'a>),
        (weight, bias): (Raw<'a>, Option<Raw<'a>>),
        (num_experts, out): (Raw<'a>, Raw<'a>),
    ) -> Option<Op> {
        let (x, experts) = (self.value(scope, x), self.value(scope, experts));
        let (num_experts, out) = (self.bound_dim(num_experts), self.bound_dim(out));
        let tensor = self.tensor_name(scope, weight, WeightRole::Experts);
        let (x, experts, num_experts, out) = (x?, experts?, num_experts?, out?);
        let tensor = tensor?.of_experts(num_experts.clone());
        let bias = self.bias(scope, bias, Some(&tensor), WeightRole::ExpertVectors)?;
        let inner = self.inner_of_experts(x, experts)?;
        let weight = self.weight(scope, tensor, out.clone(), inner)?;
        let bias = bias.map(|bias| bias.of_experts(num_experts));
        let bias = bias.map_or(Some(None), |bias| self.weight(scope, bias, Dim::constant(1), out).map(Some))?;
        Some(Op::ExpertLinear { x, experts, weight, bias })
    }

    /// A logit for each head of the queries.
    fn sinks(&mut self, scope: &Scope, raw: Raw<'a>, (q, cache): (ValueId, CacheId)) -> Option<WeightId> {
        let tensor = self.tensor_name(scope, raw, WeightRole::Vector)?;
        let columns = self.columns_of(q)?;
        // Queries that are no whole heads are a mistake of their own.
        let heads = columns.exact_quotient(&self.graph.caches[cache].head).unwrap_or(columns);
        self.weight(scope, tensor, Dim::constant(1), heads)
    }

    fn route_bias(&mut self, scope: &Scope, raw: Raw<'a>, x: ValueId) -> Option<WeightId> {
        let (tensor, experts) = (self.tensor_name(scope, raw, WeightRole::Vector)?, self.columns_of(x)?);
        self.weight(scope, tensor, Dim::constant(1), experts)
    }

    fn groups(&mut self, form: GroupsForm<'a>) -> Option<Groups> {
        let (GroupsForm::Best { of, top } | GroupsForm::BestTwo { of, top }) = form;
        let (of, top) = (self.bound_dim(of), self.bound_dim(top));
        let (of, top) = (of?, top?);
        Some(match form {
            GroupsForm::Best { .. } => Groups::Best { of, top },
            GroupsForm::BestTwo { .. } => Groups::BestTwo { of, top },
        })
    }

    fn switch(&mut self, raw: Raw<'a>) -> Option<Switch> {
        match raw.0 {
            "true" => Some(Switch::On),
            "false" => Some(Switch::Off),
            text if text.starts_with('"') => self.param(raw).map(Switch::Setting),
            text => {
                let message = format!("`{text}` is neither yes nor no");
                let mistake = Diagnostic::new("T0102", self.reader.place(text), message);
                self.reader.report(mistake.help("write `true`, `false`, or the name of a setting in quotes"));
                None
            }
        }
    }

    fn function(&mut self, raw: Raw<'a>) -> Option<Function> {
        self.check_has_setting(raw)?;
        match self.reader.read(raw)? {
            FunctionForm::Identity => Some(Function::Identity),
            FunctionForm::Silu => Some(Function::Silu),
            FunctionForm::Gelu => Some(Function::Gelu),
            FunctionForm::GeluTanh => Some(Function::GeluTanh),
            FunctionForm::Relu => Some(Function::Relu),
            FunctionForm::ReluSquared => Some(Function::ReluSquared),
            FunctionForm::Sigmoid => Some(Function::Sigmoid),
            FunctionForm::Tanh => Some(Function::Tanh),
            FunctionForm::Swish(slope) => self.param(slope).map(Function::Swish),
            FunctionForm::Scale(by) => self.param(by).map(Function::Scale),
            FunctionForm::SoftCap(cap) => self.param(cap).map(Function::SoftCap),
            FunctionForm::Clamp(limit) => self.param(limit).map(Function::Clamp),
        }
    }

    /// A function stands with its setting if it has one, and alone if not. Of another name, more is said elsewhere.
    fn check_has_setting(&mut self, raw: Raw<'a>) -> Option<()> {
        let (name, has_setting) = raw.0.split_once('(').map_or((raw.0, false), |(name, _)| (name.trim_end(), true));
        let any = Some(ParamId::new(0));
        let (message, help) = if has_setting && Function::from_parts(name, None).is_some() {
            (format!("`{name}` has no setting"), format!("write `{name}` alone"))
        } else if !has_setting && Function::from_parts(name, any).is_some() {
            let help = format!("write `{name}(\"…\")` with the name of one of `params`");
            (format!("`{name}` stands without its setting"), help)
        } else {
            return Some(());
        };
        self.reader.report(Diagnostic::new("T0102", self.reader.place(raw.0), message).help(help));
        None
    }

    /// Columns of an expert's matrix: those of `x`, of which each expert of a row may have its own.
    fn inner_of_experts(&mut self, x: ValueId, experts: ValueId) -> Option<Dim> {
        let columns = self.columns_of(x)?;
        let top_k = self.columns_of(experts)?;
        Some(if top_k == Dim::constant(1) { columns } else { columns.exact_quotient(&top_k).unwrap_or(columns) })
    }

    fn scaling(&mut self, form: ScalingForm<'a>) -> Option<RopeScaling> {
        match form {
            ScalingForm::Linear { factor } => Some(RopeScaling::Linear { factor: self.param(factor)? }),
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
            ScalingForm::Yarn { factor, beta_fast, beta_slow, original_context, attention, truncate } => {
                let (factor, fast, slow) = (self.param(factor), self.param(beta_fast), self.param(beta_slow));
                let (context, attention) = (self.param(original_context), self.param(attention));
                let truncate = self.param(truncate);
                Some(RopeScaling::Yarn {
                    factor: factor?,
                    beta_fast: fast?,
                    beta_slow: slow?,
                    original_context: context?,
                    attention: attention?,
                    truncate: truncate?,
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

    fn repeat(
        &mut self,
        scope: &Scope,
        raw: Raw<'a>,
        (blocks, kinds): (Raw<'a>, Option<Raw<'a>>),
        times: Raw<'a>,
        with: Raw<'a>,
    ) -> Option<Op> {
        if scope.block.is_some() {
            let place = self.reader.place(raw.0);
            let mistake = Diagnostic::new("T0505", place, "a block repeats blocks");
            self.reader
                .report(mistake.help("`Repeat` stands in the main body; name several blocks there to alternate"));
        }
        let mut names: Vec<Raw<'a>> = self.reader.read(blocks)?;
        if names.is_empty() {
            let place = self.reader.place(blocks.0);
            self.reader
                .report(Diagnostic::new("T0507", place, "no block to repeat").help("name one or several blocks"));
        }
        let period = names.len();
        let kinds = kinds.map_or(Some(Kinds::default()), |kinds| self.kinds(kinds));
        names.extend(kinds.iter().flat_map(|kinds| &kinds.are).map(|(_, block)| *block));
        let found: Vec<_> = names.iter().map(|&name| self.block_by_name(name)).collect();
        let found: Option<Vec<_>> = found.into_iter().collect();
        let (times, with) = (self.bound_dim(times), self.passed(scope, with, found.as_deref().unwrap_or_default()));
        let found = found.filter(|found| !found.is_empty())?;
        let (times, with, kinds) = (times?, with?, kinds?);
        let (blocks, turns) = distinct(&found);
        let of_kind = kinds.are.into_iter().zip(&turns[period..]).map(|((kind, _), turn)| (kind, *turn));
        let pattern = Pattern { cycle: turns[..period].to_vec(), keys: kinds.keys, kinds: of_kind.collect() };
        self.do_alternate(&names, &found).then_some(Op::Repeat { blocks, pattern, times, with })
    }

    fn kinds(&mut self, raw: Raw<'a>) -> Option<Kinds<'a>> {
        let KindsForm { of, are } = self.reader.read(raw)?;
        let (text, expr) = self.expr(of)?;
        let entries: Entries<'a> = self.reader.read(are)?;
        if entries.0.is_empty() {
            let mistake = Diagnostic::new("T0507", self.reader.place(are.0), "no kind of layer has a block");
            self.reader.report(mistake.help("write the kinds that the config lists, each with its block"));
        }
        let are = self.kinds_and_blocks(entries);
        let choices = if let Expr::First(choices) = expr { choices } else { vec![expr] };
        let key = |choice: Expr| if let Expr::Config(key) = choice { Some(key) } else { None };
        let keys: Option<Vec<String>> = choices.into_iter().map(key).collect();
        if keys.is_none() {
            let message = format!("`{}` is no key of the config", text.value);
            let mistake = Diagnostic::new("T0510", self.reader.place(text.raw), message);
            self.reader.report(mistake.help("kinds of layers are listed by a key, such as `config.layer_types`"));
        }
        Some(Kinds { keys: keys?, are: are? })
    }

    fn kinds_and_blocks(&mut self, entries: Entries<'a>) -> Option<Vec<(Literal, Raw<'a>)>> {
        let mut are: Vec<(Literal, Raw<'a>)> = vec![];
        for (raw, block) in entries.0 {
            let kind = self.literal(raw)?;
            if are.iter().any(|(known, _)| *known == kind) {
                let message = format!("the kind {kind} is defined twice");
                let mistake = Diagnostic::new("T0201", self.reader.place(raw.0), message);
                self.reader.report(mistake.help("rename or remove one of the two"));
            }
            are.push((kind, block));
        }
        Some(are)
    }

    fn block_by_name(&mut self, raw: Raw<'a>) -> Option<BlockId> {
        let text = self.reader.text(raw)?;
        let found = self.graph.blocks.values().position(|block| block.name == text.value);
        if found.is_none() && !self.lost_blocks.contains(&text.value) {
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

/// What a graph says of the kinds of layers.
#[derive(Default)]
struct Kinds<'a> {
    keys: Vec<String>,
    are: Vec<(Literal, Raw<'a>)>,
}

/// The blocks each once, and the position among them of each one given.
fn distinct(found: &[BlockId]) -> (Vec<BlockId>, Vec<usize>) {
    let mut blocks: Vec<BlockId> = vec![];
    let turn = |block: &BlockId| match blocks.iter().position(|known| known == block) {
        Some(at) => at,
        None => {
            blocks.push(*block);
            blocks.len() - 1
        }
    };
    let turns = found.iter().map(turn).collect();
    (blocks, turns)
}
