//! Names of the generated code, made of the names porters gave.

use std::collections::BTreeSet;

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::format_ident;
use syn::Ident;

/// Names that generated functions use for other things.
const TAKEN: [&str; 10] = ["bound", "config", "cut", "dims", "layer", "on", "params", "range", "read", "run"];

/// `overlap-2` → `overlap_2`; a name that is taken or a keyword gets an underscore.
pub(crate) fn ident(text: &str) -> Ident {
    let name = words(text).to_lowercase();
    let is_free = syn::parse_str::<Ident>(&name).is_ok() && !TAKEN.contains(&name.as_str());
    Ident::new(&if is_free { name } else { format!("{name}_") }, Span::call_site())
}

/// The name of the module of a plan, beside those that [`crate::module`] makes.
pub(crate) fn plan_module(plan: &str) -> Ident {
    let name = ident(plan);
    let is_taken = ["dim", "param", "weight", "cache", "angles", "launch", "model"].iter().any(|taken| name == taken);
    if is_taken { format_ident!("{name}_plan") } else { name }
}

/// `self_attn.q_proj` → `SELF_ATTN_Q_PROJ`.
pub(crate) fn constant(text: &str) -> Ident {
    Ident::new(&words(text).to_uppercase(), Span::call_site())
}

/// The name of a parameter, with an underscore in front if the body does not read it.
pub(crate) fn parameter(name: &str, body: &TokenStream) -> Ident {
    let name = if mentions(body, name) { name.to_owned() } else { format!("_{name}") };
    Ident::new(&name, Span::call_site())
}

fn mentions(body: &TokenStream, name: &str) -> bool {
    body.clone().into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == name,
        TokenTree::Group(group) => mentions(&group.stream(), name),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}

/// The names with a number behind each that stood before.
pub(crate) fn distinct(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let choose = |name: String| {
        let numbered = (2..).map(|number| format!("{name}_{number}"));
        let chosen =
            std::iter::once(name.clone()).chain(numbered).find(|choice| !seen.contains(&words(choice).to_lowercase()));
        let chosen = chosen.unwrap_or(name);
        seen.insert(words(&chosen).to_lowercase());
        chosen
    };
    names.into_iter().map(choose).collect()
}

/// Letters, digits and underscores, beginning with no digit.
fn words(text: &str) -> String {
    let word = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let words: String = text.chars().map(word).collect();
    let begins_well = words.starts_with(|c: char| c.is_ascii_alphabetic());
    if begins_well { words } else { format!("n{words}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_identifiers() {
        for (text, name) in
            [("overlap-2", "overlap_2"), ("type", "type_"), ("layer", "layer_"), ("2x", "n2x"), ("H", "h")]
        {
            assert_eq!(ident(text).to_string(), name);
        }
        assert_eq!(constant("self_attn.q_proj").to_string(), "SELF_ATTN_Q_PROJ");
    }

    #[test]
    fn names_that_repeat_are_numbered() {
        let names = ["kv", "x", "kv", "KV", "kv_2"].map(str::to_owned);
        assert_eq!(distinct(names), ["kv", "x", "kv_2", "KV_3", "kv_2_2"]);
    }
}
