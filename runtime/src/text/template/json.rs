//! JSON as Python's `json.dumps` writes it, which is what templates were tried with.
//!
//! The default has a space after commas and colons; `indent` breaks lines; nothing is escaped for HTML.

use std::fmt::Write;

use serde_json::Value;

use super::values;

/// The keyword arguments of `json.dumps` that templates use.
#[derive(Debug, Clone, Default)]
pub(super) struct Style {
    /// What a level is indented by, on lines of their own; `None` writes one line.
    pub(super) indent: Option<String>,
    /// Writes characters beyond ASCII as `\uXXXX`.
    pub(super) ensure_ascii: bool,
    /// Orders objects by key.
    pub(super) sort_keys: bool,
    /// Between items, and between key and value.
    pub(super) separators: Option<(String, String)>,
}

/// `value` as text.
pub(super) fn dumps(value: &Value, style: &Style) -> String {
    let mut writer = Writer { style, out: String::new() };
    writer.value(value, 0);
    writer.out
}

struct Writer<'a> {
    style: &'a Style,
    out: String,
}

impl Writer<'_> {
    fn value(&mut self, value: &Value, level: usize) {
        match value {
            Value::Number(number) if number.is_f64() => {
                self.out.push_str(&number.as_f64().map_or_else(|| number.to_string(), values::number));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => self.out.push_str(&value.to_string()),
            Value::String(text) => self.string(text),
            Value::Array(items) => {
                self.list('[', ']', items.iter(), level, |writer, item| writer.value(item, level + 1));
            }
            Value::Object(map) => {
                let mut entries: Vec<_> = map.iter().collect();
                if self.style.sort_keys {
                    entries.sort_by_key(|&(key, _)| key);
                }
                self.list('{', '}', entries.into_iter(), level, |writer, (key, value)| {
                    writer.string(key);
                    writer.key_separator();
                    writer.value(value, level + 1);
                });
            }
        }
    }

    fn list<T>(
        &mut self,
        open: char,
        close: char,
        items: impl ExactSizeIterator<Item = T>,
        level: usize,
        mut each: impl FnMut(&mut Self, T),
    ) {
        self.out.push(open);
        let is_empty = items.len() == 0;
        for (place, item) in items.enumerate() {
            if place > 0 {
                self.item_separator();
            }
            self.new_line(level + 1);
            each(self, item);
        }
        if !is_empty {
            self.new_line(level);
        }
        self.out.push(close);
    }

    fn new_line(&mut self, level: usize) {
        if let Some(indent) = &self.style.indent {
            self.out.push('\n');
            self.out.push_str(&indent.repeat(level));
        }
    }

    fn item_separator(&mut self) {
        let default = if self.style.indent.is_some() { "," } else { ", " };
        let separators = self.style.separators.as_ref();
        self.out.push_str(separators.map_or(default, |(item, _)| item));
    }

    fn key_separator(&mut self) {
        let separators = self.style.separators.as_ref();
        self.out.push_str(separators.map_or(": ", |(_, key)| key));
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for character in text.chars() {
            self.character(character);
        }
        self.out.push('"');
    }

    fn character(&mut self, character: char) {
        match character {
            '"' => self.out.push_str("\\\""),
            '\\' => self.out.push_str("\\\\"),
            '\n' => self.out.push_str("\\n"),
            '\r' => self.out.push_str("\\r"),
            '\t' => self.out.push_str("\\t"),
            '\u{8}' => self.out.push_str("\\b"),
            '\u{c}' => self.out.push_str("\\f"),
            _ if character < ' ' || (self.style.ensure_ascii && character > '~') => self.escape(character),
            _ => self.out.push(character),
        }
    }

    fn escape(&mut self, character: char) {
        for unit in character.encode_utf16(&mut [0; 2]) {
            // Writing to a string cannot fail.
            let _ = write!(self.out, "\\u{unit:04x}");
        }
    }
}
