//! Lines that several parts of the text have in common: outputs, an operator with its fields, a range, a stream.

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::cursor::Cursor;
use super::names::{Names, by_id};
use crate::diag::{Diagnostic, Place};
use crate::dim::Dim;
use crate::graph::Range;
use crate::ids::{BlockId, CacheId, Id, ParamId, PointId, ValueId, WeightId};
use crate::types::{Element, TensorType};

/// `n1: v4[tokens, hidden] = RmsNorm(x: h, weight: w1, eps: eps) @ 0..1 on compute`, names not yet looked up.
pub(super) struct NodeLine<'a> {
    pub(super) name: String,
    /// Of a launch: the number before the colon.
    pub(super) nano: Option<usize>,
    pub(super) outputs: Vec<Output>,
    pub(super) call: Call<'a>,
    pub(super) range: Option<Range>,
    pub(super) stream: Option<Cursor<'a>>,
    pub(super) share: Option<f32>,
    pub(super) place: Place,
}

/// `v4 sum[tokens, hidden] i32`.
pub(super) struct Output {
    pub(super) id: ValueId,
    pub(super) name: Option<String>,
    pub(super) ty: Option<TensorType>,
    pub(super) place: Place,
}

/// `Linear(x: n1, weight: w2)`.
pub(super) struct Call<'a> {
    pub(super) name: &'a str,
    place: Place,
    fields: Vec<(&'a str, Cursor<'a>)>,
}

impl<'a> NodeLine<'a> {
    pub(super) fn parse(cursor: &mut Cursor<'a>) -> Result<Self, Diagnostic> {
        let place = cursor.place_of(cursor.peek());
        let name = cursor.name()?;
        let nano = if cursor.peek().is_empty() { None } else { Some(cursor.number()?) };
        cursor.expect(":")?;
        let outputs = outputs(cursor)?;
        let call = Call::parse(cursor)?;
        let range = if cursor.accept("@") { Some(range(cursor)?) } else { None };
        let stream = if cursor.peek() == "on" {
            cursor.keyword("on")?;
            let stream = cursor.clone();
            cursor.name()?;
            Some(stream)
        } else {
            None
        };
        let has_share = stream.is_some() && !cursor.peek().is_empty();
        let share = if has_share { Some(cursor.number()?) } else { None };
        cursor.end()?;
        Ok(Self { name, nano, outputs, call, range, stream, share, place })
    }
}

fn outputs(cursor: &mut Cursor<'_>) -> Result<Vec<Output>, Diagnostic> {
    let mut outputs = Vec::new();
    while by_id::<ValueId>(cursor.peek(), 'v').is_some() {
        outputs.push(Output::parse(cursor)?);
        if !cursor.accept(",") {
            cursor.expect("=")?;
            break;
        }
    }
    Ok(outputs)
}

impl Output {
    pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Self, Diagnostic> {
        let place = cursor.place_of(cursor.peek());
        let id = id(cursor, 'v')?;
        let has_name = !cursor.peek().is_empty() || cursor.next_is_quote();
        let name = if has_name { Some(cursor.name()?) } else { None };
        let ty = if name.is_some() || cursor.next_is_list() { Some(tensor(cursor)?) } else { None };
        Ok(Self { id, name, ty, place })
    }
}

/// `[tokens, hidden]`, `[tokens] i32`.
pub(super) fn tensor(cursor: &mut Cursor<'_>) -> Result<TensorType, Diagnostic> {
    let shape = cursor.list(Cursor::dim)?;
    let is_i32 = cursor.peek() == "i32";
    if is_i32 {
        cursor.word()?;
    }
    Ok(TensorType { element: if is_i32 { Element::I32 } else { Element::Model }, shape })
}

fn range(cursor: &mut Cursor<'_>) -> Result<Range, Diagnostic> {
    let at = cursor.clone();
    let word = cursor.word()?;
    let ends = word.split_once("..").and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    let (from, to): (u32, u32) = ends.ok_or_else(|| at.error(format!("`{word}` is not a range such as `0..1`")))?;
    Ok(Range { from: PointId::new(from as usize), to: PointId::new(to as usize) })
}

/// An id such as `v7`.
pub(super) fn id<I: Id>(cursor: &mut Cursor<'_>, letter: char) -> Result<I, Diagnostic> {
    let at = cursor.clone();
    let word = cursor.word()?;
    by_id(word, letter).ok_or_else(|| at.error(format!("`{word}` is not an id such as `{letter}0`")))
}

/// An id such as `e7`, one of `count`.
pub(super) fn id_below<I: Id>(cursor: &mut Cursor<'_>, letter: char, count: usize) -> Result<I, Diagnostic> {
    let at = cursor.clone();
    let found: I = id(cursor, letter)?;
    if found.index() < count {
        Ok(found)
    } else {
        Err(Diagnostic::new("T0902", at.place(), format!("there are only {count}")))
    }
}

impl<'a> Call<'a> {
    fn parse(cursor: &mut Cursor<'a>) -> Result<Self, Diagnostic> {
        let place = cursor.place_of(cursor.peek());
        let name = cursor.word()?;
        let mut fields = Vec::new();
        cursor.expect("(")?;
        while !cursor.accept(")") {
            let field = cursor.word()?;
            cursor.expect(":")?;
            let item = cursor.item();
            fields.push((field, cursor.inside(item)));
            if !cursor.accept(",") {
                cursor.expect(")")?;
                break;
            }
        }
        Ok(Self { name, place, fields })
    }
}

/// The fields of a call, to be read as the body of `names` means them.
pub(super) struct Args<'c, 'a> {
    pub(super) call: &'c Call<'a>,
    names: Names<'c>,
    /// The fields that have been read.
    read: RefCell<BTreeSet<String>>,
}

impl<'c, 'a> Args<'c, 'a> {
    pub(super) fn new(call: &'c Call<'a>, names: Names<'c>) -> Self {
        Self { call, names, read: RefCell::default() }
    }

    /// Complains of fields that nobody has read.
    pub(super) fn end(&self) -> Result<(), Diagnostic> {
        let read = self.read.borrow();
        match self.call.fields.iter().find(|(name, _)| !read.contains(*name)) {
            None => Ok(()),
            Some((name, cursor)) => Err(cursor.error(format!("`{}` has no field `{name}`", self.call.name))),
        }
    }

    pub(super) fn has(&self, field: &str) -> bool {
        self.call.fields.iter().any(|(name, _)| *name == field)
    }

    /// What `read` reads of the field, where there is one.
    pub(super) fn optional<T>(
        &self,
        field: &str,
        read: impl Fn(&Self, &str) -> Result<T, Diagnostic>,
    ) -> Result<Option<T>, Diagnostic> {
        if self.has(field) { read(self, field).map(Some) } else { Ok(None) }
    }

    /// The items of a list.
    pub(super) fn list<T>(
        &self,
        field: &str,
        read: impl FnMut(&mut Cursor<'a>) -> Result<T, Diagnostic>,
    ) -> Result<Vec<T>, Diagnostic> {
        let mut cursor = self.field(field)?;
        let items = cursor.list(read)?;
        cursor.end().map(|()| items)
    }

    pub(super) fn value(&self, field: &str) -> Result<ValueId, Diagnostic> {
        let values = &self.names.graph.values;
        self.look_up(field, "value", |word| self.names.find_value(word).filter(|id| values.get(*id).is_some()))
    }

    pub(super) fn weight(&self, field: &str) -> Result<WeightId, Diagnostic> {
        let weights = &self.names.graph.weights;
        self.look_up(field, "weight", |word| by_id(word, 'w').filter(|id| weights.get(*id).is_some()))
    }

    pub(super) fn param(&self, field: &str) -> Result<ParamId, Diagnostic> {
        let params = &self.names.graph.params;
        self.look_up(field, "setting", |word| self.names.find_param(word).filter(|id| params.get(*id).is_some()))
    }

    pub(super) fn cache(&self, field: &str) -> Result<CacheId, Diagnostic> {
        let caches = &self.names.graph.caches;
        self.look_up(field, "cache", |word| self.names.find_cache(word).filter(|id| caches.get(*id).is_some()))
    }

    pub(super) fn blocks(&self, field: &str) -> Result<Vec<BlockId>, Diagnostic> {
        let mut cursor = self.field(field)?;
        let blocks = cursor.list(|cursor| block(cursor, self.names))?;
        cursor.end().map(|()| blocks)
    }

    pub(super) fn dim(&self, field: &str) -> Result<Dim, Diagnostic> {
        let mut cursor = self.field(field)?;
        let dim = cursor.dim()?;
        cursor.end().map(|()| dim)
    }

    pub(super) fn word(&self, field: &str) -> Result<&'a str, Diagnostic> {
        let mut cursor = self.field(field)?;
        let word = cursor.word()?;
        cursor.end().map(|()| word)
    }

    pub(super) fn call(&self, field: &str) -> Result<Call<'a>, Diagnostic> {
        Call::parse(&mut self.field(field)?)
    }

    /// The fields of a call that is a field of this one.
    pub(super) fn inside<'i>(&'i self, call: &'i Call<'a>) -> Args<'i, 'a> {
        Args::new(call, self.names)
    }

    pub(super) fn unknown(&self, kind: &str, word: &str) -> Diagnostic {
        Diagnostic::new("T0902", self.call.place, format!("there is no {kind} `{word}`"))
    }

    fn field(&self, field: &str) -> Result<Cursor<'a>, Diagnostic> {
        let found = self.call.fields.iter().find(|(name, _)| *name == field);
        self.read.borrow_mut().insert(field.to_owned());
        let missing = || Diagnostic::new("T0901", self.call.place, format!("`{}` lacks `{field}`", self.call.name));
        found.map(|(_, cursor)| cursor.clone()).ok_or_else(missing)
    }

    fn look_up<T>(&self, field: &str, kind: &str, find: impl Fn(&str) -> Option<T>) -> Result<T, Diagnostic> {
        let mut cursor = self.field(field)?;
        let found = named(&mut cursor, kind, find)?;
        cursor.end().map(|()| found)
    }
}

/// A block by name or id.
pub(super) fn block(cursor: &mut Cursor<'_>, names: Names<'_>) -> Result<BlockId, Diagnostic> {
    let blocks = &names.graph.blocks;
    named(cursor, "block", |word| names.find_block(word).filter(|id| blocks.get(*id).is_some()))
}

/// A thing by the name or id that `find` knows.
pub(super) fn named<T>(cursor: &mut Cursor<'_>, kind: &str, find: impl Fn(&str) -> Option<T>) -> Result<T, Diagnostic> {
    let place = cursor.place_of(cursor.peek());
    let name = cursor.name()?;
    find(&name).ok_or_else(|| Diagnostic::new("T0902", place, format!("there is no {kind} `{name}`")))
}
