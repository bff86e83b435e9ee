//! Pieces of the source text that remember where they stand.
//!
//! ron keeps no places after parsing. It does hand out raw values as slices of the source, and the address of a slice is
//! its place. So every leaf of a form is a [`Raw`] slice, read on demand, and whatever is wrong with it points at itself.

use std::fmt;
use std::marker::PhantomData;

use ron::Options;
use ron::extensions::Extensions;
use ron::value::RawValue;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use super::mistakes;
use crate::diag::{Diagnostic, Place};

/// A piece of the source that is well-formed RON, without the space around it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Raw<'a>(pub(super) &'a str);

impl<'de: 'a, 'a> Deserialize<'de> for Raw<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&RawValue>::deserialize(deserializer).map(|raw| Self(raw.trim().get_ron()))
    }
}

/// The entries of a map in order, duplicates included.
#[derive(Debug, Clone)]
pub(super) struct Entries<'a>(pub(super) Vec<(Raw<'a>, Raw<'a>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(InOrder(PhantomData)).map(Self)
    }
}

/// The named fields of a struct, whatever its name.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a>(pub(super) Vec<(String, Raw<'a>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(InOrder(PhantomData)).map(Self)
    }
}

struct InOrder<T>(PhantomData<T>);

impl<'de, K: Deserialize<'de>, V: Deserialize<'de>> Visitor<'de> for InOrder<(K, V)> {
    type Value = Vec<(K, V)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(entries)
    }
}

/// A string of the source.
#[derive(Debug, Clone)]
pub(super) struct Text<'a> {
    /// What it says.
    pub(super) value: String,
    /// Where it says so, without the quotes if nothing in it is escaped.
    pub(super) raw: &'a str,
}

/// Reads pieces of one source and collects what is wrong with them.
pub(super) struct Reader<'a> {
    source: &'a str,
    pub(super) mistakes: Vec<Diagnostic>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: &'a str) -> Self {
        Self { source, mistakes: Vec::new() }
    }

    /// The whole source.
    pub(super) fn whole(&self) -> Raw<'a> {
        Raw(self.source)
    }

    /// Whether the source is RON at all; where it is not, that is the one mistake to report.
    pub(super) fn check_syntax(&mut self) -> bool {
        let read: Result<Raw<'a>, _> = options().from_str(self.source);
        if let Err(error) = &read {
            let place = self.place_within(self.source, error.span.end, error.span.end);
            self.mistakes.push(mistakes::of_syntax(&error.code, place));
        }
        read.is_ok()
    }

    /// Reads a piece as `T`; a mistake of form is collected.
    pub(super) fn read<T: Deserialize<'a>>(&mut self, raw: Raw<'a>) -> Option<T> {
        match options().from_str(raw.0) {
            Ok(value) => Some(value),
            Err(error) => {
                let place = self.place_within(raw.0, error.span.start, error.span.end);
                self.mistakes.push(mistakes::of_form(error.code, place));
                None
            }
        }
    }

    /// Reads a piece as a string.
    pub(super) fn text(&mut self, raw: Raw<'a>) -> Option<Text<'a>> {
        let value: String = self.read(raw)?;
        let inner = raw.0.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let raw = inner.filter(|inner| *inner == value).unwrap_or(raw.0);
        Some(Text { value, raw })
    }

    /// Reads a piece as the entries of a map, their keys being strings.
    pub(super) fn entries(&mut self, raw: Raw<'a>) -> Vec<(Text<'a>, Raw<'a>)> {
        let entries: Option<Entries<'a>> = self.read(raw);
        let read = |(key, value)| self.text(key).map(|key| (key, value));
        entries.map(|entries| entries.0.into_iter().filter_map(read).collect()).unwrap_or_default()
    }

    /// Where a field of the struct `raw` has its value; the struct itself where it has no such field.
    pub(super) fn field_place(&self, raw: Raw<'a>, field: &str) -> Place {
        let fields: Option<Fields<'a>> = options().from_str(raw.0).ok();
        let value = fields.and_then(|fields| fields.0.into_iter().find(|(name, _)| name == field));
        let piece = value.map_or(raw.0, |(_, value)| value.0);
        let inner = piece.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        self.place(inner.unwrap_or(piece))
    }

    /// Where a piece of the source stands: all of it, or its first character where it goes over lines.
    pub(super) fn place(&self, piece: &str) -> Place {
        let width = if piece.contains('\n') { 1 } else { piece.chars().count().max(1) };
        Place { width: width as u32, ..self.place_of_offset(self.offset_of(piece)) }
    }

    /// Where `word` stands in a piece of the source.
    pub(super) fn place_of_word(&self, piece: &'a str, word: &str) -> Place {
        let starts = piece.match_indices(word).map(|(start, _)| start);
        let mut whole_words = starts.filter(|&start| {
            let before = piece[..start].chars().next_back();
            let after = piece[start + word.len()..].chars().next();
            ![before, after].into_iter().flatten().any(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.')
        });
        self.place(whole_words.next().map_or(piece, |start| &piece[start..start + word.len()]))
    }

    /// Collects a mistake.
    pub(super) fn report(&mut self, mistake: Diagnostic) {
        self.mistakes.push(mistake);
    }

    fn offset_of(&self, piece: &str) -> usize {
        (piece.as_ptr() as usize).saturating_sub(self.source.as_ptr() as usize).min(self.source.len())
    }

    fn place_of_offset(&self, offset: usize) -> Place {
        let before = &self.source[..offset];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
        Place { line: line as u32, column: column as u32, width: 1 }
    }

    fn place_within(&self, piece: &str, start: ron::error::Position, end: ron::error::Position) -> Place {
        let base = self.place(piece);
        let (line, column) = (start.line as u32, start.col as u32);
        let column = if line == 1 { base.column + column - 1 } else { column };
        let width = if start.line == end.line { end.col.saturating_sub(start.col).max(1) as u32 } else { 1 };
        Place { line: base.line + line - 1, column, width }
    }
}

fn options() -> Options {
    Options::default().with_default_extension(Extensions::IMPLICIT_SOME)
}
