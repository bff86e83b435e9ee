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
}

impl Bound {
    /// The value of a dim at these sizes, `None` where it depends on the step.
    pub fn size(&self, dim: &Dim) -> Option<u64> {
        dim.evaluate(&|name| self.dims.get(name).copied())
    }

    /// How many layers of the graph have the text of `block`; 1 for the main body.
    pub fn num_layers(&self, graph: &Graph, block: Option<BlockId>) -> u64 {
        let Some(block) = block else { return 1 };
        let of_one = |node: &Node| {
            let Op::Repeat { blocks, times, .. } = &node.op else { return 0 };
            let turns = 0..self.size(times).unwrap_or(0);
            turns.filter(|turn| blocks[(*turn as usize) % blocks.len()] == block).count() as u64
        };
        graph.nodes.iter().map(of_one).sum()
    }

    /// How many parameters the weights of the graph have, every tensor stored apart.
    pub fn num_parameters(&self, graph: &Graph) -> u64 {
        let of_one =
            |weight: &Weight| self.size(&weight.elements()).unwrap_or(0) * self.num_layers(graph, weight.block);
        graph.weights.values().map(of_one).sum()
    }
}

/// A configuration: the value at a path such as `rope_scaling.factor`; absent keys and null are `None`.
pub trait Lookup: Fn(&str) -> Option<Literal> {}
impl<F: Fn(&str) -> Option<Literal>> Lookup for F {}

/// Gives every dim and param its value, and checks what the graph expects. All faults at once.
pub fn bind(graph: &Graph, config: &impl Lookup) -> Result<Bound, Vec<Diagnostic>> {
    let mut faults: Vec<_> = graph.expects.iter().filter_map(|expectation| unmet(expectation, config)).collect();
    let mut bound = Bound::default();
    for definition in graph.dims.values() {
        match evaluate(definition, config, &bound).and_then(|value| whole(definition, value)) {
            Ok(Some(size)) => drop(bound.dims.insert(definition.name.clone(), size)),
            Ok(None) => {}
            Err(fault) => faults.push(fault),
        }
    }
    for definition in graph.params.values() {
        match evaluate(definition, config, &bound) {
            Ok(value) => bound.params.extend(value.map(|value| (definition.name.clone(), value))),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() { Ok(bound) } else { Err(faults) }
}

fn unmet(expectation: &Expectation, config: &impl Lookup) -> Option<Diagnostic> {
    let found = config(&expectation.key).unwrap_or(Literal::None);
    if expectation.one_of.contains(&found) {
        return None;
    }
    let wanted: Vec<_> = expectation.one_of.iter().map(Literal::to_string).collect();
    let message = format!("`{}` is {found} in the config; this graph serves {}", expectation.key, wanted.join(" or "));
    Some(Diagnostic::new("T0604", expectation.place, message).help("choose or write a graph that serves this value"))
}

fn whole(definition: &Definition, value: Option<f64>) -> Result<Option<u64>, Diagnostic> {
    let Some(value) = value else { return Ok(None) };
    if value >= 0.0 && value.fract() == 0.0 && value < 2f64.powi(53) {
        return Ok(Some(value as u64));
    }
    let message = format!("size `{}` = {} is {value}, not a whole number", definition.name, definition.value);
    Err(Diagnostic::new("T0603", definition.place, message).help("correct the config's values that it is made of"))
}

/// The value; `Ok(None)` where it depends on the step, or on a definition that has failed and been reported.
fn evaluate(definition: &Definition, config: &impl Lookup, bound: &Bound) -> Result<Option<f64>, Diagnostic> {
    match value_of(&definition.value, definition.place, config, bound)? {
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

enum Found {
    Value(f64),
    Absent,
    Unknown,
}

fn value_of(expr: &Expr, place: Place, config: &impl Lookup, bound: &Bound) -> Result<Found, Diagnostic> {
    match expr {
        Expr::Step => Ok(Found::Unknown),
        Expr::Number(number) => Ok(Found::Value(*number)),
        Expr::Name(name) => {
            let size = bound.dims.get(name).map(|&size| size as f64);
            Ok(size.or_else(|| bound.params.get(name).copied()).map_or(Found::Unknown, Found::Value))
        }
        Expr::Config(path) => match config(path) {
            None | Some(Literal::None) => Ok(Found::Absent),
            Some(Literal::Number(number)) => Ok(Found::Value(number)),
            Some(other) => {
                Err(Diagnostic::new("T0602", place, format!("`{path}` is {other} in the config, not a number")))
            }
        },
        Expr::Binary(operator, a, b) => {
            let (a, b) = (value_of(a, place, config, bound)?, value_of(b, place, config, bound)?);
            Ok(match (a, b) {
                (Found::Value(a), Found::Value(b)) => Found::Value(combine(*operator, a, b)),
                (Found::Absent, _) | (_, Found::Absent) => Found::Absent,
                (Found::Unknown, _) | (_, Found::Unknown) => Found::Unknown,
            })
        }
        Expr::First(choices) => {
            for choice in choices {
                match value_of(choice, place, config, bound)? {
                    Found::Absent => {}
                    found @ (Found::Value(_) | Found::Unknown) => return Ok(found),
                }
            }
            Ok(Found::Absent)
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
            Literal::Bool(value) => write!(f, "{value}"),
            Literal::Number(value) => write!(f, "{value}"),
            Literal::Text(value) => write!(f, "{value:?}"),
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
            "name" => Some(Literal::Text("x".into())),
            _ => None,
        }
    }

    fn fault(value: &str) -> &'static str {
        let bound = Bound::default();
        let definition = definition("it", value);
        evaluate(&definition, &config, &bound).and_then(|value| whole(&definition, value)).unwrap_err().code
    }

    #[test]
    fn the_first_key_that_exists_gives_the_value() {
        let bound = Bound { dims: [("hidden".to_owned(), 64)].into(), ..Bound::default() };
        let value = |text: &str| evaluate(&definition("it", text), &config, &bound).unwrap();
        assert_eq!(value("config.head_dim ?? hidden / 4"), Some(16.0));
        assert_eq!(value("config.hidden_size ?? 1"), Some(64.0));
        assert_eq!(value("step"), None);
    }

    #[test]
    fn faults_have_their_codes() {
        assert_eq!(fault("config.nowhere"), "T0601");
        assert_eq!(fault("config.name"), "T0602");
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
