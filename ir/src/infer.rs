//! What an operator gives, from what it reads: types on symbolic sizes.
//!
//! Sizes are compared as polynomials, so `heads * head` equals `head * heads`, and `hidden` equals neither even where
//! some config makes the numbers meet. What only numbers can tell (that `heads` is a multiple of `kv_heads`, that a
//! quotient leaves no rest) is checked when a model is bound to its config.

use std::fmt;

use crate::dim::Dim;
use crate::graph::{Cache, Graph, Node, Weight, WeightRole};
use crate::ids::{BlockId, ValueId, WeightId};
use crate::op::{Groups, Op, Score};
use crate::types::{Element, TensorType};

/// Why an operator does not fit what it reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypeError {
    /// An operand has other elements.
    Element {
        /// The operand's field.
        field: &'static str,
        /// What it should have.
        expected: Element,
        /// What it has.
        found: Element,
    },
    /// An operand has another number of sizes.
    Rank {
        /// The operand's field.
        field: &'static str,
        /// How many it should have.
        expected: usize,
        /// What it has.
        found: Vec<Dim>,
    },
    /// An operand has another shape than something else asks for.
    Shape {
        /// The operand's field.
        field: &'static str,
        /// Who asks.
        wanted_by: String,
        /// What it should have.
        expected: Vec<Dim>,
        /// What it has.
        found: Vec<Dim>,
    },
    /// The columns of an operand are no whole number of heads.
    Heads {
        /// The operand's field.
        field: &'static str,
        /// Its columns.
        columns: Dim,
        /// The width of a head.
        head: Dim,
    },
    /// The columns of an operand are not the same number for each head.
    Parts {
        /// The operand's field.
        field: &'static str,
        /// Its columns.
        columns: Dim,
        /// How many heads.
        heads: Dim,
    },
    /// More groups of experts are chosen from than there are.
    TopGroups {
        /// How many are chosen from.
        top: Dim,
        /// How many there are.
        of: Dim,
    },
    /// The columns of an operand are no whole number of parts, one per share.
    Shares {
        /// Columns of the operand.
        columns: Dim,
        /// Shares of a row.
        top_k: Dim,
    },
    /// The columns of an operand are no whole number of groups.
    Groups {
        /// Columns of the operand.
        columns: Dim,
        /// Columns of a group.
        group: Dim,
    },
    /// More elements of a head turn than it has.
    Rotary {
        /// How many should turn.
        rotary: Dim,
        /// The width of a head.
        head: Dim,
    },
    /// A window goes past the columns it is cut from.
    Window {
        /// First column.
        from: Dim,
        /// Number of columns.
        width: Dim,
        /// Columns there are.
        columns: Dim,
    },
    /// A weight is read as what it is not.
    Role {
        /// The weight's field.
        field: &'static str,
        /// What the operator reads.
        expected: WeightRole,
        /// What it is.
        found: WeightRole,
    },
}

impl TypeError {
    /// The field of the operator whose operand is wrong.
    pub fn field(&self) -> &'static str {
        match self {
            TypeError::Element { field, .. }
            | TypeError::Rank { field, .. }
            | TypeError::Shape { field, .. }
            | TypeError::Heads { field, .. }
            | TypeError::Parts { field, .. }
            | TypeError::Role { field, .. } => field,
            TypeError::Rotary { .. } => "rotary",
            TypeError::Window { .. } => "width",
            TypeError::TopGroups { .. } => "groups",
            TypeError::Shares { .. } | TypeError::Groups { .. } => "x",
        }
    }
}

impl fmt::Display for TypeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TypeError::Element { field, expected, found } => {
                write!(f, "`{field}` should hold `{expected}` elements and holds `{found}`")
            }
            TypeError::Rank { field, expected, found } => {
                write!(f, "`{field}` should have {expected} sizes and is {}", shape(found))
            }
            TypeError::Shape { field, wanted_by, expected, found } => {
                write!(f, "`{field}` is {}, but {wanted_by} asks for {}", shape(found), shape(expected))
            }
            TypeError::Heads { field, columns, head } => {
                write!(f, "`{field}` has `{columns}` columns, which is no multiple of the head's `{head}`")
            }
            TypeError::Parts { field, columns, heads } => {
                write!(f, "`{field}` has `{columns}` columns, which is no multiple of the `{heads}` heads")
            }
            TypeError::TopGroups { top, of } => {
                write!(f, "`{top}` groups of experts are chosen from, and there are `{of}`")
            }
            TypeError::Shares { columns, top_k } => {
                write!(f, "`x` has `{columns}` columns, which is no multiple of the `{top_k}` shares of a row")
            }
            TypeError::Groups { columns, group } => {
                write!(f, "`x` has `{columns}` columns, which is no multiple of the group's `{group}`")
            }
            TypeError::Rotary { rotary, head } => {
                write!(f, "`{rotary}` elements of each head turn, and a head has `{head}`")
            }
            TypeError::Window { from, width, columns } => {
                write!(f, "a window of `{width}` columns from `{from}` may go past the `{columns}` there are")
            }
            TypeError::Role { field, expected, found } => {
                write!(f, "`{field}` is read as a {expected:?} and is a {found:?}")
            }
        }
    }
}

/// A shape as text: `[tokens, heads * head]`.
pub fn shape(sizes: &[Dim]) -> String {
    let sizes: Vec<_> = sizes.iter().map(Dim::to_string).collect();
    format!("[{}]", sizes.join(", "))
}

/// Among how many experts those in `experts` were chosen; `None` where no `Route` among `nodes` gives the value.
pub(crate) fn chosen_among(graph: &Graph, nodes: &[Node], experts: ValueId) -> Option<Dim> {
    let router = nodes.iter().find(|node| node.outputs.first() == Some(&experts))?;
    let Op::Route { x, .. } = router.op else { return None };
    graph.values[x].ty.columns().cloned()
}

/// The types of what `op` gives, in order of its outputs.
///
/// # Errors
///
/// All the ways in which `op` does not fit the values, weights and caches of `graph` that it names.
pub fn outputs(graph: &Graph, op: &Op) -> Result<Vec<TensorType>, Vec<TypeError>> {
    let mut check = Check { graph, errors: Vec::new() };
    let types = check.op(op);
    if check.errors.is_empty() { Ok(types) } else { Err(check.errors) }
}

/// Whether the one is larger than the other whatever their names stand for.
fn is_surely_more(one: &Dim, other: &Dim) -> bool {
    let more = one.minus(other);
    more != Dim::default() && more.is_surely_not_negative()
}

struct Check<'g> {
    graph: &'g Graph,
    errors: Vec<TypeError>,
}

impl Check<'_> {
    fn op(&mut self, op: &Op) -> Vec<TensorType> {
        match *op {
            Op::Embed { ids, weight } => self.embed(ids, weight),
            Op::RmsNorm { x, weight, ref group, .. } => self.norm(x, weight, None, group.as_ref()),
            Op::LayerNorm { x, weight, bias, ref group, .. } => self.norm(x, weight, bias, group.as_ref()),
            Op::Linear { x, weight, bias } => self.linear(x, weight, bias),
            Op::Rope { x, pos, ref head, ref rotary, .. } => self.rope(x, pos, head, rotary.as_ref()),
            Op::Attention { q, k, v, cache, score, .. } => {
                self.keys_and_values(q, k, v, &self.graph.caches[cache]);
                self.queries(q, &self.graph.caches[cache], score)
            }
            Op::Join { a, b, ref heads } => self.join(a, b, heads),
            Op::Add { a, b } => self.pair(("a", a), ("b", b)),
            Op::GatedMul { gate, up, .. } => self.pair(("gate", gate), ("up", up)),
            Op::Apply { x, .. } => self.matrix("x", x).map(TensorType::model).into_iter().collect(),
            Op::Route { x, ref top_k, bias, ref groups, .. } => self.route(x, top_k, bias, groups.as_ref()),
            Op::ExpertLinear { x, experts, weight, bias } => self.expert_linear(x, experts, weight, bias),
            Op::Combine { x, shares } => self.combine(x, shares),
            Op::Rows { x, at } => self.rows(x, at),
            Op::Repeat { ref blocks, with, .. } => self.repeat(blocks, with),
            Op::KvWrite { k, v, cache } => {
                self.keys_and_values(k, k, v, &self.graph.caches[cache]);
                vec![]
            }
            Op::DecodeAttention { q, cache, score, .. } | Op::PrefillAttention { q, cache, score, .. } => {
                self.queries(q, &self.graph.caches[cache], score)
            }
            Op::Columns { x, ref from, ref width } => self.columns(x, from, width),
            Op::AddRmsNorm { a, b, weight, .. } => {
                let sum = self.pair(("a", a), ("b", b));
                [sum, self.norm(a, Some(weight), None, None)].concat()
            }
            Op::AllReduce { x, .. } => self.matrix("x", x).map(TensorType::model).into_iter().collect(),
            Op::AllGather { x, ref ranks } => {
                let gathered = self.matrix("x", x).map(|[rows, columns]| [rows, columns.times(ranks)]);
                gathered.map(TensorType::model).into_iter().collect()
            }
        }
    }

    fn embed(&mut self, ids: ValueId, weight: WeightId) -> Vec<TensorType> {
        let rows = self.vector("ids", ids);
        let columns = self.weight("weight", weight, WeightRole::Table).columns.clone();
        rows.map(|rows| TensorType::model([rows, columns])).into_iter().collect()
    }

    fn norm(
        &mut self,
        x: ValueId,
        weight: Option<WeightId>,
        bias: Option<WeightId>,
        group: Option<&Dim>,
    ) -> Vec<TensorType> {
        let Some([rows, columns]) = self.matrix("x", x) else { return vec![] };
        let width = group.unwrap_or(&columns);
        if columns != *width && columns.exact_quotient(width).is_none() {
            let (columns, group) = (columns.clone(), width.clone());
            self.errors.push(TypeError::Groups { columns, group });
        }
        for (field, vector) in [("weight", weight), ("bias", bias)] {
            let Some(vector) = vector else { continue };
            let found = self.weight(field, vector, WeightRole::Vector).columns.clone();
            self.same(field, "what is normalised", vec![width.clone()], vec![found]);
        }
        vec![TensorType::model([rows, columns])]
    }

    fn linear(&mut self, x: ValueId, weight: WeightId, bias: Option<WeightId>) -> Vec<TensorType> {
        let weight = self.weight("weight", weight, WeightRole::Matrix);
        let (inner, out) = (weight.columns.clone(), weight.rows());
        if let Some(bias) = bias {
            let found = self.weight("bias", bias, WeightRole::Vector).columns.clone();
            self.same("bias", "the product", vec![out.clone()], vec![found]);
        }
        let x = self.with_columns("x", x, "its weight", inner);
        x.into_iter().map(|x| TensorType::model([x.shape[0].clone(), out.clone()])).collect()
    }

    fn route(&mut self, x: ValueId, top_k: &Dim, bias: Option<WeightId>, groups: Option<&Groups>) -> Vec<TensorType> {
        let Some([rows, experts]) = self.matrix("x", x) else { return vec![] };
        // Only numbers tell whether experts are whole groups, and whether enough of them are chosen from.
        if let Some([(_, of), (_, top)]) = groups.map(|groups| groups.parts().1)
            && is_surely_more(top, of)
        {
            self.errors.push(TypeError::TopGroups { top: top.clone(), of: of.clone() });
        }
        if let Some(bias) = bias {
            let found = self.weight("bias", bias, WeightRole::Vector).columns.clone();
            self.same("bias", "the logits", vec![experts], vec![found]);
        }
        let shape = vec![rows, top_k.clone()];
        vec![TensorType { element: Element::I32, shape: shape.clone() }, TensorType::model(shape)]
    }

    fn expert_linear(
        &mut self,
        x: ValueId,
        experts: ValueId,
        weight: WeightId,
        bias: Option<WeightId>,
    ) -> Vec<TensorType> {
        let weight = self.weight("weight", weight, WeightRole::Experts);
        let (inner, out, own) = (weight.columns.clone(), weight.rows(), weight.experts.clone());
        if let Some(bias) = bias {
            let bias = self.weight("bias", bias, WeightRole::ExpertVectors);
            let found = bias.experts.iter().cloned().chain([bias.columns.clone()]).collect();
            self.same("bias", "the product", own.into_iter().chain([out.clone()]).collect(), found);
        }
        let (x, experts) = (self.matrix("x", x), self.sizes("experts", experts, Element::I32));
        let (Some([rows, columns]), Some([chosen, top_k])) = (x, experts) else { return vec![] };
        self.same("experts", "`x`", vec![rows.clone(), top_k.clone()], vec![chosen, top_k.clone()]);
        if columns != inner.times(&top_k) {
            self.same("x", "its weight", vec![rows.clone(), inner], vec![rows.clone(), columns]);
        }
        vec![TensorType::model([rows, top_k.times(&out)])]
    }

    fn combine(&mut self, x: ValueId, shares: ValueId) -> Vec<TensorType> {
        let (x, shares) = (self.matrix("x", x), self.matrix("shares", shares));
        let (Some([rows, columns]), Some([shared, top_k])) = (x, shares) else { return vec![] };
        self.same("shares", "`x`", vec![rows.clone(), top_k.clone()], vec![shared, top_k.clone()]);
        let Some(own) = columns.exact_quotient(&top_k) else {
            self.errors.push(TypeError::Shares { columns, top_k });
            return vec![];
        };
        vec![TensorType::model([rows, own])]
    }

    fn rope(&mut self, x: ValueId, pos: ValueId, head: &Dim, rotary: Option<&Dim>) -> Vec<TensorType> {
        let positions = self.vector("pos", pos);
        let Some([rows, columns]) = self.matrix("x", x) else { return vec![] };
        if let Some(positions) = positions {
            self.same("pos", "`x`", vec![rows.clone()], vec![positions]);
        }
        self.whole_heads("x", &columns, head);
        // Only numbers tell whether fewer turn than there are, but for what can be seen to be more.
        if let Some(rotary) = rotary.filter(|rotary| is_surely_more(rotary, head)) {
            self.errors.push(TypeError::Rotary { rotary: rotary.clone(), head: head.clone() });
        }
        vec![TensorType::model([rows, columns])]
    }

    fn queries(&mut self, q: ValueId, cache: &Cache, score: Score) -> Vec<TensorType> {
        let Some([rows, columns]) = self.matrix("q", q) else { return vec![] };
        self.whole_heads("q", &columns, &cache.head);
        if let (Some(sinks), Some(heads)) = (score.sinks, columns.exact_quotient(&cache.head)) {
            let found = self.weight("sinks", sinks, WeightRole::Vector).columns.clone();
            self.same("sinks", "`q`", vec![heads], vec![found]);
        }
        let given = cache.given(&columns).unwrap_or(columns);
        vec![TensorType::model([rows, given])]
    }

    fn keys_and_values(&mut self, rows_of: ValueId, k: ValueId, v: ValueId, cache: &Cache) {
        let rows = self.graph.values[rows_of].ty.shape.first().cloned();
        for (field, operand, width) in [("k", k, &cache.head), ("v", v, cache.value())] {
            let columns = cache.kv_heads.times(width);
            if let (Some(rows), Some(found)) = (rows.clone(), self.matrix(field, operand)) {
                let wanted_by = format!("the cache `{}`", cache.name);
                self.same(field, &wanted_by, vec![rows, columns], found.into());
            }
        }
    }

    fn join(&mut self, a: ValueId, b: ValueId, heads: &Dim) -> Vec<TensorType> {
        let (Some([rows, first]), Some([other, second])) = (self.matrix("a", a), self.matrix("b", b)) else {
            return vec![];
        };
        self.same("b", "`a`", vec![rows.clone(), second.clone()], vec![other, second.clone()]);
        if first.exact_quotient(heads).is_none() {
            self.errors.push(TypeError::Parts { field: "a", columns: first.clone(), heads: heads.clone() });
        }
        // One part that all heads have counts once for each.
        let second = if second.exact_quotient(heads).is_none() { second.times(heads) } else { second };
        vec![TensorType::model([rows, first.plus(&second)])]
    }

    fn pair(&mut self, a: (&'static str, ValueId), b: (&'static str, ValueId)) -> Vec<TensorType> {
        let (Some(first), Some(second)) = (self.matrix(a.0, a.1), self.matrix(b.0, b.1)) else { return vec![] };
        self.same(b.0, &format!("`{}`", a.0), first.to_vec(), second.into());
        vec![TensorType::model(first)]
    }

    fn rows(&mut self, x: ValueId, at: ValueId) -> Vec<TensorType> {
        let (x, rows) = (self.matrix("x", x), self.vector("at", at));
        let (Some([_, columns]), Some(rows)) = (x, rows) else { return vec![] };
        vec![TensorType::model([rows, columns])]
    }

    fn repeat(&mut self, blocks: &[BlockId], with: ValueId) -> Vec<TensorType> {
        let graph = self.graph;
        let with = &graph.values[with].ty;
        for block in blocks.iter().map(|&block| &graph.blocks[block]) {
            let taken = &graph.values[block.takes].ty;
            let wanted_by = format!("the block `{}`", block.name);
            self.element("with", taken.element, with.element);
            self.same("with", &wanted_by, taken.shape.clone(), with.shape.clone());
        }
        vec![with.clone()]
    }

    fn columns(&mut self, x: ValueId, from: &Dim, width: &Dim) -> Vec<TensorType> {
        let Some([rows, columns]) = self.matrix("x", x) else { return vec![] };
        if !columns.minus(&from.plus(width)).is_surely_not_negative() {
            let (from, width) = (from.clone(), width.clone());
            self.errors.push(TypeError::Window { from, width, columns });
        }
        vec![TensorType::model([rows, width.clone()])]
    }

    fn with_columns(&mut self, field: &'static str, x: ValueId, wanted_by: &str, columns: Dim) -> Vec<TensorType> {
        let Some(found) = self.matrix(field, x) else { return vec![] };
        self.same(field, wanted_by, vec![found[0].clone(), columns], found.to_vec());
        vec![TensorType::model(found)]
    }

    fn whole_heads(&mut self, field: &'static str, columns: &Dim, head: &Dim) {
        if columns.exact_quotient(head).is_none() {
            let (columns, head) = (columns.clone(), head.clone());
            self.errors.push(TypeError::Heads { field, columns, head });
        }
    }

    fn matrix(&mut self, field: &'static str, value: ValueId) -> Option<[Dim; 2]> {
        self.sizes(field, value, Element::Model)
    }

    fn vector(&mut self, field: &'static str, value: ValueId) -> Option<Dim> {
        self.sizes(field, value, Element::I32).map(|[rows]| rows)
    }

    fn sizes<const RANK: usize>(
        &mut self,
        field: &'static str,
        value: ValueId,
        element: Element,
    ) -> Option<[Dim; RANK]> {
        let TensorType { element: found, shape } = self.graph.values[value].ty.clone();
        if !self.element(field, element, found) {
            return None;
        }
        let sizes = <[Dim; RANK]>::try_from(shape);
        sizes.map_err(|found| self.errors.push(TypeError::Rank { field, expected: RANK, found })).ok()
    }

    fn element(&mut self, field: &'static str, expected: Element, found: Element) -> bool {
        if expected != found {
            self.errors.push(TypeError::Element { field, expected, found });
        }
        expected == found
    }

    fn same(&mut self, field: &'static str, wanted_by: &str, expected: Vec<Dim>, found: Vec<Dim>) {
        if expected != found {
            self.errors.push(TypeError::Shape { field, wanted_by: wanted_by.to_owned(), expected, found });
        }
    }

    fn weight(&mut self, field: &'static str, weight: WeightId, expected: WeightRole) -> &Weight {
        let weight = &self.graph.weights[weight];
        if weight.role != expected {
            self.errors.push(TypeError::Role { field, expected, found: weight.role });
        }
        weight
    }
}
