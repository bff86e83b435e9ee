//! Variants: blocks with the text of another block, and other sizes and settings in some places.

use std::collections::{BTreeMap, BTreeSet};

use super::Loader;
use super::body::NamedBlock;
use super::form::VariantForm;
use super::mistakes::suggest;
use super::source::{Raw, Text};
use crate::diag::Diagnostic;
use crate::dim::Expr;

/// What stands in place of sizes and settings while the text of a variant is read.
#[derive(Default)]
pub(super) struct Renames {
    names: BTreeMap<String, String>,
    /// Those that the text has read.
    used: BTreeSet<String>,
}

impl Renames {
    /// Replaces the names that an expression reads.
    pub(super) fn rename(&mut self, expr: &mut Expr) {
        if self.names.is_empty() {
            return;
        }
        match expr {
            Expr::Name(name) => self.rename_name(name),
            Expr::Step | Expr::Number(_) | Expr::Config(_) => {}
            Expr::Binary(_, a, b) => {
                self.rename(a);
                self.rename(b);
            }
            Expr::Call(_, x) => self.rename(x),
            Expr::First(choices) => choices.iter_mut().for_each(|choice| self.rename(choice)),
        }
    }

    /// Replaces a name.
    pub(super) fn rename_name(&mut self, name: &mut String) {
        if let Some(new) = self.names.get(name) {
            self.used.insert(name.clone());
            name.clone_from(new);
        }
    }
}

impl<'a> Loader<'a> {
    /// The block that `form` is a variant of, with what it replaces.
    pub(super) fn variant(
        &mut self,
        name: Text<'a>,
        form: &VariantForm<'a>,
        blocks: &[NamedBlock<'a>],
    ) -> Option<NamedBlock<'a>> {
        let of = self.reader.text(form.of)?;
        let Some(original) = blocks.iter().find(|block| block.name.value == of.value) else {
            let names = blocks.iter().map(|block| block.name.value.as_str());
            let mistake =
                Diagnostic::new("T0206", self.reader.place(of.raw), format!("there is no block `{}`", of.value));
            let help = format!("{} (a variant stands after its block)", suggest(&of.value, names));
            self.reader.report(mistake.help(help));
            return None;
        };
        if !original.replaces.is_empty() {
            let message = format!("`{}` is a variant itself", of.value);
            let mistake = Diagnostic::new("T0210", self.reader.place(of.raw), message);
            self.reader.report(mistake.help("write it as a variant of the block that has the text"));
            return None;
        }
        let replaces = self.reader.entries(form.with);
        let replaces: Vec<_> =
            replaces.into_iter().filter_map(|(old, new)| Some((old, self.reader.text(new)?))).collect();
        let replaces = replaces.into_iter().filter(|(old, new)| self.accept_replacement(old, new)).collect();
        Some(NamedBlock { name, replaces, ..original.clone() })
    }

    /// Whether `new` can stand in place of `old`: a size of the model in place of a size, a setting in place of a setting.
    fn accept_replacement(&mut self, old: &Text<'a>, new: &Text<'a>) -> bool {
        let is_size = self.graph.dims.values().any(|dim| dim.name == old.value);
        let params: Vec<_> = self.graph.params.values().map(|param| param.name.clone()).collect();
        // What replaces nothing is another mistake, told when the text has been read.
        let is_setting = params.contains(&old.value);
        let known = if is_size { self.bound_dims() } else { params };
        let is_known = !(is_size || is_setting) || known.contains(&new.value);
        if !is_known {
            let kind = if is_size { "size of the model" } else { "setting" };
            let message = format!("there is no {kind} `{}` to stand in place of `{}`", new.value, old.value);
            let mistake = Diagnostic::new("T0202", self.reader.place(new.raw), message);
            self.reader.report(mistake.help(suggest(&new.value, known.iter().map(String::as_str))));
        }
        is_known
    }

    /// Reads what `read` reads with the names replaced that the variant replaces.
    pub(super) fn with_renames(&mut self, block: &NamedBlock<'a>, read: impl FnOnce(&mut Self)) {
        let names = block.replaces.iter().map(|(old, new)| (old.value.clone(), new.value.clone())).collect();
        self.renames = Renames { names, used: BTreeSet::new() };
        let num_mistakes = self.reader.mistakes.len();
        read(self);
        let renames = std::mem::take(&mut self.renames);
        // What reads the name may be behind a mistake.
        if self.reader.mistakes.len() > num_mistakes {
            return;
        }
        for (old, _) in block.replaces.iter().filter(|(old, _)| !renames.used.contains(&old.value)) {
            self.report_unread(block, old);
        }
    }

    fn report_unread(&mut self, block: &NamedBlock<'a>, name: &Text<'a>) {
        let message = format!("the text of `{}` reads no size or setting `{}`", block.name.value, name.value);
        let mistake = Diagnostic::new("T0210", self.reader.place(name.raw), message);
        self.reader.report(mistake.help("replace names that the block's operators read"));
    }
}

/// Whether the source of a block is a variant.
pub(super) fn is_variant(raw: Raw<'_>) -> bool {
    raw.0.starts_with("Variant")
}
