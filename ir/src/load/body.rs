//! Bodies: inputs, blocks and the main body, and the names that each of them sees.

use std::collections::{BTreeMap, BTreeSet};

use super::Loader;
use super::form::{BlockForm, CacheForm, OpForm, TensorForm, VariantForm};
use super::mistakes::suggest;
use super::source::{Raw, Text};
use super::variant::is_variant;
use crate::diag::{Diagnostic, Place};
use crate::dim::Dim;
use crate::graph::{Block, Cache, Node, SEQS, TOKENS, Value};
use crate::ids::{BlockId, CacheId, Id, ValueId};
use crate::infer::{self, TypeError};
use crate::op::Op;
use crate::types::{Element, TensorType};

/// A block with its name and its nodes' names read.
#[derive(Clone)]
pub(super) struct NamedBlock<'a> {
    pub(super) name: Text<'a>,
    pub(super) form: BlockForm<'a>,
    pub(super) takes: Vec<(Text<'a>, Raw<'a>)>,
    pub(super) nodes: Vec<(Text<'a>, Raw<'a>)>,
    /// Of a variant: sizes and settings, and what stands in their place.
    pub(super) replaces: Vec<(Text<'a>, Text<'a>)>,
}

/// What a body can name.
#[derive(Default)]
pub(super) struct Scope {
    /// `None` for the main body.
    pub(super) block: Option<BlockId>,
    /// What the names of its weights begin with.
    pub(super) weights: String,
    /// Its values so far, and the inputs.
    pub(super) values: BTreeMap<String, ValueId>,
    /// Its caches.
    pub(super) caches: BTreeMap<String, CacheId>,
    /// Names that are defined somewhere in it.
    own: BTreeSet<String>,
    /// Names that other bodies define, with those bodies.
    others: BTreeMap<String, String>,
}

impl Scope {
    pub(super) fn main(
        inputs: &BTreeMap<String, ValueId>,
        nodes: &[(Text<'_>, Raw<'_>)],
        blocks: &[NamedBlock<'_>],
    ) -> Self {
        let others = blocks.iter().flat_map(|block| {
            let names = block.takes.iter().chain(&block.nodes);
            names.map(|(name, _)| (name.value.clone(), format!("the block `{}`", block.name.value)))
        });
        let own = nodes.iter().map(|(name, _)| name.value.clone()).collect();
        Self { values: inputs.clone(), own, others: others.collect(), ..Self::default() }
    }

    fn of_block(block: BlockId, form: &NamedBlock<'_>, inputs: &BTreeMap<String, ValueId>, main: &Scope) -> Self {
        let others = main
            .others
            .clone()
            .into_iter()
            .chain(main.own.iter().map(|name| (name.clone(), "the main body".to_owned())));
        let own = form.nodes.iter().map(|(name, _)| name.value.clone()).collect();
        Self { block: Some(block), values: inputs.clone(), own, others: others.collect(), ..Self::default() }
    }
}

impl<'a> Loader<'a> {
    pub(super) fn inputs(&mut self, inputs: Raw<'a>) -> BTreeMap<String, ValueId> {
        let mut scope = Scope::default();
        for (name, raw) in self.reader.entries(inputs) {
            let rows = match name.value.as_str() {
                "ids" | "pos" => TOKENS,
                "last" => SEQS,
                _ => {
                    self.report_input(&name);
                    continue;
                }
            };
            let place = self.reader.place(name.raw);
            let expected = TensorType { element: Element::I32, shape: vec![Dim::name(rows)] };
            if let Some(ty) = self.tensor(raw)
                && ty != expected
            {
                let message = format!("`{}` has one number per row of {rows}", name.value);
                let mistake = Diagnostic::new("T0306", self.reader.place(raw.0), message);
                self.reader.report(mistake.help(format!("write `Tensor(i32, [\"{rows}\"])`")));
            }
            if let Some(input) = self.define(&mut scope, &name, Some(expected), place) {
                self.graph.inputs.push(input);
            }
        }
        scope.values
    }

    fn report_input(&mut self, name: &Text<'a>) {
        let message = format!("a step has no input `{}`", name.value);
        let mistake = Diagnostic::new("T0208", self.reader.place(name.raw), message);
        let help = suggest(&name.value, ["ids", "pos", "last"]);
        self.reader.report(mistake.help(format!("{help} (`ids` and `pos` are per token, `last` is per sequence)")));
    }

    pub(super) fn block_forms(&mut self, blocks: Raw<'a>) -> Vec<NamedBlock<'a>> {
        let mut forms: Vec<NamedBlock<'a>> = Vec::new();
        for (name, raw) in self.reader.entries(blocks) {
            if forms.iter().any(|known| known.name.value == name.value) {
                self.report_twice("block", &name);
            } else if self.accept_name(&name) {
                let own = name.value.clone();
                match self.block_form(name, raw, &forms) {
                    Some(form) => forms.push(form),
                    None => drop(self.lost_blocks.insert(own)),
                }
            }
        }
        forms
    }

    fn block_form(&mut self, name: Text<'a>, raw: Raw<'a>, known: &[NamedBlock<'a>]) -> Option<NamedBlock<'a>> {
        if is_variant(raw) {
            let form = self.reader.read::<VariantForm<'a>>(raw)?;
            return self.variant(name, &form, known);
        }
        let form = self.reader.read::<BlockForm<'a>>(raw)?;
        let (takes, nodes) = (self.reader.entries(form.takes), self.reader.entries(form.nodes));
        Some(NamedBlock { name, form, takes, nodes, replaces: vec![] })
    }

    pub(super) fn block(&mut self, block: &NamedBlock<'a>, inputs: &BTreeMap<String, ValueId>, main: &Scope) {
        let id = BlockId::new(self.graph.blocks.len());
        let mut scope = Scope::of_block(id, block, inputs, main);
        scope.weights = self.block_weights(block.form.weights);
        let place = self.reader.place(block.name.raw);
        let takes = self.takes(&mut scope, block);
        let weights = scope.weights.clone();
        self.graph.blocks.push(Block {
            name: block.name.value.clone(),
            weights,
            takes,
            nodes: vec![],
            gives: takes,
            place,
        });
        if let Some(keeps) = block.form.keeps {
            self.caches(&mut scope, keeps);
        }
        let nodes = self.nodes(&mut scope, &block.nodes);
        let gives = self.value(&scope, block.form.gives);
        let entry = &mut self.graph.blocks[id];
        entry.nodes = nodes;
        entry.gives = gives.unwrap_or(takes);
        if let Some(gives) = gives {
            self.check_carried(block.form.gives, takes, gives);
        }
    }

    fn takes(&mut self, scope: &mut Scope, block: &NamedBlock<'a>) -> ValueId {
        if block.takes.len() != 1 {
            let message = format!("the block `{}` takes {} values", block.name.value, block.takes.len());
            let mistake = Diagnostic::new("T0501", self.reader.place(block.form.takes.0), message);
            self.reader.report(mistake.help("a layer takes exactly one value from the layer before"));
        }
        let mut first = None;
        for (name, raw) in &block.takes {
            let (ty, place) = (self.tensor(*raw), self.reader.place(name.raw));
            first = first.or(self.define(scope, name, ty, place));
        }
        first.unwrap_or_else(|| self.untyped_value(scope.block, String::new(), self.reader.place(block.name.raw)))
    }

    fn caches(&mut self, scope: &mut Scope, keeps: Raw<'a>) {
        for (name, raw) in self.reader.entries(keeps) {
            if scope.caches.contains_key(&name.value) {
                self.report_twice("cache", &name);
            } else if self.accept_name(&name)
                && let (Some(block), Some(form)) = (scope.block, self.reader.read::<CacheForm<'a>>(raw))
            {
                let (kv_heads, head) = (self.bound_dim(form.heads), self.bound_dim(form.head));
                let (kv_heads, head) = (kv_heads.unwrap_or_default(), head.unwrap_or_default());
                let value = form.value.and_then(|value| self.bound_dim(value));
                let (name, place) = (name.value, self.reader.place(name.raw));
                let cache = Cache { name: name.clone(), block, kv_heads, head, value, place };
                scope.caches.insert(name, self.graph.caches.push(cache));
            }
        }
    }

    pub(super) fn main(&mut self, mut scope: Scope, nodes: Vec<(Text<'a>, Raw<'a>)>, gives: Raw<'a>) {
        self.graph.nodes = self.nodes(&mut scope, &nodes);
        if let Some(value) = self.value(&scope, gives) {
            self.graph.gives = value;
            self.check_given(gives, value);
        }
    }

    fn nodes(&mut self, scope: &mut Scope, nodes: &[(Text<'a>, Raw<'a>)]) -> Vec<Node> {
        let mut built = Vec::new();
        for (name, raw) in nodes {
            let place = self.reader.place(name.raw);
            let form = self.reader.read::<OpForm<'a>>(*raw);
            let parts = form.as_ref().map_or(&[][..], OpForm::parts);
            let op = form.and_then(|form| self.op(scope, *raw, form));
            let types = op.as_ref().and_then(|op| self.output_types(*raw, op));
            let outputs = self.define_outputs(scope, name, parts, types, place);
            if let (Some(op), Some(outputs)) = (op, outputs) {
                let name = name.value.clone();
                built.push(Node { name, op, outputs, range: None, stream: None, share: None, place });
            }
        }
        built
    }

    fn output_types(&mut self, raw: Raw<'a>, op: &Op) -> Option<Vec<TensorType>> {
        if self.reads_untyped(op) {
            return None;
        }
        match infer::outputs(&self.graph, op) {
            Ok(types) => Some(types),
            Err(errors) => {
                for error in errors {
                    let place = self.reader.field_place(raw, error.field());
                    let mistake = Diagnostic::new(code_of(&error), place, error.to_string());
                    self.reader.report(mistake.help(help_for(&error)));
                }
                None
            }
        }
    }

    fn reads_untyped(&self, op: &Op) -> bool {
        let blocks = if let Op::Repeat { blocks, .. } = op { blocks.as_slice() } else { &[] };
        let taken = blocks.iter().map(|&block| self.graph.blocks[block].takes);
        let mut read = op.operands().into_iter().map(|(_, operand)| operand).chain(taken);
        read.any(|value| self.untyped.contains(&value))
    }

    /// Gives a value its name in the scope. A name that is taken is a mistake.
    fn define(&mut self, scope: &mut Scope, name: &Text<'a>, ty: Option<TensorType>, place: Place) -> Option<ValueId> {
        if scope.values.contains_key(&name.value) {
            self.report_twice("value", name);
            return None;
        }
        let is_name = self.accept_name(name);
        let value = self.enter(scope, name.value.clone(), ty, place);
        is_name.then_some(value)
    }

    /// Gives what a node gives its names: its own, or one for each of the parts.
    fn define_outputs(
        &mut self,
        scope: &mut Scope,
        name: &Text<'a>,
        parts: &[&str],
        types: Option<Vec<TensorType>>,
        place: Place,
    ) -> Option<Vec<ValueId>> {
        let mut types = types.into_iter().flatten();
        if parts.is_empty() {
            return self.define(scope, name, types.next(), place).map(|value| vec![value]);
        }
        let names: Vec<String> = parts.iter().map(|part| format!("{}.{part}", name.value)).collect();
        if names.iter().any(|part| scope.values.contains_key(part)) || scope.values.contains_key(&name.value) {
            self.report_twice("value", name);
            return None;
        }
        let is_name = self.accept_name(name);
        let values = names.into_iter().map(|part| self.enter(scope, part, types.next(), place)).collect();
        is_name.then_some(values)
    }

    fn enter(&mut self, scope: &mut Scope, name: String, ty: Option<TensorType>, place: Place) -> ValueId {
        let value = match ty {
            Some(ty) => self.graph.values.push(Value { name: name.clone(), block: scope.block, ty, place }),
            None => self.untyped_value(scope.block, name.clone(), place),
        };
        scope.values.insert(name, value);
        value
    }

    fn untyped_value(&mut self, block: Option<BlockId>, name: String, place: Place) -> ValueId {
        let value = self.graph.values.push(Value { name, block, ty: TensorType::model([]), place });
        self.untyped.insert(value);
        value
    }

    fn tensor(&mut self, raw: Raw<'a>) -> Option<TensorType> {
        let TensorForm(element, sizes) = self.reader.read(raw)?;
        let shape: Vec<_> = sizes.into_iter().map(|size| self.dim(size)).collect();
        Some(TensorType { element: element.into(), shape: shape.into_iter().collect::<Option<_>>()? })
    }

    /// A value by name.
    pub(super) fn value(&mut self, scope: &Scope, raw: Raw<'a>) -> Option<ValueId> {
        let text = self.reader.text(raw)?;
        let found = scope.values.get(&text.value).copied();
        if found.is_none() {
            let place = self.reader.place(text.raw);
            let mistake = unknown_value(scope, &text.value, place);
            self.reader.report(mistake);
        }
        found
    }
}

fn unknown_value(scope: &Scope, name: &str, place: Place) -> Diagnostic {
    let parts: Vec<_> =
        scope.values.keys().filter(|own| own.split_once('.').is_some_and(|own| own.0 == name)).collect();
    if let [first, second] = parts[..] {
        Diagnostic::new("T0203", place, format!("`{name}` gives two values"))
            .help(format!("say which one: `{first}` or `{second}`"))
    } else if scope.own.contains(name) {
        Diagnostic::new("T0204", place, format!("`{name}` is read before it is defined"))
            .help("nodes stand in the order in which they run")
    } else if let Some(body) = scope.others.get(name) {
        let help = if scope.block.is_some() {
            "a block reads what it takes, its own values and the inputs of the step"
        } else {
            "the main body reads what a `Repeat` gives, under the name of the `Repeat`"
        };
        Diagnostic::new("T0205", place, format!("`{name}` is a value of {body}, out of reach here")).help(help)
    } else {
        Diagnostic::new("T0203", place, format!("there is no value `{name}`"))
            .help(suggest(name, scope.values.keys().map(String::as_str)))
    }
}

fn code_of(error: &TypeError) -> &'static str {
    match error {
        TypeError::Element { .. } => "T0302",
        TypeError::Rank { .. }
        | TypeError::Shape { .. }
        | TypeError::Rotary { .. }
        | TypeError::Window { .. }
        | TypeError::Role { .. } => "T0301",
        TypeError::Heads { .. }
        | TypeError::Parts { .. }
        | TypeError::TopGroups { .. }
        | TypeError::Shares { .. }
        | TypeError::Groups { .. } => "T0303",
    }
}

fn help_for(error: &TypeError) -> &'static str {
    match error {
        TypeError::Element { .. } => {
            "activations are `model`; ids, positions and numbers of rows and experts are `i32`"
        }
        TypeError::Rank { .. } => {
            "activations and a `Route`'s choices have rows and columns; ids, positions and row numbers have rows only"
        }
        TypeError::Shape { .. } | TypeError::Window { .. } | TypeError::Role { .. } => {
            "sizes are compared as symbols: two that are always equal need the same expression"
        }
        TypeError::Shares { .. } => "combine what an `ExpertLinear` gave by the shares of the same `Route`",
        TypeError::Rotary { .. } => {
            "give the width that turns, at most the head's; without `rotary` all of a head turns"
        }
        TypeError::Heads { .. } => "write the width as a product with the head's, such as `heads * head`",
        TypeError::Parts { .. } => "write the width as a product with the heads, such as `heads * head`",
        TypeError::TopGroups { .. } => "`of` is how many groups there are, `top` how many are chosen from",
        TypeError::Groups { .. } => "write the width as a product with the group's, such as `heads * head` for `head`",
    }
}
