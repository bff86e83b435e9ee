//! One step of a schedule as one call of the launch surface.

use std::cell::{Cell, RefCell};

use proc_macro2::{Literal, TokenStream};
use quote::{ToTokens, format_ident, quote};
use syn::Ident;
use trefoil_ir::dim::Dim;
use trefoil_ir::graph::{Graph, Range, SEQS};
use trefoil_ir::ids::{BufferId, CacheId, EventId, Id, ParamId, StreamId, ValueId, WeightId};
use trefoil_ir::op::{Function, Groups, Mask, Op, RowDomain, Score, Scoring, Switch};
use trefoil_ir::schedule::{Launch, Step};

use crate::launchable::home;
use crate::names::ident;
use crate::sizes::{locals, param, plain};
use crate::tables::Tables;

/// A plan's names for its streams and buffers.
pub(crate) struct PlanNames {
    pub(crate) streams: Vec<Ident>,
    pub(crate) buffers: Vec<Ident>,
}

/// Rows of a value, by the name that the function's calls know them by.
struct Region {
    value: ValueId,
    /// The rows, as text.
    rows: String,
    name: Ident,
    definition: TokenStream,
}

/// The body of one generated function: turns steps into calls and notes what the calls need in scope.
pub(crate) struct Body<'a> {
    graph: &'a Graph,
    tables: &'a Tables,
    names: &'a PlanNames,
    /// Whether the function is given a layer.
    in_layer: bool,
    /// Sizes that the calls read.
    sizes: RefCell<Vec<Dim>>,
    /// Regions that the calls read and write.
    regions: RefCell<Vec<Region>>,
    /// Whether they read the cuts of the dense batch.
    reads_cuts: Cell<bool>,
}

impl<'a> Body<'a> {
    /// An empty body of a function.
    pub(crate) fn new(graph: &'a Graph, tables: &'a Tables, names: &'a PlanNames, in_layer: bool) -> Self {
        let (sizes, regions) = (RefCell::default(), RefCell::default());
        Self { graph, tables, names, in_layer, sizes, regions, reads_cuts: Cell::new(false) }
    }

    /// The calls for a text, after what they need in scope: sizes, cuts and regions.
    pub(crate) fn of(self, steps: &[&Step]) -> TokenStream {
        let calls: Vec<_> = steps.iter().map(|step| self.step(step)).collect();
        let known = locals(self.graph, &*self.sizes.borrow(), &quote!(bound.dims));
        let num_cuts = Literal::usize_unsuffixed(self.graph.split.as_ref().map_or(2, |split| split.points.len() + 2));
        let cuts =
            self.reads_cuts.get().then(|| quote!(let cut: [u32; #num_cuts] = on.rows.cut(&POINTS, MULTIPLE_OF);));
        let regions = self.regions.borrow();
        let regions = regions.iter().map(|Region { name, definition, .. }| quote!(let #name = #definition;));
        let launches = steps.iter().any(|step| matches!(step, Step::Launch(_)));
        let device = launches.then(|| quote!(let run = on.device;));
        quote!(#known #cuts #(#regions)* #device #(#calls)*)
    }

    /// The call for a step.
    fn step(&self, step: &Step) -> TokenStream {
        match step {
            Step::Launch(launch) => self.launch(launch),
            Step::Record { stream, event } => self.mark(&format_ident!("record"), *stream, *event),
            Step::Wait { stream, event } => self.mark(&format_ident!("wait"), *stream, *event),
        }
    }

    fn mark(&self, what: &Ident, stream: StreamId, event: EventId) -> TokenStream {
        let (stream, event) = (self.stream(stream), Literal::usize_unsuffixed(event.index()));
        quote!(on.#what(#stream, #event);)
    }

    fn launch(&self, launch: &Launch) -> TokenStream {
        let site = self.site(launch);
        let (method, arguments) = self.call(launch);
        quote!(run.#method(#site, #arguments);)
    }

    fn site(&self, launch: &Launch) -> TokenStream {
        let (stream, node) = (self.stream(launch.stream), &launch.node);
        let nano = Literal::usize_unsuffixed(launch.nano);
        let layer = if self.in_layer { quote!(Some(layer)) } else { quote!(None) };
        let share = launch.share.map(|share| {
            let share = Literal::f32_unsuffixed(share);
            quote!(.with_share(#share))
        });
        quote!(on.site(#stream, #node, #nano, #layer) #share)
    }

    /// The device's method for an operator, and its arguments.
    fn call(&self, launch: &Launch) -> (Ident, TokenStream) {
        let x = |value: ValueId| self.read(launch, value);
        let out = |number: usize| ("out", self.write(launch, number));
        let weight = |id: WeightId| ("weight", self.weight(id));
        match launch.op {
            Op::Embed { ids, weight } => {
                call("embed", "Embed", [("ids", self.table(ids)), ("table", self.weight(weight)), out(0)])
            }
            Op::RmsNorm { x: from, weight: id, eps, ref group } => {
                let weight = ("weight", self.optional_weight(id));
                let fields = [("x", x(from)), weight, ("eps", self.setting(eps)), self.group(from, group), out(0)];
                call("rms_norm", "RmsNorm", fields)
            }
            Op::LayerNorm { x: from, weight: id, bias, eps, ref group } => {
                let (weight, bias) = (("weight", self.optional_weight(id)), ("bias", self.optional_weight(bias)));
                let eps = ("eps", self.setting(eps));
                call("layer_norm", "LayerNorm", [("x", x(from)), weight, bias, eps, self.group(from, group), out(0)])
            }
            Op::AddRmsNorm { a, b, weight: id, eps } => {
                let sum = ("sum", self.write(launch, 0));
                let fields = [("a", x(a)), ("b", x(b)), weight(id), ("eps", self.setting(eps)), sum, out(1)];
                call("add_rms_norm", "AddRmsNorm", fields)
            }
            Op::Linear { x: from, weight: id, bias } => {
                call("linear", "Linear", [("x", x(from)), weight(id), ("bias", self.optional_weight(bias)), out(0)])
            }
            Op::Rope { x: from, pos, ref head, .. } => {
                let (positions, table, head) = (self.table(pos), self.angles(&launch.op), self.size(head));
                let head = ("head", quote!(#head as u32));
                call("rope", "Rope", [("x", x(from)), ("positions", positions), ("table", table), head, out(0)])
            }
            Op::KvWrite { k, v, cache } => {
                call("kv_write", "KvWrite", [("k", x(k)), ("v", x(v)), ("cache", self.cache(cache))])
            }
            Op::DecodeAttention { q, cache, mask, score } => {
                let fields = [("q", x(q)), self.cached(cache), self.scores(cache, mask, score), out(0)];
                call("decode_attention", "Attention", fields)
            }
            Op::PrefillAttention { q, cache, mask, score } => {
                let fields = [("q", x(q)), self.cached(cache), self.scores(cache, mask, score), out(0)];
                call("prefill_attention", "Attention", fields)
            }
            Op::Join { a, b, ref heads } => {
                let heads = ("heads", self.narrow(heads));
                call("join", "Join", [("a", x(a)), ("b", x(b)), heads, out(0)])
            }
            Op::Add { a, b } => call("add", "Add", [("a", x(a)), ("b", x(b)), out(0)]),
            Op::GatedMul { gate, up, by, limit, shift } => {
                let operands = [("gate", x(gate)), ("up", x(up)), ("by", self.function(by))];
                let [gate, up, by] = operands;
                let (limit, shift) = (("limit", self.optional_setting(limit)), ("shift", self.optional_setting(shift)));
                call("gated_mul", "GatedMul", [gate, up, by, limit, shift, out(0)])
            }
            Op::Apply { x: from, by } => call("apply", "Apply", [("x", x(from)), ("by", self.function(by)), out(0)]),
            Op::Route { x: from, scoring, renormalize, bias, ref groups, .. } => {
                let (scoring, bias) = (("scoring", self::scoring(scoring)), ("bias", self.optional_weight(bias)));
                let renormalize = ("renormalize", self.switch(renormalize));
                let (experts, shares) = (("experts", self.write(launch, 0)), ("shares", self.write(launch, 1)));
                let groups = ("groups", self.groups(groups.as_ref()));
                call("route", "Route", [("x", x(from)), scoring, renormalize, bias, groups, experts, shares])
            }
            Op::ExpertLinear { x: from, experts, weight: id, bias } => {
                let bias = ("bias", self.optional_weight(bias));
                let fields = [("x", x(from)), ("experts", x(experts)), weight(id), bias, out(0)];
                call("expert_linear", "ExpertLinear", fields)
            }
            Op::Combine { x: from, shares } => {
                call("combine", "Combine", [("x", x(from)), ("shares", x(shares)), out(0)])
            }
            Op::Rows { x: from, at } => call("rows", "Rows", [("x", x(from)), ("at", self.table(at)), out(0)]),
            Op::AllReduce { x: from, .. } => call("all_reduce", "Collective", [("x", x(from)), out(0)]),
            Op::AllGather { x: from, .. } => call("all_gather", "Collective", [("x", x(from)), out(0)]),
            Op::Attention { .. } | Op::Repeat { .. } | Op::Columns { .. } => {
                (format_ident!("nothing"), impossible(&format!("no device launches {}", launch.op.name())))
            }
        }
    }

    fn optional_weight(&self, weight: Option<WeightId>) -> TokenStream {
        weight.map_or(quote!(None), |weight| {
            let weight = self.weight(weight);
            quote!(Some(#weight))
        })
    }

    /// The setting, or 0 for none.
    fn optional_setting(&self, setting: Option<ParamId>) -> TokenStream {
        setting.map_or(quote!(0.0), |setting| self.setting(setting))
    }

    fn switch(&self, switch: Switch) -> TokenStream {
        match switch {
            Switch::On => quote!(true),
            Switch::Off => quote!(false),
            Switch::Setting(setting) => {
                let param = param(self.graph, setting);
                quote!(bound.params[#param] != 0.0)
            }
        }
    }

    fn function(&self, function: Function) -> TokenStream {
        let (name, setting) = function.parts();
        let name = format_ident!("{name}");
        let setting = setting.map(|setting| {
            let setting = self.setting(setting);
            quote!((#setting))
        });
        quote!(launch::Function::#name #setting)
    }

    /// Width of what is normalised by itself: a group, or the whole rows of `x`.
    fn group(&self, x: ValueId, group: &Option<Dim>) -> (&'static str, TokenStream) {
        let whole = self.graph.values[x].ty.columns().cloned().unwrap_or_default();
        ("group", self.narrow(group.as_ref().unwrap_or(&whole)))
    }

    fn narrow(&self, size: &Dim) -> TokenStream {
        let size = self.size(size);
        if size.clone().into_iter().count() == 1 { quote!(#size as u32) } else { quote!((#size) as u32) }
    }

    fn groups(&self, groups: Option<&Groups>) -> TokenStream {
        groups.map_or(quote!(None), |groups| {
            let ((_, [(_, of), (_, top)]), best) = (groups.parts(), Literal::u64_unsuffixed(groups.counted()));
            let [of, top] = [of, top].map(|size| self.narrow(size));
            quote!(Some(launch::Groups { count: #of, top: #top, best: #best }))
        })
    }

    fn cached(&self, cache: CacheId) -> (&'static str, TokenStream) {
        ("cache", self.cache(cache))
    }

    /// Unless the graph says otherwise, scores of a head of width n are scaled by 1/√n (Vaswani et al. 2017, section
    /// 3.2.1).
    fn scores(&self, cache: CacheId, mask: Mask, score: Score) -> (&'static str, TokenStream) {
        let Mask::Causal = mask;
        let Score { scale, softcap, window, sinks, alibi } = score;
        let scale = scale.map_or_else(
            || {
                let head = self.size(&self.graph.caches[cache].head);
                let is_sum = head.clone().into_iter().count() > 1;
                if is_sum { quote!(1.0 / ((#head) as f32).sqrt()) } else { quote!(1.0 / (#head as f32).sqrt()) }
            },
            |scale| self.setting(scale),
        );
        if score == (Score { scale: score.scale, ..Score::default() }) {
            return ("scores", quote!(launch::Scores::plain(#scale)));
        }
        let (softcap, sinks) = (self.optional_setting(softcap), self.optional_weight(sinks));
        let window = window.map_or(quote!(0), |window| {
            let param = param(self.graph, window);
            quote!(bound.params[#param] as u32)
        });
        let fields = quote!(scale: #scale, softcap: #softcap, window: #window, sinks: #sinks, alibi: #alibi);
        ("scores", quote!(launch::Scores { #fields }))
    }

    fn read(&self, launch: &Launch, value: ValueId) -> TokenStream {
        let per_sequence = self.graph.values[value].ty.shape.first() == Some(&Dim::name(SEQS));
        let picks_from = matches!(launch.op, Op::Rows { x, .. } if x == value);
        let whole = self.graph.split.as_ref().map_or(launch.range, |split| split.whole());
        match (per_sequence, picks_from) {
            (true, _) => self.region(value, RowDomain::Seqs, whole),
            (false, true) => self.region(value, RowDomain::Tokens, whole),
            (false, false) => self.region(value, self.graph.rows_of(&launch.op), launch.range),
        }
    }

    fn write(&self, launch: &Launch, number: usize) -> TokenStream {
        match launch.outputs.get(number) {
            Some(value) => self.region(*value, self.graph.rows_of(&launch.op), launch.range),
            None => impossible(&format!("`{}` gives too few values", launch.node)),
        }
    }

    /// The name of some rows of a value.
    fn region(&self, value: ValueId, domain: RowDomain, range: Range) -> TokenStream {
        let Some(home) = home(self.graph, value) else {
            return impossible(&format!("`{}` is in no buffer", self.graph.values[value].name));
        };
        let rows = self.rows(domain, range);
        let text = rows.to_string();
        let known = |region: &&Region| region.value == value && region.rows == text;
        if let Some(region) = self.regions.borrow().iter().find(known) {
            return region.name.to_token_stream();
        }
        let (buffer, column, columns) = (self.buffer(home.buffer), self.size(&home.column), self.size(&home.columns));
        let definition = quote!(on.region(#buffer, #rows, #column, #columns));
        let name = self.free_name(&format!("{}{}", self.graph.values[value].name, self.suffix(domain, range)));
        self.regions.borrow_mut().push(Region { value, rows: text, name: name.clone(), definition });
        name.to_token_stream()
    }

    /// A name that neither a size nor another region has.
    fn free_name(&self, wished: &str) -> Ident {
        let sizes = self.graph.dims.values().map(|dim| ident(&dim.name));
        let regions = self.regions.borrow();
        let taken: Vec<_> = sizes.chain(regions.iter().map(|region| region.name.clone())).collect();
        let numbered = (2..).map(|number| ident(&format!("{wished}_{number}")));
        let mut choices = std::iter::once(ident(wished)).chain(numbered);
        choices.find(|choice| !taken.contains(choice)).unwrap_or_else(|| ident(wished))
    }

    /// What tells rows of a value apart: `_0`, `_0_to_2`, `_decode_1`; nothing for all of them.
    fn suffix(&self, domain: RowDomain, range: Range) -> String {
        let kind = match domain {
            RowDomain::DecodeTokens => "_decode",
            RowDomain::PrefillTokens => "_prefill",
            RowDomain::Tokens | RowDomain::Seqs => "",
        };
        let (from, to) = (range.from.index(), range.to.index());
        if self.is_whole(range) || domain == RowDomain::Seqs {
            kind.to_owned()
        } else if to == from + 1 {
            format!("{kind}_{from}")
        } else {
            format!("{kind}_{from}_to_{to}")
        }
    }

    fn is_whole(&self, range: Range) -> bool {
        self.graph.split.as_ref().is_none_or(|split| split.whole() == range)
    }

    fn rows(&self, domain: RowDomain, range: Range) -> TokenStream {
        match (domain, self.is_whole(range)) {
            (RowDomain::Seqs, _) => quote!(0..on.rows.seqs),
            (RowDomain::Tokens, true) => quote!(0..on.rows.tokens),
            (RowDomain::DecodeTokens, true) => quote!(0..on.rows.decode),
            (RowDomain::PrefillTokens, true) => quote!(on.rows.decode..on.rows.tokens),
            (RowDomain::Tokens, false) => self.cut(range),
            (RowDomain::DecodeTokens, false) => {
                let rows = self.cut(range);
                quote!(on.rows.decode_rows(#rows))
            }
            (RowDomain::PrefillTokens, false) => {
                let rows = self.cut(range);
                quote!(on.rows.prefill_rows(#rows))
            }
        }
    }

    fn cut(&self, range: Range) -> TokenStream {
        self.reads_cuts.set(true);
        let (from, to) = (range.from.index(), range.to.index());
        let (from, to) = (Literal::usize_unsuffixed(from), Literal::usize_unsuffixed(to));
        quote!(cut[#from]..cut[#to])
    }

    fn size(&self, dim: &Dim) -> TokenStream {
        self.sizes.borrow_mut().push(dim.clone());
        plain(dim)
    }

    fn setting(&self, id: ParamId) -> TokenStream {
        let param = param(self.graph, id);
        quote!(bound.params[#param] as f32)
    }

    fn stream(&self, id: StreamId) -> TokenStream {
        let name = &self.names.streams[id.index()];
        quote!(stream::#name)
    }

    fn buffer(&self, id: BufferId) -> TokenStream {
        let name = &self.names.buffers[id.index()];
        quote!(buffer::#name)
    }

    fn weight(&self, id: WeightId) -> TokenStream {
        let Some(name) = self.tables.weight(self.graph, id) else { return impossible("a weight is in no table") };
        if self.in_layer && self.graph.weights[id].block.is_some() {
            quote!(launch::WeightRef::of_layer(weight::#name, layer))
        } else {
            quote!(launch::WeightRef::of_model(weight::#name))
        }
    }

    fn cache(&self, id: CacheId) -> TokenStream {
        match self.tables.cache(self.graph, id) {
            Some(name) if self.in_layer => quote!(launch::CacheRef::of_layer(cache::#name, layer)),
            Some(_) | None => impossible("a cache is used outside its layers"),
        }
    }

    fn angles(&self, op: &Op) -> TokenStream {
        let Some(name) = self.tables.angles(op) else { return impossible("a rotation's angles are in no table") };
        quote!(launch::RopeRef(angles::#name))
    }

    /// The step's table that an input stands for.
    fn table(&self, input: ValueId) -> TokenStream {
        match self.graph.values[input].name.as_str() {
            "ids" => quote!(launch::StepTable::Ids),
            "pos" => quote!(launch::StepTable::Positions),
            "last" => quote!(launch::StepTable::Last),
            other => impossible(&format!("`{other}` is no table of a step")),
        }
    }
}

/// A method of the device, and the structure of its arguments.
fn call<const N: usize>(method: &str, arguments: &str, fields: [(&str, TokenStream); N]) -> (Ident, TokenStream) {
    let arguments = format_ident!("{arguments}");
    let fields = fields.into_iter().map(|(name, value)| {
        let name = format_ident!("{name}");
        quote!(#name: #value)
    });
    (format_ident!("{method}"), quote!(launch::#arguments { #(#fields),* }))
}

fn scoring(scoring: Scoring) -> TokenStream {
    match scoring {
        Scoring::Softmax => quote!(launch::Scoring::Softmax),
        Scoring::Sigmoid => quote!(launch::Scoring::Sigmoid),
    }
}

/// Where a rule of the verifier was broken after all, the generated code does not compile, and says why.
fn impossible(why: &str) -> TokenStream {
    quote!(compile_error!(#why))
}
