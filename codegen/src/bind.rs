//! The generated `bind`: sizes, settings and tables of a model at one configuration.

use proc_macro2::{Literal, TokenStream};
use quote::{format_ident, quote};
use trefoil_ir::bind::{Condition, conditions};
use trefoil_ir::dim::{Dim, Expr};
use trefoil_ir::graph::{self, Cache, Expectation, Graph, Node, Part, Piece, Slice, Stored, Weight, WeightRole};
use trefoil_ir::ids::{BlockId, Id};
use trefoil_ir::op::{Op, Pairs};

use crate::names::{constant, ident, parameter};
use crate::ranks::Model;
use crate::sizes::{Kind, can_fail, checked, locals, param, plain, quantity};
use crate::tables::{Angles, Tables};

/// `bind` and the functions it calls.
pub(crate) fn functions(model: &Model<'_>, tables: &Tables) -> TokenStream {
    let bind = bind(model, tables);
    let weights = weights(&model.graph, tables);
    let caches = caches(&model.graph, tables);
    let angles = angles(&model.graph, tables);
    quote!(#bind #weights #caches #angles)
}

fn bind(model: &Model<'_>, tables: &Tables) -> TokenStream {
    let graph = &model.graph;
    let name = &graph.name;
    let expects = graph.expects.iter().map(expect);
    let dims = graph.dims.values().filter(|dim| dim.value != Expr::Step).map(|dim| {
        let (local, number, value) = (ident(&dim.name), constant(&dim.name), quantity(&dim.value, Kind::Size(graph)));
        let read = if is_width(graph, &dim.name) { quote!(size) } else { quote!(count) };
        quote!(let #local = read.#read(dim::#number, #value);)
    });
    let params = graph.params.values().map(|param| {
        let (local, number) = (ident(&param.name), constant(&param.name));
        let value = quantity(&param.value, Kind::Setting(graph));
        let is_read = graph.params.values().any(|other| other.value.names().contains(&param.name.as_str()));
        let keep = is_read.then(|| quote!(let #local =));
        quote!(#keep read.setting(param::#number, #value);)
    });
    let derived = derived_sizes(model, tables).into_iter().map(|dim| {
        let (text, value) = (dim.to_string(), checked(&dim));
        quote!(read.derived(#text, #value);)
    });
    let conditions = conditions(graph).into_iter().filter(|condition| can_fail(&condition.size)).map(condition);
    let layers = graph.nodes.iter().filter_map(layers);
    let context = context(graph);
    let names = names(graph);
    let vocab = graph.values[graph.gives].ty.columns().cloned().unwrap_or_default();
    let known = locals(graph, [&vocab], &quote!(dims));
    let vocab = field("vocab", &plain(&vocab));
    quote! {
        /// Reads the model's sizes and settings from a configuration.
        ///
        /// # Errors
        /// Every fault of the configuration that the graph cannot serve, at once.
        pub fn bind(config: &Config) -> Result<model::BoundModel, Vec<model::ConfigFault>> {
            let mut read = model::Binding::new(#name, &DIMS, &PARAMS, config);
            #(#expects)*
            #(#dims)*
            #(#params)*
            #(#derived)*
            #(#conditions)*
            #(#layers)*
            #context
            let model::BoundSizes { dims, params, blocks, context } = read.finish()?;
            #known
            Ok(model::BoundModel {
                num_layers: blocks.len(),
                #vocab,
                weights: weights(&dims, &blocks),
                caches: caches(&dims, &blocks),
                ropes: ropes(&dims, &params),
                dims,
                params,
                blocks,
                context,
                names: #names,
            })
        }
    }
}

/// Whether a size is more than a number of layers or of rotating elements, which may be 0.
fn is_width(graph: &Graph, name: &str) -> bool {
    let mentions = |dim: &Dim| dim.names().contains(&name);
    let weights = graph.weights.values().flat_map(sizes_of);
    let caches = graph.caches.values().flat_map(|cache| [&cache.kv_heads, &cache.head, cache.value()]);
    let values = graph.values.values().flat_map(|value| &value.ty.shape);
    let definitions = graph.dims.values().map(|dim| &dim.value);
    weights.chain(caches).chain(values).any(mentions) || definitions.flat_map(Expr::names).any(|own| own == name)
}

/// What only numbers tell, such as that query heads are a multiple of key heads.
fn condition(condition: Condition) -> TokenStream {
    let (what, size) = (&condition.what, checked(&condition.size));
    let mut names = condition.size.names();
    names.sort_unstable();
    names.dedup();
    let values = names.into_iter().map(|name| {
        let local = ident(name);
        quote!((#name, #local))
    });
    quote!(read.condition(#what, #size, &[#(#values),*]);)
}

/// The layers of a repeat.
fn layers(node: &Node) -> Option<TokenStream> {
    let Op::Repeat { blocks, pattern, times, .. } = &node.op else { return None };
    let number = |at: &usize| Literal::usize_unsuffixed(blocks[*at].index());
    let (cycle, keys) = (pattern.cycle.iter().map(number), &pattern.keys);
    let kinds = pattern.kinds.iter().map(|(kind, at)| {
        let (kind, number) = (literal(kind), number(at));
        quote!((#kind, #number))
    });
    let (text, times) = (times.to_string(), checked(times));
    Some(quote! {
        read.layers(#text, #times, &model::LayerPattern { cycle: &[#(#cycle),*], keys: &[#(#keys),*], kinds: &[#(#kinds),*] });
    })
}

/// The longest sequence: as the graph says, or by the key that most configurations have.
fn context(graph: &Graph) -> TokenStream {
    let usual = Expr::Config("max_position_embeddings".to_owned());
    let expr = graph.context.as_ref().unwrap_or(&usual);
    let (text, value) = (expr.to_string(), quantity(expr, Kind::Size(graph)));
    quote!(read.context(#text, #value);)
}

fn names(graph: &Graph) -> TokenStream {
    let Graph { prefixes, ignores, .. } = graph;
    if prefixes.is_empty() && ignores.is_empty() {
        return quote!(model::Names::PLAIN);
    }
    let prefixes = if prefixes.is_empty() { &vec![String::new()] } else { prefixes };
    quote!(model::Names { prefixes: &[#(#prefixes),*], ignores: &[#(#ignores),*] })
}

/// A field of a structure, in short form where the value has its name.
fn field(name: &str, value: &TokenStream) -> TokenStream {
    let field = format_ident!("{name}");
    if value.to_string() == name { quote!(#field) } else { quote!(#field: #value) }
}

fn expect(expectation: &Expectation) -> TokenStream {
    let key = &expectation.key;
    let one_of = expectation.one_of.iter().map(literal);
    quote!(read.expect(#key, &[#(#one_of),*]);)
}

fn literal(literal: &graph::Literal) -> TokenStream {
    match literal {
        graph::Literal::None => quote!(model::Literal::None),
        graph::Literal::Any => quote!(model::Literal::Any),
        graph::Literal::Bool(value) => quote!(model::Literal::Bool(#value)),
        graph::Literal::Number(value) => {
            let value = Literal::f64_unsuffixed(*value);
            quote!(model::Literal::Number(#value))
        }
        graph::Literal::Text(value) => quote!(model::Literal::Text(#value)),
        graph::Literal::List(values) => {
            let values = values.iter().map(self::literal);
            quote!(model::Literal::List(&[#(#values),*]))
        }
    }
}

/// The sizes of weights, caches and buffers that some configuration could make impossible.
fn derived_sizes(model: &Model<'_>, tables: &Tables) -> Vec<Dim> {
    let weights = tables.weights.iter().flat_map(|(_, weight)| sizes_of(weight));
    let caches = tables.caches.iter().flat_map(|(_, cache)| [&cache.kv_heads, &cache.head, cache.value()]);
    let angles = tables.angles.iter().map(|(_, angles)| &angles.rotary);
    let schedules = model.plans.iter().filter_map(|planned| planned.graph.schedule.as_ref());
    let buffers = schedules.clone().flat_map(|schedule| schedule.buffers.values().flat_map(|buffer| &buffer.columns));
    let homes = schedules.flat_map(|schedule| schedule.homes.values().flatten().map(|home| &home.columns));
    // Slices may begin at the first row.
    let is_fallible = |dim: &&Dim| can_fail(dim) && **dim != Dim::default();
    let mut fallible = vec![];
    for dim in weights.chain(caches).chain(angles).chain(buffers).chain(homes).filter(is_fallible) {
        if !fallible.contains(dim) {
            fallible.push(dim.clone());
        }
    }
    fallible
}

/// The layers that have a block.
fn layers_of(graph: &Graph, block: BlockId) -> TokenStream {
    let block = constant(&graph.blocks[block].name);
    quote!(model::layers_of(blocks, block::#block))
}

fn weights(graph: &Graph, tables: &Tables) -> TokenStream {
    let sizes = tables.weights.iter().flat_map(|(_, weight)| sizes_of(weight));
    let known = locals(graph, sizes, &quote!(dims));
    let entries: Vec<_> = tables.weights.iter().map(|(_, weight)| weight_spec(graph, weight)).collect();
    let text = quote!(#known #(#entries)*);
    let (dims, blocks) = (parameter("dims", &text), parameter("blocks", &text));
    quote! {
        /// The weight table, in the order of [`weight`].
        fn weights(#dims: &[usize], #blocks: &[u16]) -> Vec<model::WeightSpec> {
            #known
            Vec::from([#(#entries),*])
        }
    }
}

fn sizes_of(weight: &Weight) -> impl Iterator<Item = &Dim> {
    let pieces = weight.pieces.iter().flat_map(|piece| [&piece.rows, &piece.columns].into_iter().chain(taken(piece)));
    pieces.chain([&weight.columns]).chain(&weight.experts)
}

/// Sizes of the tensor that a piece is some rows of.
fn taken(piece: &Piece) -> impl Iterator<Item = &Dim> {
    piece.stored.slice.iter().flat_map(|Slice { of, from, stride }| {
        [of, from].into_iter().chain(stride.iter().flat_map(|(take, every)| [take, every]))
    })
}

fn weight_spec(graph: &Graph, weight: &Weight) -> TokenStream {
    let role = match weight.role {
        WeightRole::Matrix => quote!(model::WeightRole::Matrix),
        WeightRole::Experts => quote!(model::WeightRole::Experts),
        WeightRole::Table => quote!(model::WeightRole::Table),
        WeightRole::Vector => quote!(model::WeightRole::Vector),
        WeightRole::ExpertVectors => quote!(model::WeightRole::ExpertVectors),
    };
    let pieces = weight.pieces.iter().map(|piece| {
        let (tensor, rows, columns) = (&piece.tensor, plain(&piece.rows), field("columns", &plain(&piece.columns)));
        let tied = piece.tied.as_ref().map_or(quote!(None), |tied| quote!(Some(#tied.to_owned())));
        let stored = stored(weight.role, piece);
        quote!(model::Piece { tensor: #tensor.to_owned(), tied: #tied, rows: #rows, #columns, stored: #stored })
    });
    let columns = plain(&weight.columns);
    let layers = weight.block.map_or(quote!(None), |block| {
        let layers = layers_of(graph, block);
        quote!(Some(#layers))
    });
    let part = match weight.part {
        Part::Whole => quote!(model::Part::Whole),
        Part::Rows => quote!(model::Part::Rows),
        Part::Columns => quote!(model::Part::Columns),
    };
    let columns = field("columns", &columns);
    let experts = weight.experts.as_ref().map_or(quote!(None), |experts| {
        let experts = plain(experts);
        quote!(Some(#experts))
    });
    let experts = field("experts", &experts);
    quote! {
        model::WeightSpec {
            role: #role,
            pieces: Vec::from([#(#pieces),*]),
            #columns,
            #experts,
            layers: #layers,
            part: #part,
        }
    }
}

fn stored(role: WeightRole, piece: &Piece) -> TokenStream {
    let Stored { transposed, slice, plus } = &piece.stored;
    if piece.stored == Stored::default() {
        return quote!(model::Stored::default());
    }
    let slice = slice.as_ref().map_or(quote!(None), |Slice { of, from, stride }| {
        let own = match role {
            WeightRole::Vector | WeightRole::ExpertVectors => &piece.columns,
            WeightRole::Matrix | WeightRole::Experts | WeightRole::Table => &piece.rows,
        };
        let (take, every) = stride.as_ref().map_or((own, own), |(take, every)| (take, every));
        let [of, from, take, every] = [of, from, take, every].map(plain);
        quote!(Some(model::Slice { of: #of, from: #from, take: #take, every: #every }))
    });
    let plus = Literal::f32_unsuffixed(*plus);
    quote!(model::Stored { transposed: #transposed, slice: #slice, plus: #plus })
}

fn caches(graph: &Graph, tables: &Tables) -> TokenStream {
    let sizes = tables.caches.iter().flat_map(|(_, cache)| [&cache.kv_heads, &cache.head, cache.value()]);
    let known = locals(graph, sizes, &quote!(dims));
    let entries: Vec<_> = tables.caches.iter().map(|(_, cache)| cache_spec(graph, cache)).collect();
    let text = quote!(#known #(#entries)*);
    let (dims, blocks) = (parameter("dims", &text), parameter("blocks", &text));
    quote! {
        /// The KV caches, in the order of [`cache`].
        fn caches(#dims: &[usize], #blocks: &[u16]) -> Vec<model::CacheSpec> {
            #known
            Vec::from([#(#entries),*])
        }
    }
}

fn cache_spec(graph: &Graph, cache: &Cache) -> TokenStream {
    let name = &cache.name;
    let layers = layers_of(graph, cache.block);
    let (kv_heads, head) = (field("kv_heads", &plain(&cache.kv_heads)), field("head", &plain(&cache.head)));
    let value = field("value", &plain(cache.value()));
    quote!(model::CacheSpec { name: #name.to_owned(), #kv_heads, #head, #value, layers: #layers })
}

fn angles(graph: &Graph, tables: &Tables) -> TokenStream {
    let known = locals(graph, tables.angles.iter().map(|(_, angles)| &angles.rotary), &quote!(dims));
    let entries: Vec<_> = tables.angles.iter().map(|(_, angles)| rope_spec(graph, angles)).collect();
    let dims = parameter("dims", &known);
    let params = parameter("params", &quote!(#(#entries)*));
    quote! {
        /// The tables of rotary angles, in the order of [`angles`].
        fn ropes(#dims: &[usize], #params: &[f64]) -> Vec<model::RopeSpec> {
            #known
            Vec::from([#(#entries),*])
        }
    }
}

fn rope_spec(graph: &Graph, angles: &Angles) -> TokenStream {
    let setting = |id| {
        let param = param(graph, id);
        quote!(params[#param])
    };
    let scaling = angles.scaling.map_or(quote!(None), |scaling| {
        let (name, settings) = scaling.parts();
        let name = format_ident!("{name}");
        let settings = settings.into_iter().map(|(field, id)| {
            let (field, value) = (format_ident!("{field}"), setting(id));
            quote!(#field: #value)
        });
        quote!(#name { #(#settings),* })
    });
    let pairs = match angles.pairs {
        Pairs::Halves => quote!(model::Pairs::Halves),
        Pairs::Adjacent => quote!(model::Pairs::Adjacent),
    };
    let (rotary, theta) = (field("rotary", &plain(&angles.rotary)), setting(angles.theta));
    quote!(model::RopeSpec { #rotary, pairs: #pairs, theta: #theta, scaling: model::RopeScaling::#scaling })
}
