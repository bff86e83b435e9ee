//! What stands between the parentheses of `compile_model!`, and what becomes of it when the files have been read.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{LitStr, Token};

use crate::{compile, emit};

/// `"graphs/llama.ron", plans: ["plans/sequential.ron", "plans/overlap-2.ron"]`; paths from the crate's folder.
pub struct Invocation {
    graph: LitStr,
    plans: Vec<LitStr>,
}

mod keyword {
    syn::custom_keyword!(plans);
}

impl Parse for Invocation {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let graph = input.parse()?;
        input.parse::<Token![,]>()?;
        input.parse::<keyword::plans>()?;
        input.parse::<Token![:]>()?;
        let list;
        syn::bracketed!(list in input);
        let plans: Vec<_> = Punctuated::<LitStr, Token![,]>::parse_terminated(&list)?.into_iter().collect();
        input.parse::<Option<Token![,]>>()?;
        if plans.is_empty() {
            return Err(syn::Error::new(
                list.span(),
                "a model needs at least one plan, such as \"plans/sequential.ron\"",
            ));
        }
        Ok(Self { graph, plans })
    }
}

impl Invocation {
    /// The module of the model, its files read by `read`; where that fails or the files are wrong, an error that says so.
    pub fn expand<E: std::fmt::Display>(&self, read: impl Fn(&str) -> Result<String, E>) -> TokenStream {
        self.module(read).unwrap_or_else(|error| error.into_compile_error())
    }

    fn module<E: std::fmt::Display>(&self, read: impl Fn(&str) -> Result<String, E>) -> syn::Result<TokenStream> {
        let text = |path: &LitStr| {
            read(&path.value())
                .map_err(|error| syn::Error::new(path.span(), format!("cannot read {}: {error}", path.value())))
        };
        let graph = text(&self.graph)?;
        let texts = self.plans.iter().map(text).collect::<syn::Result<Vec<_>>>()?;
        let paths: Vec<_> = self.plans.iter().map(LitStr::value).collect();
        let plans: Vec<_> = paths.iter().zip(&texts).map(|(path, text)| (path.as_str(), text.as_str())).collect();
        let path = self.graph.value();
        let module = match compile(&path, &graph, &plans) {
            Ok(compiled) => emit(&compiled),
            Err(mistakes) => {
                let text = format!("{path} cannot be compiled\n\n{mistakes}\n");
                quote_spanned!(self.graph.span()=> ::std::compile_error!(#text);)
            }
        };
        let files = std::iter::once(&self.graph).chain(&self.plans).map(tracked);
        Ok(quote!(#(#files)* #module))
    }
}

/// Makes the compiler look at a file again when it changes; a macro cannot say so otherwise.
fn tracked(path: &LitStr) -> TokenStream {
    quote!(
        const _: &[u8] = ::std::include_bytes!(::std::concat!(::std::env!("CARGO_MANIFEST_DIR"), "/", #path));
    )
}
