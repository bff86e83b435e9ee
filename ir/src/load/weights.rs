//! Weights: from the names porters write to tensors of the checkpoint, each entered once.

use super::Loader;
use super::body::Scope;
use super::form::{SliceForm, StoredForm};
use super::source::Raw;
use crate::diag::{Diagnostic, Place};
use crate::dim::Dim;
use crate::graph::{Part, Piece, Slice, Stored, Weight, WeightRole};
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
    stored: Stored,
    place: Place,
}

impl Tensor {
    pub(super) fn tied_to(self, tied: Option<String>) -> Self {
        Self { tied, ..self }
    }

    pub(super) fn of_experts(self, experts: Dim) -> Self {
        Self { experts: Some(experts), ..self }
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
        let prefix = if scope.block.is_some() { format!("{}.", scope.weights) } else { String::new() };
        if raw.0.starts_with("Stored") {
            let form: StoredForm<'a> = self.reader.read(raw)?;
            let (name, place) = self.weight_name(form.tensor, role, true)?;
            let slice = if let Some(rows) = form.rows { Some(self.slice(rows)?) } else { None };
            let stored = Stored { transposed: form.transposed, slice, plus: form.plus };
            return Some(Tensor { name: format!("{prefix}{name}"), role, tied: None, experts: None, stored, place });
        }
        let (name, place) = self.weight_name(raw, role, false)?;
        let stored = Stored::default();
        Some(Tensor { name: format!("{prefix}{name}.weight"), role, tied: None, experts: None, stored, place })
    }

    fn slice(&mut self, raw: Raw<'a>) -> Option<Slice> {
        let SliceForm { of, from, take, every } = self.reader.read(raw)?;
        let (of, from) = (self.bound_dim(of), self.bound_dim(from));
        let (take, every) = (self.optional_dim(take), self.optional_dim(every));
        let (of, from, take, every) = (of?, from?, take?, every?);
        if take.is_some() != every.is_some() {
            let mistake = Diagnostic::new("T0406", self.reader.place(raw.0), "`take` and `every` belong together");
            let help = "give both, for so many rows out of each so many, or neither, for one stretch";
            self.reader.report(mistake.help(help));
            return None;
        }
        Some(Slice { of, from, stride: take.zip(every) })
    }

    /// What a node says about its bias: `true` for the one beside its weight, or where it is stored.
    pub(super) fn bias(
        &mut self,
        scope: &Scope,
        raw: Option<Raw<'a>>,
        weight: Option<&Tensor>,
        role: WeightRole,
    ) -> Option<Option<Tensor>> {
        let Some(raw) = raw.filter(|raw| raw.0 != "false") else { return Some(None) };
        match (raw.0, weight) {
            ("true", Some(weight)) => self.bias_beside(weight, role).map(Some),
            ("true", None) => {
                let mistake =
                    Diagnostic::new("T0405", self.reader.place(raw.0), "there is no weight to have a bias beside it");
                self.reader.report(
                    mistake.help("add `weight: …`, or write `bias: Stored(tensor: …)` with the bias's own name"),
                );
                None
            }
            (text, _) if text.starts_with(['"', 'S']) => self.tensor_name(scope, raw, role).map(Some),
            (text, _) => {
                let mistake = Diagnostic::new("T0102", self.reader.place(text), format!("`{text}` is no bias"));
                self.reader.report(mistake.help("write `true` for the one beside the weight, or `Stored(tensor: …)`"));
                None
            }
        }
    }

    /// The bias beside a weight, stored as that is.
    fn bias_beside(&mut self, weight: &Tensor, role: WeightRole) -> Option<Tensor> {
        let Some(stem) = weight.name.strip_suffix(".weight") else {
            let message = format!("`{}` has no `.weight` at its end that a bias could have `.bias` for", weight.name);
            let mistake = Diagnostic::new("T0405", weight.place, message);
            self.reader.report(mistake.help("write `bias: Stored(tensor: …)` with the bias's own name"));
            return None;
        };
        let stored = Stored { slice: weight.stored.slice.clone(), ..Stored::default() };
        let name = format!("{stem}.bias");
        Some(Tensor { name, role, tied: None, experts: weight.experts.clone(), stored, place: weight.place })
    }

    /// The full name of the tensor that a weight is tied to.
    pub(super) fn tie(&mut self, raw: Raw<'a>) -> Option<String> {
        let (name, place) = self.weight_name(raw, WeightRole::Table, false)?;
        let tensor = format!("{name}.weight");
        self.ties.push((tensor.clone(), place));
        Some(tensor)
    }

    /// The name as the graph has it: of an exact one all, of another what stands before `.weight`.
    fn weight_name(&mut self, raw: Raw<'a>, role: WeightRole, is_exact: bool) -> Option<(String, Place)> {
        let text = self.reader.text(raw)?;
        let place = self.reader.place(text.raw);
        let of_experts = matches!(role, WeightRole::Experts | WeightRole::ExpertVectors);
        let name = if of_experts { text.value.replacen("{expert}", "", 1) } else { text.value.clone() };
        let is_name = !name.is_empty() && !name.contains(['{', '}', ' ']) && (is_exact || !name.ends_with(".weight"));
        if !is_name {
            let mistake = Diagnostic::new("T0405", place, format!("`{}` is not the name of a weight", text.value));
            self.reader.report(mistake.help(if is_exact {
                "write the tensor's whole name; in a block, what stands after the block's `weights`"
            } else {
                "write what stands before `.weight`; in a block, after the block's `weights`"
            }));
        }
        is_name.then_some((text.value, place))
    }

    /// Enters the weight, or finds it where another node has named it.
    pub(super) fn weight(&mut self, scope: &Scope, tensor: Tensor, rows: Dim, columns: Dim) -> Option<WeightId> {
        let Tensor { name, role, tied, experts, stored, place } = tensor;
        let is_known = |weight: &Weight| {
            let first = &weight.pieces[0];
            weight.role == role && weight.block == scope.block && first.tensor == name && first.stored == stored
        };
        let known = self.graph.weights.iter().find(|(_, weight)| is_known(weight));
        let piece = Piece { tensor: name.clone(), tied, rows, columns: columns.clone(), stored: stored.clone() };
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
            let has_rows = !matches!(role, WeightRole::Vector | WeightRole::ExpertVectors);
            let rows = has_rows.then_some(rows);
            shape(&experts.iter().cloned().chain(rows).chain([columns.clone()]).collect::<Vec<_>>())
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

    /// Enters a vector as wide as what is normalised: a group, or the rows of `x`.
    pub(super) fn norm_vector(
        &mut self,
        scope: &Scope,
        tensor: Option<Tensor>,
        x: ValueId,
        group: Option<&Dim>,
    ) -> Option<Option<WeightId>> {
        let Some(tensor) = tensor else { return Some(None) };
        let columns = if let Some(group) = group { group.clone() } else { self.columns_of(x)? };
        self.weight(scope, tensor, Dim::constant(1), columns).map(Some)
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
