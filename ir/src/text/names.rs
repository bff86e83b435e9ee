//! How things are called within a body: by name where that leads back to them, by id otherwise.

use std::fmt::Display;

use crate::graph::Graph;
use crate::ids::{BlockId, CacheId, Id, ParamId, StreamId, ValueId};

/// What a body calls things.
#[derive(Clone, Copy)]
pub(super) struct Names<'g> {
    pub(super) graph: &'g Graph,
    pub(super) block: Option<BlockId>,
}

impl<'g> Names<'g> {
    pub(super) fn value(self, value: ValueId) -> String {
        let name = self.graph.values.get(value).map(|entry| entry.name.as_str());
        called(name, value, |name| self.find_value(name))
    }

    pub(super) fn cache(self, cache: CacheId) -> String {
        let name = self.graph.caches.get(cache).map(|entry| entry.name.as_str());
        called(name, cache, |name| self.find_cache(name))
    }

    pub(super) fn block(self, block: BlockId) -> String {
        let name = self.graph.blocks.get(block).map(|entry| entry.name.as_str());
        called(name, block, |name| self.find_block(name))
    }

    pub(super) fn param(self, param: ParamId) -> String {
        let name = self.graph.params.get(param).map(|entry| entry.name.as_str());
        called(name, param, |name| self.find_param(name))
    }

    pub(super) fn stream(self, stream: StreamId) -> String {
        let name = self.graph.streams.as_ref().and_then(|streams| streams.get(stream)).map(|entry| entry.name.as_str());
        called(name, stream, |name| self.find_stream(name))
    }

    pub(super) fn find_value(self, word: &str) -> Option<ValueId> {
        let visible = |block: Option<BlockId>, value: ValueId| {
            block == self.block || block.is_none() && self.graph.inputs.contains(&value)
        };
        let named = |(id, value): &(ValueId, &crate::graph::Value)| value.name == word && visible(value.block, *id);
        by_id(word, 'v').or_else(|| only(self.graph.values.iter().filter(named).map(|(id, _)| id)))
    }

    pub(super) fn find_cache(self, word: &str) -> Option<CacheId> {
        let own = self.graph.caches.iter().filter(|(_, cache)| Some(cache.block) == self.block && cache.name == word);
        by_id(word, 'c').or_else(|| only(own.map(|(id, _)| id)))
    }

    pub(super) fn find_block(self, word: &str) -> Option<BlockId> {
        let named = self.graph.blocks.iter().filter(|(_, block)| block.name == word);
        by_id(word, 'b').or_else(|| only(named.map(|(id, _)| id)))
    }

    pub(super) fn find_param(self, word: &str) -> Option<ParamId> {
        let named = self.graph.params.iter().filter(|(_, param)| param.name == word);
        by_id(word, 'p').or_else(|| only(named.map(|(id, _)| id)))
    }

    pub(super) fn find_stream(self, word: &str) -> Option<StreamId> {
        let named =
            self.graph.streams.iter().flat_map(|streams| streams.iter()).filter(|(_, stream)| stream.name == word);
        by_id(word, 's').or_else(|| only(named.map(|(id, _)| id)))
    }
}

fn called<I: Copy + PartialEq + Display>(name: Option<&str>, id: I, find: impl Fn(&str) -> Option<I>) -> String {
    match name {
        Some(name) if find(name) == Some(id) => word(name),
        Some(_) | None => id.to_string(),
    }
}

/// A name as one word, in quotes if it would fall apart otherwise.
pub(super) fn word(name: &str) -> String {
    let is_plain = !name.is_empty() && !name.contains("//") && name.chars().all(is_word_character);
    if is_plain { name.to_owned() } else { format!("{name:?}") }
}

/// Whether a word may go on with `c`.
pub(super) fn is_word_character(c: char) -> bool {
    !c.is_whitespace() && !":,()[]=@\"".contains(c)
}

/// The id that a word such as `v7` is.
pub(super) fn by_id<I: Id>(word: &str, letter: char) -> Option<I> {
    let digits = word.strip_prefix(letter)?;
    let is_canonical = digits == "0" || !digits.starts_with(['0', '+']);
    digits.parse::<u32>().ok().filter(|_| is_canonical).map(|index| I::new(index as usize))
}

fn only<T>(mut found: impl Iterator<Item = T>) -> Option<T> {
    let first = found.next();
    if found.next().is_none() { first } else { None }
}
