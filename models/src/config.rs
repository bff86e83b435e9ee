//! A `config.json` as graphs look into it.

use serde_json::Value;
use trefoil_ir::graph::Literal;

/// The value at a dotted path such as `rope_scaling.factor`; `None` for a key that is not there, and for null.
pub fn lookup(config: &Value, path: &str) -> Option<Literal> {
    let value = path.split('.').try_fold(config, |value, key| value.get(key))?;
    Some(literal(value)).filter(|literal| *literal != Literal::None)
}

fn literal(value: &Value) -> Literal {
    match value {
        Value::Null => Literal::None,
        Value::Bool(value) => Literal::Bool(*value),
        Value::Number(value) => value.as_f64().map_or_else(|| Literal::Text(value.to_string()), Literal::Number),
        Value::String(value) => Literal::Text(value.clone()),
        Value::Array(values) => Literal::List(values.iter().map(literal).collect()),
        // Equals nothing that a graph can expect, and is no number either.
        object @ Value::Object(_) => Literal::Text(object.to_string()),
    }
}
