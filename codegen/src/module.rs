//! The generated module of a graph for one number of ranks: numbers by name, `compiled`, `bind`, and a module per plan.

use proc_macro2::{Literal, TokenStream};
use quote::quote;
use syn::Ident;
use trefoil_ir::graph::{Definition, Graph};
use trefoil_ir::ids::{Id, Table};

use crate::names::{constant, ident, plan_module};
use crate::ranks::Model;
use crate::tables::Tables;
use crate::{bind, plan};

/// The whole module.
pub(crate) fn module(model: &Model<'_>) -> TokenStream {
    let graph = &model.graph;
    let tables = Tables::of(model);
    let name = ident(&graph.name);
    let doc = format!(" Graph `{}`, compiled with {}.", graph.name, plan_names(model).join(", "));
    let numbers = numbers(graph, &tables);
    let entry = entry(model);
    let bind = bind::functions(model, &tables);
    let plans = model.plans.iter().map(|planned| plan::module(planned, &tables));
    quote! {
        #[doc = #doc]
        pub mod #name {
            use ::trefoil_runtime::checkpoint::Config;
            use ::trefoil_runtime::{launch, model};
            #numbers
            #entry
            #bind
            #(#plans)*
        }
    }
}

fn plan_names(model: &Model<'_>) -> Vec<String> {
    model.plans.iter().map(|planned| format!("`{}`", planned.plan.name)).collect()
}

fn entry(model: &Model<'_>) -> TokenStream {
    let (name, serves) = (&model.graph.name, &model.graph.serves);
    let ranks = Literal::u32_unsuffixed(model.ranks);
    let keys = model.graph.config_keys();
    let plans = model.plans.iter().map(|planned| plan_module(&planned.plan.name));
    quote! {
        /// The model, for devices of type `D`.
        pub fn compiled<D: launch::Device>() -> model::CompiledModel<D> {
            model::CompiledModel {
                name: #name,
                ranks: #ranks,
                serves: &[#(#serves),*],
                config_keys: &[#(#keys),*],
                bind,
                plans: const { &[#(#plans::plan()),*] },
            }
        }
    }
}

/// Modules that name the numbers of all that a bound model has tables of.
fn numbers(graph: &Graph, tables: &Tables) -> TokenStream {
    let dims = numbers_of("dim", " Numbers of sizes in `BoundModel::dims`.", &quote!(usize), names(&graph.dims));
    let params =
        numbers_of("param", " Numbers of settings in `BoundModel::params`.", &quote!(usize), names(&graph.params));
    let (sizes, settings) = (definitions("DIMS", &graph.dims), definitions("PARAMS", &graph.params));
    let weights = tables.weights.iter().map(|(name, weight)| {
        let pieces: Vec<_> = weight.pieces.iter().map(|piece| format!("`{}`", piece.tensor)).collect();
        (name.clone(), pieces.join(", "))
    });
    let weights = numbers_of("weight", " Numbers of weights in `BoundModel::weights`.", &quote!(u16), weights);
    let caches = tables
        .caches
        .iter()
        .map(|(name, cache)| (name.clone(), format!("`{}` of block `{}`", cache.name, graph.blocks[cache.block].name)));
    let caches = numbers_of("cache", " Numbers of caches in `BoundModel::caches`.", &quote!(u16), caches);
    let angles = tables.angles.iter().map(|(name, angles)| {
        (name.clone(), format!("`{}` elements of a head, base `{}`", angles.rotary, graph.params[angles.theta].name))
    });
    let angles = numbers_of("angles", " Numbers of rotary tables in `BoundModel::ropes`.", &quote!(u16), angles);
    let blocks = graph.blocks.values().map(|block| (constant(&block.name), format!("`{}`", block.name)));
    let blocks = numbers_of("block", " Numbers of blocks in `BoundModel::blocks`.", &quote!(u16), blocks);
    quote!(#blocks #dims #params #weights #caches #angles #sizes #settings)
}

fn names<I: Id>(table: &Table<I, Definition>) -> impl Iterator<Item = (Ident, String)> {
    table.values().map(|definition| (constant(&definition.name), format!("`{}`", definition.value)))
}

/// The texts of definitions, which messages about a configuration quote.
fn definitions<I: Id>(name: &str, table: &Table<I, Definition>) -> TokenStream {
    let (name, number) = (constant(name), Literal::usize_unsuffixed(table.len()));
    let entries = table.values().map(|definition| {
        let (name, expression) = (&definition.name, definition.value.to_string());
        quote!(model::Definition { name: #name, expression: #expression })
    });
    quote!(const #name: [model::Definition; #number] = [#(#entries),*];)
}

fn numbers_of(
    module: &str,
    doc: &str,
    ty: &TokenStream,
    entries: impl Iterator<Item = (Ident, String)>,
) -> TokenStream {
    let module = ident(module);
    let numbers = entries.enumerate().map(|(number, (name, what))| {
        let (doc, number) = (format!(" {what}."), Literal::usize_unsuffixed(number));
        quote!(#[doc = #doc] pub const #name: #ty = #number;)
    });
    quote! {
        #[doc = #doc]
        pub mod #module {
            #(#numbers)*
        }
    }
}
