//! Pieces of the text of a plan or a device profile that remember where they stand.
//!
//! ron hands out raw values as slices of the text, and the address of a slice is its place. So every leaf that can be
//! wrong is kept as a [`Raw`] slice and read on demand.

use std::fmt;

use ron::Options;
use ron::extensions::Extensions;
use ron::value::RawValue;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use trefoil_ir::diag::{Diagnostic, Place, meant};

/// A piece of the text that is well-formed RON.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Raw<'a>(&'a str);

impl<'de: 'a, 'a> Deserialize<'de> for Raw<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&RawValue>::deserialize(deserializer).map(|raw| Self(raw.trim().get_ron()))
    }
}

/// The entries of a map in order, duplicates included.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entries<'a>(Vec<(Raw<'a>, Raw<'a>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(InOrder)
    }
}

struct InOrder;

impl<'de> Visitor<'de> for InOrder {
    type Value = Entries<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = vec![];
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Entries(entries))
    }
}

/// Reads pieces of one text and collects what is wrong with them.
pub(crate) struct Reader<'a> {
    source: &'a str,
    /// The code of what is not RON, or not of the form asked for.
    of_form: &'static str,
    /// The code of a name that stands twice.
    of_names: &'static str,
    pub(crate) mistakes: Vec<Diagnostic>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(source: &'a str, of_form: &'static str, of_names: &'static str) -> Self {
        Self { source, of_form, of_names, mistakes: vec![] }
    }

    /// The whole text.
    pub(crate) fn whole(&self) -> Raw<'a> {
        Raw(self.source)
    }

    /// Reads a piece; a mistake of form is collected.
    pub(crate) fn read<T: Deserialize<'a>>(&mut self, raw: Raw<'a>) -> Option<T> {
        let options = Options::default().with_default_extension(Extensions::IMPLICIT_SOME);
        match options.from_str(raw.0) {
            Ok(value) => Some(value),
            Err(error) => {
                let (line, column) = (error.span.start.line as u32, error.span.start.col as u32);
                let start = self.place(raw);
                let column = if line == 1 { start.column + column - 1 } else { column };
                let place = Place { line: start.line + line - 1, column, width: 1 };
                self.mistakes.push(mistake_of_form(self.of_form, &error.code, place));
                None
            }
        }
    }

    /// Reads the entries of a map with names for keys. A name that stands twice is collected.
    pub(crate) fn entries<T: Deserialize<'a>>(&mut self, entries: &Entries<'a>) -> Vec<(String, Place, T)> {
        let mut read: Vec<(String, Place, T)> = vec![];
        for (key, value) in &entries.0 {
            let (Some(name), Some(value)) = (self.read::<String>(*key), self.read(*value)) else { continue };
            let place = self.place(*key);
            if read.iter().any(|(known, ..)| *known == name) {
                let mistake = Diagnostic::new(self.of_names, place, format!("`{name}` stands here twice"));
                self.mistakes.push(mistake.help("keep one of them"));
            }
            read.push((name, place, value));
        }
        read
    }

    /// Where a piece stands.
    pub(crate) fn place(&self, raw: Raw<'_>) -> Place {
        let offset = (raw.0.as_ptr() as usize).saturating_sub(self.source.as_ptr() as usize).min(self.source.len());
        let before = &self.source[..offset];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
        let width = if raw.0.contains('\n') { 1 } else { raw.0.chars().count().max(1) };
        Place { line: line as u32, column: column as u32, width: width as u32 }
    }

    pub(crate) fn report(&mut self, code: &'static str, place: Place, message: String, help: impl Into<String>) {
        self.mistakes.push(Diagnostic::new(code, place, message).help(help));
    }
}

fn mistake_of_form(code: &'static str, error: &ron::Error, place: Place) -> Diagnostic {
    use ron::Error::{NoSuchEnumVariant, NoSuchStructField};
    let mistake = Diagnostic::new(code, place, error.to_string());
    match error {
        NoSuchStructField { expected, found, .. } | NoSuchEnumVariant { expected, found, .. } => {
            match meant(found, expected) {
                Some(near) => mistake.help(format!("did you mean `{near}`?")),
                None => mistake,
            }
        }
        _ => mistake,
    }
}
