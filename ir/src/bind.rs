//! Reads a graph's sizes and settings from a configuration.
//!
//! The compiled model does the same in generated code; this is the form for graphs that are only being looked at
//! (`trefoil check GRAPH --config config.json`) and for the oracle interpreter. Codes:
//!
//! | code | meaning |
//! |---|---|
//! | T0601 | no key gives a size or setting |
//! | T0602 | a key holds something that is not a number |
//! | T0603 | a size is not a whole number: a division leaves a rest, or a result is negative |
//! | T0604 | the configuration has a value that the graph does not serve |
//! | T0605 | a list of the layers' kinds that is no list, has another length, or names a kind that the graph lacks |
//! | T0606 | a setting is not a finite number: a division by zero, a root or logarithm of what has none |
//! | T0607 | sizes that do not go together: heads that are no multiple of the keys', rows beyond a tensor's end |

mod conditions;

pub use conditions::{Condition, conditions};

use std::collections::BTreeMap;

use crate::diag::{Diagnostic, Place};
use crate::dim::{Dim, Expr, Operator};
use crate::graph::{Definition, Expectation, Graph, Literal, Node, Weight};
use crate::ids::BlockId;
use crate::op::Op;

/// The sizes and settings of a graph at one configuration.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Bound {
    /// Sizes by name; those known only per step are absent.
    pub dims: BTreeMap<String, u64>,
    /// Settings by name.
    pub params: BTreeMap<String, f64>,
    /// Of each repeat, the text of each of its layers.
    pub repeats: Vec<Vec<BlockId>>,
    /// The longest sequence, in tokens; `None` where the graph does not say.
    pub context: Option<u64>,
}

impl Bound {
    /// The value of a dim at these sizes, `None` where it depends on the step.
    pub fn size(&self, dim: &Dim) -> Option<u64> {
        dim.evaluate(&|name| self.dims.get(name).copied())
    }

    /// How many layers have the text of `block`; 1 for the main body.
    pub fn num_layers(&self, block: Option<BlockId>) -> u64 {
        let Some(block) = block else { return 1 };
        self.repeats.iter().flatten().filter(|own| **own == block).count() as u64
    }

    /// How many parameters the weights of the graph have, every tensor stored apart.
    pub fn num_parameters(&self, graph: &Graph) -> u64 {
        let of_one = |weight: &Weight| self.size(&weight.elements()).unwrap_or(0) * self.num_layers(weight.block);
        graph.weights.values().map(of_one).sum()
    }
}

/// A configuration: the value at a path such as `rope_scaling.factor`; absent keys and null are `None`.
pub trait Lookup: Fn(&str) -> Option<Literal> {}
impl<F: Fn(&str) -> Option<Literal>> Lookup for F {}

/// Gives every dim and param its value and every layer its text, and checks what the graph expects. All faults at once.
pub fn bind(graph: &Graph, config: &impl Lookup) -> Result<Bound, Vec<Diagnostic>> {
    let mut faults: Vec<_> = graph.expects.iter().filter_map(|expectation| unmet(expectation, config)).collect();
    let mut bound = Bound::default();
    for definition in graph.dims.values() {
        match (Reading { config, bound: &bound, kind: Kind::Size }).size(definition) {
            Ok(size) => bound.dims.extend(size.map(|size| (definition.name.clone(), size))),
            Err(fault) => faults.push(fault),
        }
    }
    for definition in graph.params.values() {
        match (Reading { config, bound: &bound, kind: Kind::Setting }).evaluate(definition) {
            Ok(value) => bound.params.extend(value.map(|value| (definition.name.clone(), value))),
            Err(fault) => faults.push(fault),
        }
    }
    if let Some(context) = &graph.context {
        let (name, place) = ("context".to_owned(), Place::default());
        match (Reading { config, bound: &bound, kind: Kind::Size }).size(&Definition {
            name,
            value: context.clone(),
            place,
        }) {
            Ok(size) => bound.context = size,
            Err(fault) => faults.push(fault),
        }
    }
    for node in &graph.nodes {
        match layers(node, config, &bound) {
            Ok(layers) => bound.repeats.extend(layers),
            Err(fault) => faults.push(fault),
        }
    }
    faults.extend(conditions(graph).iter().filter_map(|condition| condition.fault(&bound)));
    if faults.is_empty() { Ok(bound) } else { Err(faults) }
}

/// The texts of a repeat's layers; `Ok(None)` for another node.
fn layers(node: &Node, config: &impl Lookup, bound: &Bound) -> Result<Option<Vec<BlockId>>, Diagnostic> {
    let Op::Repeat { blocks, pattern, times, .. } = &node.op else { return Ok(None) };
    // Where that is no number of layers, it has been or will be reported.
    let Some(num_layers) = bound.size(times).map(|times| times as usize) else { return Ok(Some(vec![])) };
    let found = pattern.keys.iter().find_map(|key| Some((key, config(key).filter(|found| *found != Literal::None)?)));
    let Some((key, kinds)) = found else {
        return Ok(Some((0..num_layers).map(|layer| blocks[pattern.turn(layer)]).collect()));
    };
    let fault = |what: String, help: &str| Err(Diagnostic::new("T0605", node.place, what).help(help));
    let Literal::List(kinds) = kinds else {
        return fault(format!("`{key}` is {kinds} in the config, not a list"), "it has one entry for each layer");
    };
    if kinds.len() != num_layers {
        let what = format!("`{key}` has {} entries in the config, and `{times}` layers are {num_layers}", kinds.len());
        return fault(what, "correct the config: it has one entry for each layer");
    }
    let block = |kind: &Literal| pattern.kinds.iter().find(|(own, _)| own == kind).map(|(_, at)| blocks[*at]);
    match kinds.iter().find(|kind| block(kind).is_none()) {
        None => Ok(Some(kinds.iter().filter_map(block).collect())),
        Some(kind) => {
            let known: Vec<_> = pattern.kinds.iter().map(|(kind, _)| kind.to_string()).collect();
            let what = format!("`{key}` has a layer of kind {kind} in the config; this graph has {}", known.join(", "));
            fault(what, "choose or write a graph that has layers of this kind")
        }
    }
}

fn unmet(expectation: &Expectation, config: &impl Lookup) -> Option<Diagnostic> {
    let found = config(&expectation.key).unwrap_or(Literal::None);
    if expectation.one_of.contains(&found) || expectation.one_of.contains(&Literal::Any) {
        return None;
    }
    let wanted: Vec<_> = expectation.one_of.iter().map(Literal::to_string).collect();
    let message = format!("`{}` is {found} in the config; this graph serves {}", expectation.key, wanted.join(" or "));
    Some(Diagnostic::new("T0604", expectation.place, message).help("choose or write a graph that serves this value"))
}

/// What a number is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A whole number.
    Size,
    /// Any number; true is 1 and false 0.
    Setting,
}

struct Reading<'a, L> {
    config: &'a L,
    bound: &'a Bound,
    kind: Kind,
}

enum Found {
    Value(f64),
    Absent,
    Unknown,
}

impl<L: Lookup> Reading<'_, L> {
    fn size(&self, definition: &Definition) -> Result<Option<u64>, Diagnostic> {
        let Some(value) = self.evaluate(definition)? else { return Ok(None) };
        if value >= 0.0 && value.fract() == 0.0 && value < 2f64.powi(53) {
            return Ok(Some(value as u64));
        }
        let message = format!("size `{}` = {} is {value}, not a whole number", definition.name, definition.value);
        Err(Diagnostic::new("T0603", definition.place, message).help("correct the config's values that it is made of"))
    }

    /// The value; `Ok(None)` where it depends on the step, or on a definition that has failed and been reported.
    fn evaluate(&self, definition: &Definition) -> Result<Option<f64>, Diagnostic> {
        match self.value_of(&definition.value, definition.place)? {
            Found::Value(value) => Ok(Some(value)),
            Found::Unknown => Ok(None),
            Found::Absent => {
                let paths = definition.value.config_paths().join("` or `");
                let message = format!("the config lacks `{paths}`, which `{}` is read from", definition.name);
                Err(Diagnostic::new("T0601", definition.place, message)
                    .help("add the key, or a default after `??` in the graph"))
            }
        }
    }

    fn value_of(&self, expr: &Expr, place: Place) -> Result<Found, Diagnostic> {
        match expr {
            Expr::Step => Ok(Found::Unknown),
            Expr::Number(number) => Ok(Found::Value(*number)),
            Expr::Name(name) => {
                let size = self.bound.dims.get(name).map(|&size| size as f64);
                let value = size.or_else(|| self.bound.params.get(name).copied());
                Ok(value.map_or(Found::Unknown, Found::Value))
            }
            Expr::Config(path) => self.key(path, place),
            Expr::Call(call, x) => match self.value_of(x, place)? {
                Found::Value(x) => self.finite(expr, call.of(x), || format!("{}({x})", call.name()), place),
                found @ (Found::Absent | Found::Unknown) => Ok(found),
            },
            Expr::Binary(operator, a, b) => {
                let (a, b) = (self.value_of(a, place)?, self.value_of(b, place)?);
                match (a, b) {
                    (Found::Value(a), Found::Value(b)) => {
                        self.finite(expr, combine(*operator, a, b), || format!("{a} {} {b}", operator.sign()), place)
                    }
                    (Found::Absent, _) | (_, Found::Absent) => Ok(Found::Absent),
                    (Found::Unknown, _) | (_, Found::Unknown) => Ok(Found::Unknown),
                }
            }
            Expr::First(choices) => {
                for choice in choices {
                    match self.value_of(choice, place)? {
                        Found::Absent => {}
                        found @ (Found::Value(_) | Found::Unknown) => return Ok(found),
                    }
                }
                Ok(Found::Absent)
            }
        }
    }

    /// The value of `expr`. Of a size, that it is not finite is told with all that makes it no whole number.
    fn finite(
        &self,
        expr: &Expr,
        value: f64,
        operation: impl Fn() -> String,
        place: Place,
    ) -> Result<Found, Diagnostic> {
        if value.is_finite() || self.kind == Kind::Size {
            return Ok(Found::Value(value));
        }
        let message = format!("`{expr}` is {} at this config, which is not a finite number", operation());
        Err(Diagnostic::new("T0606", place, message).help("correct the config's values that it is made of"))
    }

    fn key(&self, path: &str, place: Place) -> Result<Found, Diagnostic> {
        match (self.config)(path) {
            None | Some(Literal::None) => Ok(Found::Absent),
            Some(Literal::Number(number)) => Ok(Found::Value(number)),
            Some(Literal::Bool(value)) if self.kind == Kind::Setting => Ok(Found::Value(f64::from(u8::from(value)))),
            Some(other) => {
                let message = format!("`{path}` is {other} in the config, not a number");
                Err(Diagnostic::new("T0602", place, message).help("correct the config, or read another key"))
            }
        }
    }
}

fn combine(operator: Operator, a: f64, b: f64) -> f64 {
    match operator {
        Operator::Add => a + b,
        Operator::Sub => a - b,
        Operator::Mul => a * b,
        Operator::Div => a / b,
    }
}

impl std::fmt::Display for Literal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Literal::None => write!(f, "absent"),
            Literal::Any => write!(f, "anything"),
            Literal::Bool(value) => write!(f, "{value}"),
            Literal::Number(value) => write!(f, "{value}"),
            Literal::Text(value) => write!(f, "{value:?}"),
            Literal::List(values) => {
                let values: Vec<_> = values.iter().map(Literal::to_string).collect();
                write!(f, "[{}]", values.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(name: &str, value: &str) -> Definition {
        Definition { name: name.into(), value: Expr::parse(value).unwrap(), place: Place::default() }
    }

    fn config(path: &str) -> Option<Literal> {
        match path {
            "hidden_size" => Some(Literal::Number(64.0)),
            "heads" => Some(Literal::Number(6.0)),
            "is_so" => Some(Literal::Bool(true)),
            "name" => Some(Literal::Text("x".into())),
            _ => None,
        }
    }

    fn fault(value: &str) -> &'static str {
        let reading = Reading { config: &config, bound: &Bound::default(), kind: Kind::Size };
        reading.size(&definition("it", value)).unwrap_err().code
    }

    #[test]
    fn the_first_key_that_exists_gives_the_value() {
        let bound = Bound { dims: [("hidden".to_owned(), 64)].into(), ..Bound::default() };
        let reading = Reading { config: &config, bound: &bound, kind: Kind::Setting };
        let value = |text: &str| reading.evaluate(&definition("it", text)).unwrap();
        assert_eq!(value("config.head_dim ?? hidden / 4"), Some(16.0));
        assert_eq!(value("config.hidden_size ?? 1"), Some(64.0));
        assert_eq!(value("config.heads / sqrt(config.hidden_size)"), Some(0.75));
        assert_eq!(value("config.is_so + floor(2.9) + ln(1)"), Some(3.0));
        assert_eq!(value("step"), None);
    }

    #[test]
    fn faults_have_their_codes() {
        assert_eq!(fault("config.nowhere"), "T0601");
        assert_eq!(fault("config.name"), "T0602");
        assert_eq!(fault("config.is_so"), "T0602", "a size is no yes or no");
        assert_eq!(fault("config.hidden_size / config.heads"), "T0603");
    }

    #[test]
    fn an_expectation_names_the_key_and_both_values() {
        let one_of = vec![Literal::None, Literal::Text("y".into())];
        let expectation = Expectation { key: "name".into(), one_of, place: Place::default() };
        let fault = unmet(&expectation, &config).unwrap();
        assert_eq!(fault.message, r#"`name` is "x" in the config; this graph serves absent or "y""#);
        assert!(unmet(&Expectation { key: "other".into(), ..expectation }, &config).is_none());
    }
}
