//! From text to a graph: first what has a name, then what uses it.

use std::collections::BTreeMap;

use super::cursor::{Cursor, Statement, statements};
use super::lines::{NodeLine, Output, block, id, named, tensor};
use super::names::Names;
use super::print::stage_word;
use super::{op, schedule, stored};
use crate::diag::{Diagnostic, Place};
use crate::dim::Dim;
use crate::graph::{
    Block, Cache, Definition, Expectation, Graph, Literal, Node, Part, Piece, Point, Split, Stage, Value, Weight,
    WeightRole,
};
use crate::ids::{BlockId, CacheId, Id, Table, ValueId, WeightId};
use crate::schedule::{Group, Stream};

/// Reads a graph that [`super::print`] has written, or that somebody has written in the same form.
///
/// # Errors
///
/// The lines that are not of this form, or name what is not there. Whether the graph makes sense is another question:
/// [`crate::verify::graph`].
pub fn parse(text: &str) -> Result<Graph, Vec<Diagnostic>> {
    let mut reader = GraphReader { graph: Graph::empty(""), values: BTreeMap::new(), bodies: vec![], mistakes: vec![] };
    let statements = statements(text);
    reader.each(&statements, GraphReader::named);
    if reader.mistakes.is_empty() {
        reader.each(&statements, GraphReader::typed);
    }
    if reader.mistakes.is_empty() {
        reader.number_values();
    }
    if reader.mistakes.is_empty() {
        reader.fill_bodies();
    }
    if reader.mistakes.is_empty() {
        reader.schedule(&statements);
    }
    if reader.mistakes.is_empty() { Ok(reader.graph) } else { Err(reader.mistakes) }
}

struct GraphReader<'a> {
    graph: Graph,
    values: BTreeMap<ValueId, Value>,
    bodies: Vec<Body<'a>>,
    mistakes: Vec<Diagnostic>,
}

/// The lines of a body.
struct Body<'a> {
    block: Option<BlockId>,
    nodes: Vec<NodeLine<'a>>,
    gives: Option<Cursor<'a>>,
    place: Place,
}

impl<'a> GraphReader<'a> {
    fn each(&mut self, statements: &[Statement<'a>], read: fn(&mut Self, &Statement<'a>) -> Result<(), Diagnostic>) {
        for statement in statements {
            if let Err(mistake) = read(self, statement) {
                self.mistakes.push(mistake);
            }
        }
    }

    /// Reads what other lines call by name.
    fn named(&mut self, statement: &Statement<'a>) -> Result<(), Diagnostic> {
        let mut cursor = statement.cursor.clone();
        let place = cursor.place_of(cursor.peek());
        match cursor.word()? {
            "graph" => {
                self.graph.name = cursor.name()?;
                self.graph.stage = stage(&mut cursor)?;
            }
            "serves" => self.graph.serves.push(cursor.string()?),
            "prefix" => self.graph.prefixes.push(cursor.string()?),
            "ignore" => self.graph.ignores.push(cursor.string()?),
            "context" => {
                cursor.expect("=")?;
                self.graph.context = Some(cursor.expr()?);
            }
            "expect" => {
                let key = cursor.string()?;
                cursor.expect("=")?;
                self.graph.expects.push(Expectation { key, one_of: cursor.list(literal)?, place });
            }
            "dim" => drop(self.graph.dims.push(definition(&mut cursor)?)),
            "param" => drop(self.graph.params.push(definition(&mut cursor)?)),
            "split" => self.graph.split = Some(split(&mut cursor)?),
            "streams" => self.graph.streams = Some(streams(statement)?),
            "block" => {
                let name = cursor.name()?;
                cursor.expect(":")?;
                let (weights, nothing) = (cursor.string()?, ValueId::new(0));
                self.graph.blocks.push(Block { name, weights, takes: nothing, nodes: vec![], gives: nothing, place });
            }
            "cache" | "weight" | "input" | "value" | "main" | "schedule" => return Ok(()),
            _ => return Err(statement.cursor.error("no line of a graph begins like this")),
        }
        cursor.end()
    }

    /// Reads what gives types to weights, caches and values.
    fn typed(&mut self, statement: &Statement<'a>) -> Result<(), Diagnostic> {
        let mut cursor = statement.cursor.clone();
        let place = cursor.place_of(cursor.peek());
        match cursor.word()? {
            "cache" => return self.cache(cursor),
            "weight" => return self.weight(cursor),
            "input" => return self.input(cursor),
            "value" => return self.value(cursor),
            "block" => {
                let block = self.bodies.iter().filter(|body| body.block.is_some()).count();
                self.body(statement, Some(BlockId::new(block)), place);
            }
            "main" => self.body(statement, None, place),
            _ => {}
        }
        Ok(())
    }

    fn cache(&mut self, mut cursor: Cursor<'a>) -> Result<(), Diagnostic> {
        let place = cursor.place();
        let found: CacheId = id(&mut cursor, 'c')?;
        let name = cursor.name()?;
        cursor.keyword("of")?;
        let block = block(&mut cursor, self.names(None))?;
        cursor.expect("=")?;
        let mut sizes = cursor.list(Cursor::dim)?;
        let value = sizes.drain(2.min(sizes.len())..).next_back();
        let sizes = <[Dim; 2]>::try_from(sizes);
        let [kv_heads, head] = sizes.map_err(|_| cursor.error("a cache has two sizes or three"))?;
        cursor.end()?;
        let next = self.graph.caches.push(Cache { name, block, kv_heads, head, value, place });
        expect_next(found.index(), next.index(), place)
    }

    fn weight(&mut self, mut cursor: Cursor<'a>) -> Result<(), Diagnostic> {
        let place = cursor.place();
        let found: WeightId = id(&mut cursor, 'w')?;
        cursor.expect("=")?;
        let role = role(&mut cursor)?;
        let (experts, columns) = shape_of_rows(&mut cursor)?;
        let block = self.of_block(&mut cursor)?;
        let part = part(&mut cursor)?;
        cursor.keyword("from")?;
        let mut pieces = vec![piece(&mut cursor, &columns)?];
        while cursor.accept(",") {
            pieces.push(piece(&mut cursor, &columns)?);
        }
        cursor.end()?;
        let next = self.graph.weights.push(Weight { role, pieces, columns, experts, block, part, place });
        expect_next(found.index(), next.index(), place)
    }

    fn input(&mut self, mut cursor: Cursor<'a>) -> Result<(), Diagnostic> {
        let place = cursor.place();
        let name = cursor.name()?;
        cursor.expect(":")?;
        let found: ValueId = id(&mut cursor, 'v')?;
        let ty = tensor(&mut cursor)?;
        cursor.end()?;
        self.graph.inputs.push(found);
        self.declare(found, Value { name, block: None, ty, place })
    }

    fn value(&mut self, mut cursor: Cursor<'a>) -> Result<(), Diagnostic> {
        let output = Output::parse(&mut cursor)?;
        let block = self.of_block(&mut cursor)?;
        cursor.end()?;
        self.declare_output(&output, "", block)
    }

    fn body(&mut self, statement: &Statement<'a>, block: Option<BlockId>, place: Place) {
        let mut body = Body { block, nodes: vec![], gives: None, place };
        for child in &statement.children {
            if let Err(mistake) = self.body_line(&mut body, child.cursor.clone()) {
                self.mistakes.push(mistake);
            }
        }
        self.bodies.push(body);
    }

    fn body_line(&mut self, body: &mut Body<'a>, mut cursor: Cursor<'a>) -> Result<(), Diagnostic> {
        let after_keyword = |cursor: &mut Cursor<'a>| cursor.word().map(|_| ());
        match (cursor.peek(), body.block, cursor.has_colon_next()) {
            ("takes", Some(block), false) => {
                after_keyword(&mut cursor)?;
                let output = Output::parse(&mut cursor)?;
                cursor.end()?;
                self.graph.blocks[block].takes = output.id;
                self.declare_output(&output, "", Some(block))
            }
            ("gives", _, false) => {
                after_keyword(&mut cursor)?;
                body.gives = Some(cursor);
                Ok(())
            }
            _ => {
                let node = NodeLine::parse(&mut cursor)?;
                for output in &node.outputs {
                    self.declare_output(output, &node.name, body.block)?;
                }
                body.nodes.push(node);
                Ok(())
            }
        }
    }

    fn declare_output(&mut self, output: &Output, implied: &str, block: Option<BlockId>) -> Result<(), Diagnostic> {
        let Some(ty) = output.ty.clone() else { return Ok(()) };
        let name = output.name.clone().unwrap_or_else(|| implied.to_owned());
        self.declare(output.id, Value { name, block, ty, place: output.place })
    }

    fn declare(&mut self, id: ValueId, value: Value) -> Result<(), Diagnostic> {
        let place = value.place;
        match self.values.insert(id, value) {
            None => Ok(()),
            Some(_) => Err(Diagnostic::new("T0903", place, format!("{id} has a type already"))),
        }
    }

    fn number_values(&mut self) {
        for (index, (id, value)) in std::mem::take(&mut self.values).into_iter().enumerate() {
            if let Err(mistake) = expect_next(id.index(), index, value.place) {
                self.mistakes.push(mistake);
                break;
            }
            self.graph.values.push(value);
        }
    }

    fn fill_bodies(&mut self) {
        for body in std::mem::take(&mut self.bodies) {
            let mut nodes = Vec::new();
            for line in &body.nodes {
                match node(line, self.names(body.block)) {
                    Ok(node) => nodes.push(node),
                    Err(mistake) => self.mistakes.push(mistake),
                }
            }
            *self.graph.body_mut(body.block) = nodes;
            match self.given(&body) {
                Ok(value) => match body.block {
                    Some(block) => self.graph.blocks[block].gives = value,
                    None => self.graph.gives = value,
                },
                Err(mistake) => self.mistakes.push(mistake),
            }
        }
    }

    fn given(&self, body: &Body<'a>) -> Result<ValueId, Diagnostic> {
        let missing = || Diagnostic::new("T0901", body.place, "a body says what it `gives`");
        let mut cursor = body.gives.clone().ok_or_else(missing)?;
        let (names, values) = (self.names(body.block), &self.graph.values);
        named(&mut cursor, "value", |word| names.find_value(word).filter(|id| values.get(*id).is_some()))
    }

    fn schedule(&mut self, statements: &[Statement<'a>]) {
        for statement in statements.iter().filter(|statement| statement.cursor.peek() == "schedule") {
            self.graph.schedule = schedule::parse(&self.graph, statement, &mut self.mistakes);
        }
    }

    fn of_block(&self, cursor: &mut Cursor<'a>) -> Result<Option<BlockId>, Diagnostic> {
        if cursor.peek() != "of" {
            return Ok(None);
        }
        cursor.keyword("of")?;
        block(cursor, self.names(None)).map(Some)
    }

    fn names(&self, block: Option<BlockId>) -> Names<'_> {
        Names { graph: &self.graph, block }
    }
}

fn node(line: &NodeLine<'_>, names: Names<'_>) -> Result<Node, Diagnostic> {
    let op = op::parse(&line.call, names)?;
    let stream = line.stream.clone().map(|mut cursor| schedule::stream(&mut cursor, names)).transpose()?;
    let values = &names.graph.values;
    if let Some(output) = line.outputs.iter().find(|output| values.get(output.id).is_none()) {
        return Err(Diagnostic::new("T0902", output.place, format!("{} has no type anywhere", output.id)));
    }
    let outputs = line.outputs.iter().map(|output| output.id).collect();
    Ok(Node { name: line.name.clone(), op, outputs, range: line.range, stream, share: line.share, place: line.place })
}

fn expect_next(found: usize, next: usize, place: Place) -> Result<(), Diagnostic> {
    let gap = || Diagnostic::new("T0903", place, format!("number {found} stands where number {next} is next"));
    if found == next { Ok(()) } else { Err(gap()) }
}

fn stage(cursor: &mut Cursor<'_>) -> Result<Stage, Diagnostic> {
    let stages = [Stage::Loaded, Stage::Lowered, Stage::Split, Stage::Grouped, Stage::Scheduled];
    named(cursor, "stage", |word| stages.into_iter().find(|stage| stage_word(*stage) == word))
}

fn definition(cursor: &mut Cursor<'_>) -> Result<Definition, Diagnostic> {
    let place = cursor.place();
    let name = cursor.name()?;
    cursor.expect("=")?;
    Ok(Definition { name, value: cursor.expr()?, place })
}

pub(super) fn literal(cursor: &mut Cursor<'_>) -> Result<Literal, Diagnostic> {
    if cursor.next_is_list() {
        return cursor.list(literal).map(Literal::List);
    }
    if cursor.next_is_quote() {
        return cursor.string().map(Literal::Text);
    }
    match cursor.peek() {
        "None" => cursor.word().map(|_| Literal::None),
        "Any" => cursor.word().map(|_| Literal::Any),
        "true" => cursor.word().map(|_| Literal::Bool(true)),
        "false" => cursor.word().map(|_| Literal::Bool(false)),
        _ => cursor.number().map(Literal::Number),
    }
}

fn split(cursor: &mut Cursor<'_>) -> Result<Split, Diagnostic> {
    cursor.keyword("multiple")?;
    cursor.keyword("of")?;
    let multiple_of = cursor.number()?;
    cursor.keyword("at")?;
    Ok(Split { points: cursor.list(point)?, multiple_of })
}

fn point(cursor: &mut Cursor<'_>) -> Result<Point, Diagnostic> {
    let at = cursor.clone();
    match cursor.word()? {
        "share" => cursor.number().map(Point::Share),
        "tokens" => cursor.number().map(Point::Tokens),
        "decode" => cursor.number().map(Point::DecodeShare),
        _ => Err(at.error("`share`, `tokens` or `decode` should stand here")),
    }
}

fn streams(statement: &Statement<'_>) -> Result<Table<crate::ids::StreamId, Stream>, Diagnostic> {
    statement.children.iter().map(|child| stream(&mut child.cursor.clone())).collect()
}

fn stream(cursor: &mut Cursor<'_>) -> Result<Stream, Diagnostic> {
    let name = cursor.name()?;
    cursor.expect("=")?;
    let groups = [Group::Compute, Group::Memory, Group::Network, Group::Copy];
    let group = named(cursor, "stream group", |word| groups.into_iter().find(|group| format!("{group:?}") == word))?;
    let share = cursor.number()?;
    cursor.end()?;
    Ok(Stream { name, group, share })
}

fn role(cursor: &mut Cursor<'_>) -> Result<WeightRole, Diagnostic> {
    let roles =
        [WeightRole::Matrix, WeightRole::Experts, WeightRole::Table, WeightRole::Vector, WeightRole::ExpertVectors];
    named(cursor, "role", |word| roles.into_iter().find(|role| format!("{role:?}") == word))
}

/// Nothing, or `by rows`, `by columns`.
fn part(cursor: &mut Cursor<'_>) -> Result<Part, Diagnostic> {
    if cursor.peek() != "by" {
        return Ok(Part::Whole);
    }
    cursor.keyword("by")?;
    let at = cursor.clone();
    match cursor.word()? {
        "rows" => Ok(Part::Rows),
        "columns" => Ok(Part::Columns),
        _ => Err(at.error("`rows` or `columns` should stand here")),
    }
}

/// `[hidden]`, or `[experts, hidden]` where each expert has a matrix.
fn shape_of_rows(cursor: &mut Cursor<'_>) -> Result<(Option<Dim>, Dim), Diagnostic> {
    let mut sizes = cursor.list(Cursor::dim)?;
    let columns = sizes.pop();
    let experts = sizes.pop();
    let columns = columns.filter(|_| sizes.is_empty());
    let columns = columns.ok_or_else(|| cursor.error("a weight has columns, and before them perhaps experts"))?;
    Ok((experts, columns))
}

/// `"lm_head.weight"[vocab] or "model.embed_tokens.weight"`; `"q_proj.bias"[1, hidden]` where the tensor has other
/// columns than the weight.
fn piece(cursor: &mut Cursor<'_>, columns: &Dim) -> Result<Piece, Diagnostic> {
    let tensor = cursor.string()?;
    let mut sizes = cursor.list(Cursor::dim)?.into_iter();
    let (rows, own, more) = (sizes.next(), sizes.next(), sizes.next());
    let rows = rows.filter(|_| more.is_none()).ok_or_else(|| cursor.error("a tensor has rows, and perhaps columns"))?;
    let columns = own.unwrap_or_else(|| columns.clone());
    let is_tied = cursor.peek() == "or";
    let tied = if is_tied { cursor.keyword("or").and_then(|()| cursor.string()).map(Some)? } else { None };
    Ok(Piece { tensor, tied, rows, columns, stored: stored::parse(cursor)? })
}
