//! The generated `bind`: sizes, settings and tables of a model at one configuration.

use proc_macro2::{Literal, TokenStream};
use quote::{format_ident, quote};
use syn::Ident;
use trefoil_ir::dim::{Dim, Expr};
use trefoil_ir::graph::{self, Cache, Expectation, Graph, Part, Weight, WeightRole};
use trefoil_ir::ids::BlockId;
use trefoil_ir::op::{Op, RopeScaling};

use crate::names::{constant, ident, parameter};
use crate::ranks::Model;
use crate::sizes::{Kind, can_fail, checked, locals, param, plain, quantity};
use crate::tables::{Angles, Tables};

/// `bind` and the functions it calls.
pub(crate) fn functions(model: &Model<'_>, tables: &Tables) -> TokenStream {
    let bind = bind(model, tables);
    let layers = layers_of_blocks(&model.graph);
    let weights = weights(&model.graph, tables);
    let caches = caches(&model.graph, tables);
    let angles = angles(&model.graph, tables);
    quote!(#bind #layers #weights #caches #angles)
}

fn bind(model: &Model<'_>, tables: &Tables) -> TokenStream {
    let graph = &model.graph;
    let name = &graph.name;
    let expects = graph.expects.iter().map(expect);
    let dims = graph.dims.values().filter(|dim| dim.value != Expr::Step).map(|dim| {
        let (local, number, value) = (ident(&dim.name), constant(&dim.name), quantity(&dim.value, Kind::Size));
        quote!(let #local = read.size(dim::#number, #value);)
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
    let num_layers = repeats(graph).fold(Dim::constant(0), |sum, (_, times)| sum.plus(times));
    let vocab = graph.values[graph.gives].ty.columns().cloned().unwrap_or_default();
    let known = locals(graph, [&num_layers, &vocab], &quote!(dims));
    let (num_layers, vocab) = (field("num_layers", &plain(&num_layers)), field("vocab", &plain(&vocab)));
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
            let (dims, params) = read.finish()?;
            #known
            Ok(model::BoundModel {
                #num_layers,
                #vocab,
                weights: weights(&dims),
                caches: caches(&dims),
                ropes: ropes(&dims, &params),
                context: None,
                names: model::Names::PLAIN,
                dims,
                params,
            })
        }
    }
}

/// A field of a structure, in short form where the value has its name.
fn field(name: &str, value: &TokenStream) -> TokenStream {
    let field = format_ident!("{name}");
    if value.to_string() == name { quote!(#field) } else { quote!(#field: #value) }
}

fn expect(expectation: &Expectation) -> TokenStream {
    let key = &expectation.key;
    let one_of = expectation.one_of.iter().map(|literal| match literal {
        graph::Literal::None => quote!(model::Literal::None),
        graph::Literal::Bool(value) => quote!(model::Literal::Bool(#value)),
        graph::Literal::Number(value) => {
            let value = Literal::f64_unsuffixed(*value);
            quote!(model::Literal::Number(#value))
        }
        graph::Literal::Text(value) => quote!(model::Literal::Text(#value)),
    });
    quote!(read.expect(#key, &[#(#one_of),*]);)
}

/// The sizes of weights, caches and buffers that some configuration could make impossible.
fn derived_sizes(model: &Model<'_>, tables: &Tables) -> Vec<Dim> {
    let weights = tables.weights.iter().flat_map(|(_, weight)| sizes_of(weight));
    let caches = tables.caches.iter().flat_map(|(_, cache)| [&cache.kv_heads, &cache.head]);
    let angles = tables.angles.iter().map(|(_, angles)| &angles.head);
    let schedules = model.plans.iter().filter_map(|planned| planned.graph.schedule.as_ref());
    let buffers = schedules.clone().flat_map(|schedule| schedule.buffers.values().flat_map(|buffer| &buffer.columns));
    let homes = schedules.flat_map(|schedule| schedule.homes.values().flatten().map(|home| &home.columns));
    let mut fallible = vec![];
    for dim in weights.chain(caches).chain(angles).chain(buffers).chain(homes).filter(|dim| can_fail(dim)) {
        if !fallible.contains(dim) {
            fallible.push(dim.clone());
        }
    }
    fallible
}

/// The repeats of the main body: one period of blocks, and how many layers.
fn repeats(graph: &Graph) -> impl Iterator<Item = (&[BlockId], &Dim)> {
    graph.nodes.iter().filter_map(|node| {
        let Op::Repeat { blocks, times, .. } = &node.op else { return None };
        Some((blocks.as_slice(), times))
    })
}

fn block_layers(graph: &Graph, block: BlockId) -> Ident {
    format_ident!("{}_layers", ident(&graph.blocks[block].name))
}

/// A function per block that lists its layers.
fn layers_of_blocks(graph: &Graph) -> TokenStream {
    let functions = graph.blocks.iter().map(|(id, block)| {
        let name = block_layers(graph, id);
        let doc = format!(" The layers of block `{}`.", block.name);
        let mut first = Dim::constant(0);
        let mut parts = vec![];
        let mut sizes = vec![];
        for (blocks, times) in repeats(graph) {
            let end = first.plus(times);
            if blocks.contains(&id) {
                parts.push(layers_of(&first, &end, blocks, id));
                sizes.extend([first.clone(), end.clone()]);
            }
            first = end;
        }
        let known = locals(graph, &sizes, &quote!(dims));
        let all =
            parts.split_first().map_or(quote!(Vec::new()), |(first, rest)| quote!(#first #(.chain(#rest))*.collect()));
        let dims = parameter("dims", &quote!(#known #all));
        quote! {
            #[doc = #doc]
            fn #name(#dims: &[usize]) -> Vec<usize> {
                #known
                #all
            }
        }
    });
    quote!(#(#functions)*)
}

fn layers_of(first: &Dim, end: &Dim, blocks: &[BlockId], block: BlockId) -> TokenStream {
    let turns: Vec<_> =
        (0..blocks.len()).filter(|turn| blocks[*turn] == block).map(Literal::usize_unsuffixed).collect();
    let (first, end, period) = (plain(first), plain(end), Literal::usize_unsuffixed(blocks.len()));
    if turns.len() == blocks.len() {
        return quote!((#first..#end));
    }
    match turns.as_slice() {
        [turn] => quote!((#first..#end).skip(#turn).step_by(#period)),
        turns => quote!((#first..#end).filter(|layer| matches!((layer - (#first)) % #period, #(#turns)|*))),
    }
}

fn weights(graph: &Graph, tables: &Tables) -> TokenStream {
    let sizes = tables.weights.iter().flat_map(|(_, weight)| sizes_of(weight));
    let known = locals(graph, sizes, &quote!(dims));
    let entries: Vec<_> = tables.weights.iter().map(|(_, weight)| weight_spec(graph, weight)).collect();
    let dims = parameter("dims", &quote!(#known #(#entries)*));
    quote! {
        /// The weight table, in the order of [`weight`].
        fn weights(#dims: &[usize]) -> Vec<model::WeightSpec> {
            #known
            Vec::from([#(#entries),*])
        }
    }
}

fn sizes_of(weight: &Weight) -> impl Iterator<Item = &Dim> {
    let pieces = weight.pieces.iter().flat_map(|piece| [&piece.rows, &piece.columns]);
    pieces.chain([&weight.columns]).chain(&weight.experts)
}

fn weight_spec(graph: &Graph, weight: &Weight) -> TokenStream {
    let role = match weight.role {
        WeightRole::Matrix => quote!(model::WeightRole::Matrix),
        WeightRole::Experts => quote!(model::WeightRole::Experts),
        WeightRole::Table => quote!(model::WeightRole::Table),
        WeightRole::Vector => quote!(model::WeightRole::Vector),
    };
    let pieces = weight.pieces.iter().map(|piece| {
        let (tensor, rows, columns) = (&piece.tensor, plain(&piece.rows), field("columns", &plain(&piece.columns)));
        let tied = piece.tied.as_ref().map_or(quote!(None), |tied| quote!(Some(#tied.to_owned())));
        quote!(model::Piece {
            tensor: #tensor.to_owned(),
            tied: #tied,
            rows: #rows,
            #columns,
            stored: model::Stored::default(),
        })
    });
    let columns = plain(&weight.columns);
    let layers = weight.block.map_or(quote!(None), |block| {
        let layers = block_layers(graph, block);
        quote!(Some(#layers(dims)))
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

fn caches(graph: &Graph, tables: &Tables) -> TokenStream {
    let sizes = tables.caches.iter().flat_map(|(_, cache)| [&cache.kv_heads, &cache.head]);
    let known = locals(graph, sizes, &quote!(dims));
    let entries: Vec<_> = tables.caches.iter().map(|(_, cache)| cache_spec(graph, cache)).collect();
    let dims = parameter("dims", &quote!(#known #(#entries)*));
    quote! {
        /// The KV caches, in the order of [`cache`].
        fn caches(#dims: &[usize]) -> Vec<model::CacheSpec> {
            #known
            Vec::from([#(#entries),*])
        }
    }
}

fn cache_spec(graph: &Graph, cache: &Cache) -> TokenStream {
    let name = &cache.name;
    let layers = block_layers(graph, cache.block);
    let (kv_heads, head) = (field("kv_heads", &plain(&cache.kv_heads)), field("head", &plain(&cache.head)));
    quote!(model::CacheSpec { name: #name.to_owned(), #kv_heads, #head, layers: #layers(dims) })
}

fn angles(graph: &Graph, tables: &Tables) -> TokenStream {
    let known = locals(graph, tables.angles.iter().map(|(_, angles)| &angles.head), &quote!(dims));
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
    let scaling = match angles.scaling {
        None => quote!(model::RopeScaling::None),
        Some(RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context }) => {
            let (factor, low, high) = (setting(factor), setting(low_freq_factor), setting(high_freq_factor));
            let context = setting(original_context);
            quote!(model::RopeScaling::Llama3 {
                factor: #factor,
                low_freq_factor: #low,
                high_freq_factor: #high,
                original_context: #context,
            })
        }
    };
    let (head, theta) = (field("head", &plain(&angles.head)), setting(angles.theta));
    quote!(model::RopeSpec { #head, theta: #theta, scaling: #scaling })
}
