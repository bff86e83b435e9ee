//! One step of a schedule as one call of the launch surface.

use std::cell::{Cell, RefCell};

use proc_macro2::{Literal, TokenStream};
use quote::{ToTokens, format_ident, quote};
use syn::Ident;
use trefoil_ir::dim::Dim;
use trefoil_ir::graph::{Graph, Range, SEQS};
use trefoil_ir::ids::{BufferId, CacheId, EventId, Id, ParamId, StreamId, ValueId, WeightId};
use trefoil_ir::op::{Activation, Mask, Op, RowDomain};
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
        quote!(on.site(#stream, #node, #nano, #layer))
    }

    /// The device's method for an operator, and its arguments.
    fn call(&self, launch: &Launch) -> (Ident, TokenStream) {
        let read = |value: ValueId| self.read(launch, value);
        let out = |number: usize| self.write(launch, number);
        let (method, arguments) = match launch.op {
            Op::Embed { ids, weight } => {
                let (ids, table, out) = (self.table(ids), self.weight(weight), out(0));
                ("embed", quote!(launch::Embed { ids: #ids, table: #table, out: #out }))
            }
            Op::RmsNorm { x, weight, eps } => {
                let (x, weight, eps, out) = (read(x), self.weight(weight), self.param(eps), out(0));
                ("rms_norm", quote!(launch::RmsNorm { x: #x, weight: #weight, eps: #eps as f32, out: #out }))
            }
            Op::AddRmsNorm { a, b, weight, eps } => {
                let (a, b, weight, eps) = (read(a), read(b), self.weight(weight), self.param(eps));
                let (sum, out) = (out(0), out(1));
                let arguments = quote!(a: #a, b: #b, weight: #weight, eps: #eps as f32, sum: #sum, out: #out);
                ("add_rms_norm", quote!(launch::AddRmsNorm { #arguments }))
            }
            Op::Linear { x, weight, bias } => {
                let (x, weight, out) = (read(x), self.weight(weight), out(0));
                let bias = bias.map_or(quote!(None), |bias| {
                    let bias = self.weight(bias);
                    quote!(Some(#bias))
                });
                ("linear", quote!(launch::Linear { x: #x, weight: #weight, bias: #bias, out: #out }))
            }
            Op::Rope { x, pos, ref head, .. } => {
                let (x, positions, head, out) = (read(x), self.table(pos), self.size(head), out(0));
                let table = self.angles(&launch.op);
                let arguments = quote!(x: #x, positions: #positions, table: #table, head: #head as u32, out: #out);
                ("rope", quote!(launch::Rope { #arguments }))
            }
            Op::KvWrite { k, v, cache } => {
                let (k, v, cache) = (read(k), read(v), self.cache(cache));
                ("kv_write", quote!(launch::KvWrite { k: #k, v: #v, cache: #cache }))
            }
            Op::DecodeAttention { q, cache, mask: Mask::Causal } => {
                ("decode_attention", self.attention(launch, q, cache))
            }
            Op::PrefillAttention { q, cache, mask: Mask::Causal } => {
                ("prefill_attention", self.attention(launch, q, cache))
            }
            Op::Add { a, b } => {
                let (a, b, out) = (read(a), read(b), out(0));
                ("add", quote!(launch::Add { a: #a, b: #b, out: #out }))
            }
            Op::GatedMul { gate, up, by } => {
                let (gate, up, by, out) = (read(gate), read(up), activation(by), out(0));
                ("gated_mul", quote!(launch::GatedMul { gate: #gate, up: #up, by: #by, out: #out }))
            }
            Op::Rows { x, at } => {
                let (x, at, out) = (read(x), self.table(at), out(0));
                ("rows", quote!(launch::Rows { x: #x, at: #at, out: #out }))
            }
            Op::Attention { .. } | Op::Repeat { .. } | Op::Columns { .. } => {
                ("nothing", impossible(&format!("no device launches {}", launch.op.name())))
            }
        };
        (format_ident!("{method}"), arguments)
    }

    fn attention(&self, launch: &Launch, q: ValueId, cache: CacheId) -> TokenStream {
        let (q, out, head) = (self.read(launch, q), self.write(launch, 0), self.size(&self.graph.caches[cache].head));
        let cache = self.cache(cache);
        quote!(launch::Attention { q: #q, cache: #cache, scale: 1.0 / (#head as f32).sqrt(), out: #out })
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

    fn param(&self, id: ParamId) -> TokenStream {
        let param = param(self.graph, id);
        quote!(bound.params[#param])
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

fn activation(by: Activation) -> TokenStream {
    match by {
        Activation::Silu => quote!(launch::Activation::Silu),
        Activation::Gelu => quote!(launch::Activation::Gelu),
        Activation::GeluTanh => quote!(launch::Activation::GeluTanh),
    }
}

/// Where a rule of the verifier was broken after all, the generated code does not compile, and says why.
fn impossible(why: &str) -> TokenStream {
    quote!(compile_error!(#why))
}
