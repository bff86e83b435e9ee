//! Weights: from the names porters write to tensors of the checkpoint, each entered once.

use super::Loader;
use super::body::Scope;
use super::source::Raw;
use crate::diag::{Diagnostic, Place};
use crate::dim::Dim;
use crate::graph::{Part, Piece, Weight, WeightRole};
use crate::ids::{ValueId, WeightId};
use crate::infer::shape;

/// A tensor of the checkpoint as a node names it.
pub(super) struct Tensor {
    name: String,
    role: WeightRole,
    /// Full name of the tensor used where the two are tied.
    tied: Option<String>,
    /// How many experts have one.
    experts: Option<Dim>,
    place: Place,
}

impl Tensor {
    pub(super) fn tied_to(self, tied: Option<String>) -> Self {
        Self { tied, ..self }
    }

    pub(super) fn of_experts(self, experts: Dim) -> Self {
        Self { experts: Some(experts), ..self }
    }

    /// The bias beside a matrix.
    pub(super) fn bias(&self) -> Self {
        let stem = self.name.strip_suffix(".weight").unwrap_or(&self.name);
        Self { name: format!("{stem}.bias"), role: WeightRole::Vector, tied: None, experts: None, place: self.place }
    }
}

impl<'a> Loader<'a> {
    /// The prefix of a block's weights.
    pub(super) fn block_weights(&mut self, raw: Raw<'a>) -> String {
        let Some(text) = self.reader.text(raw) else { return String::new() };
        if text.value.matches("{layer}").count() != 1 || text.value.replace("{layer}", "").contains(['{', '}']) {
            let message = format!("`{}` does not say where the number of the layer goes", text.value);
            let mistake = Diagnostic::new("T0402", self.reader.place(text.raw), message);
            self.reader.report(mistake.help("put `{layer}` in it once: `model.layers.{layer}`"));
        }
        text.value
    }

    /// The tensor that a node of the scope calls by `raw`.
    pub(super) fn tensor_name(&mut self, scope: &Scope, raw: Raw<'a>, role: WeightRole) -> Option<Tensor> {
        let (name, place) = self.weight_name(raw, role)?;
        let prefix = if scope.block.is_some() { format!("{}.", scope.weights) } else { String::new() };
        Some(Tensor { name: format!("{prefix}{name}.weight"), role, tied: None, experts: None, place })
    }

    /// The full name of the tensor that a weight is tied to.
    pub(super) fn tie(&mut self, raw: Raw<'a>) -> Option<String> {
        let (name, place) = self.weight_name(raw, WeightRole::Table)?;
        let tensor = format!("{name}.weight");
        self.ties.push((tensor.clone(), place));
        Some(tensor)
    }

    fn weight_name(&mut self, raw: Raw<'a>, role: WeightRole) -> Option<(String, Place)> {
        let text = self.reader.text(raw)?;
        let place = self.reader.place(text.raw);
        let name =
            if role == WeightRole::Experts { text.value.replacen("{expert}", "", 1) } else { text.value.clone() };
        let is_name = !name.is_empty() && !name.contains(['{', '}', ' ']) && !name.ends_with(".weight");
        let lacks_expert = role == WeightRole::Experts && name == text.value;
        if !is_name || lacks_expert {
            let mistake = Diagnostic::new("T0405", place, format!("`{}` is not the name of a weight", text.value));
            self.reader.report(mistake.help(if lacks_expert {
                "put `{expert}` where the number of the expert goes: `mlp.experts.{expert}.up_proj`"
            } else {
                "write what stands before `.weight`; in a block, after the block's `weights`"
            }));
        }
        (is_name && !lacks_expert).then_some((text.value, place))
    }

    /// Enters the weight, or finds it where another node has named it.
    pub(super) fn weight(&mut self, scope: &Scope, tensor: Tensor, rows: Dim, columns: Dim) -> Option<WeightId> {
        let Tensor { name, role, tied, experts, place } = tensor;
        let known =
            self.graph.weights.iter().find(|(_, weight)| weight.role == role && weight.pieces[0].tensor == name);
        let piece = Piece { tensor: name, tied, rows, columns: columns.clone() };
        let Some((id, known)) = known else {
            return Some(self.graph.weights.push(Weight {
                part: Part::Whole,
                role,
                pieces: vec![piece],
                columns,
                experts,
                block: scope.block,
                place,
            }));
        };
        let sizes = |experts: &Option<Dim>, rows, columns: &Dim| {
            shape(&experts.iter().cloned().chain([rows, columns.clone()]).collect::<Vec<_>>())
        };
        let found = sizes(&experts, piece.rows.clone(), &columns);
        let (first, first_shape) = (&known.pieces[0], sizes(&known.experts, known.rows(), &known.columns));
        if found == first_shape && first.tied == piece.tied {
            return Some(id);
        }
        let message = if found == first_shape {
            format!("`{}` is tied here and not tied in the same way where it is named first", piece.tensor)
        } else {
            format!("`{}` is {found} here and {first_shape} where it is named first", piece.tensor)
        };
        self.reader
            .report(Diagnostic::new("T0401", place, message).help("nodes that share a weight agree on what it is"));
        None
    }

    /// Enters a vector as wide as the rows of `x`.
    pub(super) fn vector_like(&mut self, scope: &Scope, tensor: Tensor, x: ValueId) -> Option<WeightId> {
        let columns = self.columns_of(x)?;
        self.weight(scope, tensor, Dim::constant(1), columns)
    }

    /// The columns of a value. Where it has none, its reader's mistake is reported and nothing more to say here.
    pub(super) fn columns_of(&mut self, x: ValueId) -> Option<Dim> {
        let ty = &self.graph.values[x].ty;
        match ty.columns() {
            Some(columns) => Some(columns.clone()),
            None if self.untyped.contains(&x) => None,
            None => Some(Dim::default()),
        }
    }

    /// Reports ties to tensors that no node reads.
    pub(super) fn check_ties(&mut self) {
        for (tensor, place) in std::mem::take(&mut self.ties) {
            let mut pieces = self.graph.weights.values().flat_map(|weight| &weight.pieces);
            if pieces.all(|piece| piece.tensor != tensor) {
                let names = self.graph.weights.values().filter(|weight| weight.block.is_none());
                let names: Vec<_> =
                    names.filter_map(|weight| weight.pieces[0].tensor.strip_suffix(".weight")).collect();
                let name = tensor.strip_suffix(".weight").unwrap_or(&tensor);
                let help = super::mistakes::suggest(name, names);
                let mistake = Diagnostic::new("T0404", place, format!("nothing reads the weight `{name}`")).help(help);
                self.reader.report(mistake);
            }
        }
    }
}
