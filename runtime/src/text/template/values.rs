//! Values as Python writes them: numbers, and what `{{ [..] }}` and `|string` print.

use std::fmt::Write;

use minijinja::value::{Tuple, Value, ValueKind};

/// `str(value)`.
pub(super) fn text(value: &Value) -> String {
    match value.kind() {
        ValueKind::String => value.as_str().map_or_else(|| value.to_string(), str::to_owned),
        ValueKind::Undefined => String::new(),
        _ => repr(value),
    }
}

/// `repr(value)`.
fn repr(value: &Value) -> String {
    match value.kind() {
        ValueKind::String => quoted(value.as_str().unwrap_or_default()),
        ValueKind::Number if !value.is_integer() => {
            f64::try_from(value.clone()).map_or_else(|_| value.to_string(), number)
        }
        ValueKind::Seq | ValueKind::Iterable => list(value).unwrap_or_else(|| value.to_string()),
        ValueKind::Map => dict(value).unwrap_or_else(|| value.to_string()),
        ValueKind::Undefined => "Undefined".to_owned(),
        _ => value.to_string(),
    }
}

fn list(value: &Value) -> Option<String> {
    let items: Vec<_> = value.try_iter().ok()?.map(|item| repr(&item)).collect();
    let is_tuple = value.downcast_object_ref::<Tuple>().is_some();
    Some(match items.as_slice() {
        [single] if is_tuple => format!("({single},)"),
        items if is_tuple => format!("({})", items.join(", ")),
        items => format!("[{}]", items.join(", ")),
    })
}

fn dict(value: &Value) -> Option<String> {
    let entry = |key: Value| Some(format!("{}: {}", repr(&key), repr(&value.get_item(&key).ok()?)));
    let entries: Option<Vec<_>> = value.try_iter().ok()?.map(entry).collect();
    Some(format!("{{{}}}", entries?.join(", ")))
}

/// In single quotes, unless that would need more escapes than double ones.
fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for character in text.chars() {
        let code = u32::from(character);
        // Writing to a string cannot fail.
        let _ = match character {
            '\n' => out.write_str("\\n"),
            '\r' => out.write_str("\\r"),
            '\t' => out.write_str("\\t"),
            '\\' => out.write_str("\\\\"),
            _ if character == quote => write!(out, "\\{character}"),
            _ if is_printable(character) => out.write_char(character),
            _ if code < 0x100 => write!(out, "\\x{code:02x}"),
            _ if code < 0x1_0000 => write!(out, "\\u{code:04x}"),
            _ => write!(out, "\\U{code:08x}"),
        };
    }
    out.push(quote);
    out
}

/// Python escapes control and format characters, and all blanks but the space.
fn is_printable(character: char) -> bool {
    let is_format = matches!(character, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e000}'..='\u{f8ff}');
    character == ' ' || !(character.is_control() || character.is_whitespace() || is_format)
}

/// `repr` of a float: the shortest digits that give it back; with an exponent below 1e-4 and from 1e16 on.
pub(super) fn number(value: f64) -> String {
    if !value.is_finite() {
        return if value.is_nan() { "nan".to_owned() } else { format!("{value}") };
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        return format!("{value:?}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    // Expected texts are those of Python's `repr`.
    #[test]
    fn numbers_are_python_s() {
        let cases = [
            (1.0, "1.0"),
            (-0.5, "-0.5"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (0.0001, "0.0001"),
            (0.000_01, "1e-05"),
            (-1.25e-7, "-1.25e-07"),
            (123_456_789.125, "123456789.125"),
        ];
        for (value, expected) in cases {
            assert_eq!(number(value), expected);
        }
    }

    #[test]
    fn values_are_python_s() {
        let value = serde_json::json!({"a": [1, 1e16, null, true, "it's", "é\u{a0}\n"], "b": {}});
        assert_eq!(
            text(&Value::from(minijinja::value::Serde(&value))),
            r#"{'a': [1, 1e+16, None, True, "it's", 'é\xa0\n'], 'b': {}}"#
        );
        assert_eq!(text(&Value::from("it's")), "it's");
    }
}
