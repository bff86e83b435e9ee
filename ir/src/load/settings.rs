//! What a graph says about `config.json`: architectures, expectations, dims and params; and reading sizes and settings.

use super::Loader;
use super::form::OneOfForm;
use super::mistakes::suggest;
use super::source::{Raw, Text};
use crate::diag::Diagnostic;
use crate::dim::{Dim, Expr};
use crate::graph::{Definition, Expectation, Literal, SEQS, TOKENS};
use crate::ids::{Id, ParamId};

impl<'a> Loader<'a> {
    pub(super) fn serves(&mut self, serves: Vec<Raw<'a>>) {
        if serves.is_empty() {
            let place = self.reader.place(self.reader.whole().0);
            let mistake = Diagnostic::new("T0509", place, "the graph serves no architecture");
            self.reader.report(mistake.help("list the `architectures` of config.json it is for in `serves`"));
        }
        self.graph.serves = serves.into_iter().filter_map(|raw| self.reader.text(raw)).map(|text| text.value).collect();
    }

    pub(super) fn texts(&mut self, raw: Option<Vec<Raw<'a>>>) -> Vec<String> {
        raw.into_iter().flatten().filter_map(|raw| self.reader.text(raw)).map(|text| text.value).collect()
    }

    /// The longest sequence: an expression over the config and sizes.
    pub(super) fn context(&mut self, raw: Raw<'a>) -> Option<Expr> {
        let (text, expr) = self.expr(raw)?;
        self.check_names(&text, &expr, &self.bound_dims());
        Some(expr)
    }

    pub(super) fn expects(&mut self, expects: Raw<'a>) {
        for (key, value) in self.reader.entries(expects) {
            let is_new = self.graph.expects.iter().all(|known| known.key != key.value);
            if !is_new {
                self.report_twice("key", &key);
                continue;
            }
            let place = self.reader.place(key.raw);
            let one_of = self.choices(value).into_iter().filter_map(|raw| self.literal(raw)).collect();
            self.graph.expects.push(Expectation { key: key.value, one_of, place });
        }
    }

    fn choices(&mut self, raw: Raw<'a>) -> Vec<Raw<'a>> {
        let is_list = raw.0.starts_with(|c: char| c.is_ascii_alphabetic()) && raw.0.ends_with(')');
        match is_list.then(|| self.reader.read(raw)) {
            None => vec![raw],
            Some(Some(OneOfForm::OneOf(choices))) => choices,
            Some(None) => vec![],
        }
    }

    pub(super) fn literal(&mut self, raw: Raw<'a>) -> Option<Literal> {
        match raw.0 {
            "None" => Some(Literal::None),
            "Any" => Some(Literal::Any),
            "true" => Some(Literal::Bool(true)),
            "false" => Some(Literal::Bool(false)),
            text if text.starts_with('[') => {
                let values: Vec<Raw<'a>> = self.reader.read(raw)?;
                values.into_iter().map(|value| self.literal(value)).collect::<Option<_>>().map(Literal::List)
            }
            text if text.starts_with('"') => self.reader.text(raw).map(|text| Literal::Text(text.value)),
            _ => self.reader.read(raw).map(Literal::Number),
        }
    }

    pub(super) fn dims(&mut self, dims: Raw<'a>) {
        for (name, value) in self.reader.entries(dims) {
            if self.accept_new_setting(&name) {
                let place = self.reader.place(name.raw);
                let read = self.expr(value);
                if let Some((text, expr)) = &read {
                    self.check_step(&name, expr);
                    self.check_names(text, expr, &self.bound_dims());
                }
                self.graph.dims.push(Definition { name: name.value, value: or_anything(read), place });
            }
        }
        for step in [TOKENS, SEQS] {
            if !self.graph.dims.values().any(|dim| dim.name == step) {
                let place = self.reader.place(dims.0);
                let mistake = Diagnostic::new("T0305", place, format!("there is no size `{step}`"));
                self.reader.report(mistake.help(format!("add `\"{step}\": \"step\"` to `dims`")));
            }
        }
    }

    pub(super) fn params(&mut self, params: Raw<'a>) {
        for (name, value) in self.reader.entries(params) {
            if self.accept_new_setting(&name) {
                let place = self.reader.place(name.raw);
                let read = self.expr(value);
                if let Some((text, expr)) = &read {
                    self.check_param(&name, text, expr);
                }
                self.graph.params.push(Definition { name: name.value, value: or_anything(read), place });
            }
        }
    }

    fn check_param(&mut self, name: &Text<'a>, text: &Text<'a>, expr: &Expr) {
        if *expr == Expr::Step {
            let message = format!("the setting `{}` changes from step to step", name.value);
            self.report_step(text, message, "settings are numbers of the model");
        }
        let params = self.graph.params.values().map(|param| param.name.clone());
        let known: Vec<_> = self.bound_dims().into_iter().chain(params).collect();
        self.check_names(text, expr, &known);
    }

    fn accept_new_setting(&mut self, name: &Text<'a>) -> bool {
        let mut definitions = self.graph.dims.values().chain(self.graph.params.values());
        let is_new = definitions.all(|known| known.name != name.value);
        if !is_new {
            self.report_twice("size or setting", name);
        }
        self.accept_name(name) && is_new
    }

    /// Sizes known when a model is bound, before any step.
    pub(super) fn bound_dims(&self) -> Vec<String> {
        let bound = self.graph.dims.values().filter(|dim| dim.value != Expr::Step);
        bound.map(|dim| dim.name.clone()).collect()
    }

    fn check_step(&mut self, name: &Text<'a>, expr: &Expr) {
        let is_step_name = [TOKENS, SEQS].contains(&name.value.as_str());
        if is_step_name && *expr != Expr::Step {
            let message = format!("`{}` is a size of the step, not of the model", name.value);
            self.report_step(name, message, "write `\"step\"`, or choose another name");
        } else if !is_step_name && *expr == Expr::Step {
            let message = format!("a step has no size `{}`", name.value);
            self.report_step(name, message, "the sizes of a step are `tokens` and `seqs`");
        }
    }

    fn report_step(&mut self, text: &Text<'a>, message: String, help: &str) {
        let place = self.reader.place(text.raw);
        self.reader.report(Diagnostic::new("T0305", place, message).help(help));
    }

    fn check_names(&mut self, text: &Text<'a>, expr: &Expr, known: &[String]) {
        for name in expr.names() {
            if known.iter().any(|known| known == name) {
                continue;
            }
            let place = self.reader.place_of_word(text.raw, name);
            let mistake =
                Diagnostic::new("T0202", place, format!("no size or setting `{name}` is defined before this"));
            self.reader.report(mistake.help(suggest(name, known.iter().map(String::as_str))));
        }
    }

    pub(super) fn expr(&mut self, raw: Raw<'a>) -> Option<(Text<'a>, Expr)> {
        let text = self.reader.text(raw)?;
        match Expr::parse(&text.value) {
            Ok(mut expr) => {
                self.renames.rename(&mut expr);
                Some((text, expr))
            }
            Err(error) => {
                let piece = text.raw.get(error.offset..).unwrap_or(text.raw);
                let first = piece.chars().next().map_or(0, char::len_utf8);
                let place = self.reader.place(&piece[..first]);
                let help = if piece.starts_with('-') {
                    "a minus stands between two numbers: a negative one is `0 - 1`"
                } else {
                    "sums, products, quotients, `sqrt(…)`, `ln(…)`, `floor(…)` and `??` over numbers, names and `config.key`"
                };
                self.reader.report(Diagnostic::new("T0107", place, error.message).help(help));
                None
            }
        }
    }

    /// A size over the graph's dims.
    pub(super) fn dim(&mut self, raw: Raw<'a>) -> Option<Dim> {
        let (text, expr) = self.expr(raw)?;
        let known: Vec<_> = self.graph.dims.values().map(|dim| dim.name.clone()).collect();
        let num_mistakes = self.reader.mistakes.len();
        self.check_names(&text, &expr, &known);
        let dim = expr.to_dim();
        if dim.is_none() {
            let place = self.reader.place(text.raw);
            let mistake = Diagnostic::new("T0304", place, format!("`{}` is not a size", text.value));
            self.reader
                .report(mistake.help("name it in `dims` and use the name; whole numbers and `+ - * /` may stand here"));
        }
        dim.filter(|_| self.reader.mistakes.len() == num_mistakes)
    }

    /// A size that does not change from step to step.
    pub(super) fn bound_dim(&mut self, raw: Raw<'a>) -> Option<Dim> {
        let dim = self.dim(raw)?;
        let step = dim.names().into_iter().find(|name| [TOKENS, SEQS].contains(name)).map(str::to_owned);
        if let Some(step) = step {
            let place = self.reader.place_of_word(raw.0, &step);
            let mistake = Diagnostic::new("T0305", place, format!("`{step}` changes from step to step"));
            self.reader.report(mistake.help("weights, heads and numbers of layers have sizes of the model"));
            return None;
        }
        Some(dim)
    }

    /// A setting by name, where there is one.
    pub(super) fn optional_param(&mut self, raw: Option<Raw<'a>>) -> Option<Option<ParamId>> {
        raw.map_or(Some(None), |raw| self.param(raw).map(Some))
    }

    /// A size that does not change from step to step, where there is one.
    pub(super) fn optional_dim(&mut self, raw: Option<Raw<'a>>) -> Option<Option<Dim>> {
        raw.map_or(Some(None), |raw| self.bound_dim(raw).map(Some))
    }

    /// A setting by name.
    pub(super) fn param(&mut self, raw: Raw<'a>) -> Option<ParamId> {
        if !raw.0.starts_with('"') {
            let message = format!("`{}` is not the name of a setting", raw.0);
            let mistake = Diagnostic::new("T0102", self.reader.place(raw.0), message);
            self.reader.report(mistake.help("give the value a name in `params`, and write the name in quotes here"));
            return None;
        }
        let mut text = self.reader.text(raw)?;
        self.renames.rename_name(&mut text.value);
        let found = self.graph.params.values().position(|param| param.name == text.value);
        if found.is_none() {
            let place = self.reader.place(text.raw);
            let names = self.graph.params.values().map(|param| param.name.as_str());
            let mistake = Diagnostic::new("T0202", place, format!("there is no setting `{}`", text.value));
            let is_size = self.graph.dims.values().any(|dim| dim.name == text.value);
            let help = if is_size {
                format!("it is a size: define a setting from it in `params`, `\"…\": \"{}\"`", text.value)
            } else {
                suggest(&text.value, names)
            };
            self.reader.report(mistake.help(help));
        }
        found.map(ParamId::new)
    }
}

/// What was read, or anything where that failed: the name is defined, and the mistake has been reported.
fn or_anything(read: Option<(Text<'_>, Expr)>) -> Expr {
    read.map_or(Expr::Number(0.0), |(_, expr)| expr)
}
