//! Where minijinja's values, tests and filters differ from those of Jinja and Python.

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Environment, Error, State};

use super::{methods, values};

/// Makes an environment behave as Jinja's.
pub(super) fn install(environment: &mut Environment<'_>) {
    environment.set_unknown_method_callback(methods::call);
    environment.set_formatter(|out, state, value| match value.kind() {
        ValueKind::Number | ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => {
            out.write_str(&values::text(value)).map_err(Error::from)
        }
        _ => minijinja::escape_formatter(out, state, value),
    });
    environment.add_test("iterable", is_iterable);
    environment.add_test("sequence", is_iterable);
    environment.add_test("number", is_number);
    environment.add_test("callable", is_callable);
    environment.add_filter("string", |value: &Value| values::text(value));
    environment.add_filter("length", length);
    environment.add_filter("count", length);
    environment.add_filter("int", int);
    environment.add_filter("indent", indent);
    environment.add_filter("replace", replace);
    environment.add_filter("wordcount", |text: String| text.split_whitespace().count());
    environment.add_filter("center", center);
    environment.add_filter("truncate", minijinja_contrib::filters::truncate);
    environment.add_filter("striptags", minijinja_contrib::filters::striptags);
    environment.add_filter("filesizeformat", minijinja_contrib::filters::filesizeformat);
    environment.add_function("joiner", minijinja_contrib::globals::joiner);
    environment.add_function("cycler", minijinja_contrib::globals::cycler);
}

/// Has `iter()`. What Jinja calls a sequence has `len()` and `[]`, which in templates comes to the same.
fn is_iterable(value: &Value) -> bool {
    match value.kind() {
        ValueKind::String | ValueKind::Seq | ValueKind::Map | ValueKind::Iterable | ValueKind::Undefined => true,
        ValueKind::None | ValueKind::Bool | ValueKind::Number | ValueKind::Bytes => false,
        _ => value.try_iter().is_ok(),
    }
}

/// Python's booleans are numbers.
fn is_number(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Number | ValueKind::Bool)
}

/// Macros and functions; everything else that templates handle is data.
fn is_callable(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Plain)
}

/// What is undefined has no elements, as in Jinja.
fn length(value: &Value) -> Result<usize, Error> {
    if value.is_undefined() { Ok(0) } else { minijinja::filters::length(value) }
}

/// `int(default=0)`: the default where there is no number to be had.
fn int(
    state: &State<'_, '_>,
    value: &Value,
    default: Option<Value>,
    base: Option<u32>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    let default = default.or(kwargs.get("default")?).unwrap_or(Value::from(0));
    minijinja::filters::int(state, value, Some(default), base, kwargs)
}

/// `indent(width=4, first=False, blank=False)`; the width may be the text itself.
fn indent(
    text: String,
    width: Option<Value>,
    first: Option<bool>,
    blank: Option<bool>,
    kwargs: Kwargs,
) -> Result<String, Error> {
    let flag = |given: Option<bool>, name| Ok::<_, Error>(given.or(kwargs.get(name)?).unwrap_or(false));
    let (first, blank) = (flag(first, "first")?, flag(blank, "blank")?);
    let width = width.or(kwargs.get("width")?).unwrap_or(Value::from(4));
    kwargs.assert_all_used()?;
    let indent = match width.as_str() {
        Some(text) => text.to_owned(),
        None => " ".repeat(usize::try_from(width)?.min(super::OUTPUT_CAP_BYTES)),
    };
    let mut out = if first { indent.clone() } else { String::new() };
    for (number, line) in text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).enumerate() {
        if number > 0 {
            out.push('\n');
            out.push_str(if blank || !line.is_empty() { &indent } else { "" });
        }
        out.push_str(line);
    }
    Ok(out)
}

/// `replace(old, new, count=None)`.
fn replace(text: &Value, old: String, new: String, count: Option<usize>) -> String {
    let text = values::text(text);
    count.map_or_else(|| text.replace(&old, &new), |count| text.replacen(&old, &new, count))
}

/// `center(width=80)`.
fn center(state: &mut State<'_, '_>, text: &Value, width: Option<usize>) -> Result<Value, Error> {
    methods::call(state, &Value::from(values::text(text)), "center", &[Value::from(width.unwrap_or(80))])
}
