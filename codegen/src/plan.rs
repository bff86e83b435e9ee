//! The generated module of one plan: its streams, cuts and buffers, and its launch functions.

use proc_macro2::{Literal, TokenStream};
use quote::{format_ident, quote};
use syn::Ident;
use trefoil_ir::dim::Dim;
use trefoil_ir::graph::{Graph, Point, Split};
use trefoil_ir::ids::{BlockId, BufferId, Id, ValueId};
use trefoil_ir::schedule::{Buffer, BufferRows, Group, Schedule, Step, Stream, Streams};
use trefoil_passes::plan::Suits;

use crate::compile::PlannedGraph;
use crate::launch::{Body, PlanNames};
use crate::launchable::{home, result_stream};
use crate::names::{constant, distinct, ident, parameter, plan_module};
use crate::sizes::{locals, plain};
use crate::tables::Tables;
use crate::text::{Layers, Parts, launches};

/// The module of a plan; nothing for a graph without a schedule, which [`crate::compile`] never gives.
pub(crate) fn module(planned: &PlannedGraph, tables: &Tables) -> TokenStream {
    let graph = &planned.graph;
    let (Some(schedule), Some(streams), Some(split)) = (&graph.schedule, &graph.streams, &graph.split) else {
        return TokenStream::new();
    };
    let names = names(graph, schedule, streams);
    let name = plan_module(&planned.plan.name);
    let doc = format!(" Plan `{}`: {}.", planned.plan.name, summary(schedule, streams, split));
    let (stream_numbers, buffer_numbers) = (stream_numbers(streams, &names), buffer_numbers(graph, schedule, &names));
    let cuts = cuts(split);
    let table = table(planned, schedule, streams, &names);
    let buffers = buffers(graph, schedule);
    let functions = functions(&FunctionsOf { graph, tables, names: &names }, &Parts::of(schedule));
    quote! {
        #[doc = #doc]
        pub mod #name {
            use super::*;
            #stream_numbers
            #buffer_numbers
            #cuts
            #table
            #buffers
            #functions
        }
    }
}

fn summary(schedule: &Schedule, streams: &Streams, split: &Split) -> String {
    let counted = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    let counts = [
        counted(split.points.len(), "inner cut"),
        counted(streams.len(), "stream"),
        counted(schedule.num_events, "event"),
        counted(schedule.buffers.len(), "buffer"),
    ];
    counts.join(", ")
}

fn names(graph: &Graph, schedule: &Schedule, streams: &Streams) -> PlanNames {
    let streams = distinct(streams.values().map(|stream| stream.name.clone()));
    let buffers = schedule.buffers.ids().map(|buffer| tenants(graph, buffer).remove(0));
    let constants = |names: Vec<String>| names.iter().map(|name| constant(name)).collect();
    PlanNames { streams: constants(streams), buffers: constants(distinct(buffers)) }
}

/// The names of the values that live in a buffer: what layers take first, and then in the order in which launches give
/// them; the buffer's own number where nothing does.
fn tenants(graph: &Graph, buffer: BufferId) -> Vec<String> {
    let taken = graph.blocks.values().map(|block| block.takes);
    let given = launches(graph).flat_map(|launch| launch.outputs.iter().copied());
    let lives_here = |value: &ValueId| home(graph, *value).is_some_and(|home| home.buffer == buffer);
    let mut names = vec![];
    for value in taken.chain(given).filter(lives_here) {
        let name = &graph.values[value].name;
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    if names.is_empty() { vec![buffer.to_string()] } else { names }
}

fn stream_numbers(streams: &Streams, names: &PlanNames) -> TokenStream {
    let numbers = streams.iter().zip(&names.streams).map(|((id, stream), name)| {
        let (doc, number) = (format!(" `{}`.", stream.name), Literal::usize_unsuffixed(id.index()));
        quote!(#[doc = #doc] pub const #name: usize = #number;)
    });
    quote! {
        /// Numbers of the plan's streams.
        pub mod stream {
            #(#numbers)*
        }
    }
}

fn buffer_numbers(graph: &Graph, schedule: &Schedule, names: &PlanNames) -> TokenStream {
    let numbers = schedule.buffers.ids().zip(&names.buffers).map(|(id, name)| {
        let (doc, number) =
            (format!(" Holds `{}`.", tenants(graph, id).join("`, `")), Literal::usize_unsuffixed(id.index()));
        quote!(#[doc = #doc] pub const #name: usize = #number;)
    });
    quote! {
        /// Numbers of the plan's buffers, each named after the first value that lives in it.
        pub mod buffer {
            #(#numbers)*
        }
    }
}

fn cuts(split: &Split) -> TokenStream {
    let points = split.points.iter().map(|point| match *point {
        Point::Share(share) => {
            let share = Literal::f32_unsuffixed(share);
            quote!(launch::Point::Share(#share))
        }
        Point::Tokens(tokens) => {
            let tokens = Literal::u32_unsuffixed(tokens);
            quote!(launch::Point::Tokens(#tokens))
        }
        Point::DecodeShare(share) => {
            let share = Literal::f32_unsuffixed(share);
            quote!(launch::Point::DecodeShare(#share))
        }
    });
    let (number, multiple_of) =
        (Literal::usize_unsuffixed(split.points.len()), Literal::u32_unsuffixed(split.multiple_of));
    quote! {
        /// Inner cuts of the dense batch.
        pub const POINTS: [launch::Point; #number] = [#(#points),*];
        /// Inner cuts are rounded down to a multiple of this many rows.
        pub const MULTIPLE_OF: u32 = #multiple_of;
    }
}

fn table(planned: &PlannedGraph, schedule: &Schedule, streams: &Streams, names: &PlanNames) -> TokenStream {
    let (name, suits) = (&planned.plan.name, planned.plan.suits);
    let suits = suits_of(suits);
    let device = planned.plan.device.as_ref().map_or(quote!(None), |device| quote!(Some(#device)));
    let streams = streams.values().map(stream_spec);
    let num_events = Literal::usize_unsuffixed(schedule.num_events);
    let graph = &planned.graph;
    let buffer = home(graph, graph.gives).map(|home| &names.buffers[home.buffer.index()]);
    let stream = result_stream(graph).map(|stream| &names.streams[stream.index()]);
    quote! {
        /// The plan's tables and functions.
        pub const fn plan<D: launch::Device>() -> model::CompiledPlan<D> {
            model::CompiledPlan {
                name: #name,
                suits: #suits,
                device: #device,
                streams: &[#(#streams),*],
                num_events: #num_events,
                points: &POINTS,
                multiple_of: MULTIPLE_OF,
                buffers,
                logits: (buffer::#buffer, stream::#stream),
                embed,
                layers,
                head,
            }
        }
    }
}

fn suits_of(suits: Suits) -> TokenStream {
    let Suits { min_tokens, min_decode, max_tokens, max_decode } = suits;
    let (min_tokens, min_decode) = (Literal::u32_unsuffixed(min_tokens), Literal::u32_unsuffixed(min_decode));
    let most = |most: Option<u32>| {
        let most = most.map(Literal::u32_unsuffixed);
        most.map_or(quote!(None), |most| quote!(Some(#most)))
    };
    let (max_tokens, max_decode) = (most(max_tokens), most(max_decode));
    quote! {
        model::Suits {
            min_tokens: #min_tokens,
            min_decode: #min_decode,
            max_tokens: #max_tokens,
            max_decode: #max_decode,
        }
    }
}

fn stream_spec(stream: &Stream) -> TokenStream {
    let (name, share) = (&stream.name, Literal::f32_unsuffixed(stream.share));
    let group = match stream.group {
        Group::Compute => quote!(launch::StreamGroup::Compute),
        Group::Memory => quote!(launch::StreamGroup::Memory),
        Group::Network => quote!(launch::StreamGroup::Network),
        Group::Copy => quote!(launch::StreamGroup::Copy),
    };
    quote!(launch::StreamSpec { name: #name, group: #group, share: #share })
}

fn buffers(graph: &Graph, schedule: &Schedule) -> TokenStream {
    let sizes = schedule.buffers.values().flat_map(|buffer| widest(&buffer.columns));
    let known = locals(graph, sizes, &quote!(bound.dims));
    let buffers: Vec<_> = schedule.buffers.values().map(buffer_spec).collect();
    let bound = parameter("bound", &known);
    quote! {
        /// The buffers at these sizes, in the order of [`buffer`].
        fn buffers(#bound: &model::BoundModel) -> Vec<model::BufferSpec> {
            #known
            Vec::from([#(#buffers),*])
        }
    }
}

fn buffer_spec(buffer: &Buffer) -> TokenStream {
    let rows = match buffer.rows {
        BufferRows::Tokens => quote!(model::BufferRows::Tokens),
        BufferRows::Seqs => quote!(model::BufferRows::Seqs),
    };
    let columns = match widest(&buffer.columns).as_slice() {
        [] => quote!(0),
        [only] => plain(only),
        [first, rest @ ..] => {
            let first = if first.as_constant().is_none() && first.names().len() == 1 {
                plain(first)
            } else {
                let sum = plain(first);
                quote!((#sum))
            };
            let rest = rest.iter().map(|dim| plain(dim));
            quote!(#first #(.max(#rest))*)
        }
    };
    quote!(model::BufferSpec { rows: #rows, columns: #columns })
}

/// The sizes that are not surely at most another one of them.
fn widest(sizes: &[Dim]) -> Vec<&Dim> {
    let mut widest: Vec<&Dim> = vec![];
    let is_at_most = |size: &Dim, other: &Dim| other.minus(size).is_surely_not_negative();
    for size in sizes {
        if !widest.iter().any(|other| is_at_most(size, other)) {
            widest.retain(|other| !is_at_most(other, size));
            widest.push(size);
        }
    }
    widest
}

/// What all functions of a plan are made from.
struct FunctionsOf<'a> {
    graph: &'a Graph,
    tables: &'a Tables,
    names: &'a PlanNames,
}

fn functions(of: &FunctionsOf<'_>, parts: &Parts<'_>) -> TokenStream {
    let embed = of.once("embed", " From token ids to the first layer's input.", &parts.embed);
    let head = of.once("head", " From the last layer's output to the logits.", &parts.head);
    let names = layer_names(of.graph, &parts.layers);
    let layers = of.layers(&parts.layers, &names);
    let texts = parts.layers.iter().flat_map(|layers| layers.blocks);
    let blocks = texts.zip(names.iter().flatten()).map(|((block, text), name)| of.block(*block, name, text));
    quote!(#embed #layers #(#blocks)* #head)
}

/// The name of the function of each text of each repeat.
fn layer_names(graph: &Graph, repeats: &[Layers<'_>]) -> Vec<Vec<Ident>> {
    let blocks = repeats.iter().flat_map(|layers| layers.blocks);
    let mut names = distinct(blocks.map(|(block, _)| format!("{}_layer", graph.blocks[*block].name))).into_iter();
    let mut next = |_| names.next().map(|name| ident(&name));
    repeats.iter().map(|layers| layers.blocks.iter().filter_map(&mut next).collect()).collect()
}

impl FunctionsOf<'_> {
    fn once(&self, name: &str, doc: &str, steps: &[&Step]) -> TokenStream {
        let body = Body::new(self.graph, self.tables, self.names, false).of(steps);
        let (name, on, bound) = (format_ident!("{name}"), parameter("on", &body), parameter("bound", &body));
        quote! {
            #[doc = #doc]
            pub fn #name<D: launch::Device>(#on: &launch::Launcher<'_, D>, #bound: &model::BoundModel) {
                #body
            }
        }
    }

    fn block(&self, block: BlockId, name: &Ident, text: &[Step]) -> TokenStream {
        let steps: Vec<_> = text.iter().collect();
        let body = Body::new(self.graph, self.tables, self.names, true).of(&steps);
        let (on, bound, layer) = (parameter("on", &body), parameter("bound", &body), parameter("layer", &body));
        let doc = format!(" One layer of block `{}`.", self.graph.blocks[block].name);
        quote! {
            #[doc = #doc]
            fn #name<D: launch::Device>(#on: &launch::Launcher<'_, D>, #bound: &model::BoundModel, #layer: usize) {
                #body
            }
        }
    }

    fn layers(&self, repeats: &[Layers<'_>], names: &[Vec<Ident>]) -> TokenStream {
        let choice = self.choose_layer(repeats, names);
        let sizes = boundaries(repeats);
        let known = locals(self.graph, &sizes, &quote!(bound.dims));
        let body = quote!(#known for layer in range { #choice });
        let (on, bound) = (parameter("on", &body), parameter("bound", &body));
        quote! {
            /// A range of layers.
            pub fn layers<D: launch::Device>(
                #on: &launch::Launcher<'_, D>,
                #bound: &model::BoundModel,
                range: ::std::ops::Range<usize>,
            ) {
                #body
            }
        }
    }

    /// Calls the function of layer number `layer`.
    fn choose_layer(&self, repeats: &[Layers<'_>], names: &[Vec<Ident>]) -> TokenStream {
        let firsts = std::iter::once(Dim::constant(0)).chain(boundaries(repeats));
        let mut choices: Vec<_> = repeats.iter().zip(names).zip(firsts).collect();
        let Some(((last, last_names), first)) = choices.pop() else { return quote!(let _ = layer;) };
        let mut chosen = self.layer_of(last, last_names, &first);
        while let Some(((layers, own_names), first)) = choices.pop() {
            let own = self.layer_of(layers, own_names, &first);
            let end = plain(&first.plus(layers.times));
            chosen = quote!(if layer < #end { #own } else { #chosen });
        }
        chosen
    }

    fn layer_of(&self, layers: &Layers<'_>, names: &[Ident], first: &Dim) -> TokenStream {
        let before = Body::new(self.graph, self.tables, self.names, false).of(&layers.before);
        let at_first = (!layers.before.is_empty()).then(|| {
            let first = plain(first);
            quote!(if layer == #first { #before })
        });
        let call = |name: &Ident| quote!(#name(on, bound, layer));
        let calls: Vec<_> = names.iter().map(call).collect();
        match calls.as_slice() {
            [only] => quote!(#at_first #only;),
            [turns @ .., last] => {
                let numbers = layers.blocks.iter().map(|(block, _)| constant(&self.graph.blocks[*block].name));
                let numbers = numbers.take(turns.len());
                quote!(#at_first match bound.blocks[layer] { #(block::#numbers => #turns,)* _ => #last })
            }
            [] => quote!(#at_first),
        }
    }
}

/// Where each repeat but the last ends.
fn boundaries(repeats: &[Layers<'_>]) -> Vec<Dim> {
    let ends = repeats.iter().scan(Dim::constant(0), |end, layers| {
        *end = end.plus(layers.times);
        Some(end.clone())
    });
    ends.take(repeats.len().saturating_sub(1)).collect()
}
