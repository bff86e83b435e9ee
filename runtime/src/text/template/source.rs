//! What is rewritten in a template's source, since minijinja knows no custom tags and reads raw blocks otherwise.
//!
//! `{% generation %}` marks text for training; it becomes a block that is always taken. A raw block becomes a text in
//! quotes: Jinja keeps the line break after `{% raw %}`, minijinja drops it.

/// The source with its generation and raw blocks replaced, and as in Jinja, line breaks of other systems.
pub(super) fn rewritten(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(source.len());
    let mut rest = source.as_str();
    while let Some((before, tag, after)) = next_tag(rest) {
        out.push_str(before);
        rest = after;
        match tag.word() {
            "generation" => out.push_str(&tag.as_block("if true")),
            "endgeneration" => out.push_str(&tag.as_block("endif")),
            "raw" => match raw(&tag, after) {
                Some((text, after)) => {
                    out.push_str(&text);
                    rest = after;
                }
                None => out.push_str(tag.whole),
            },
            _ => out.push_str(tag.whole),
        }
    }
    out.push_str(rest);
    out
}

/// A block tag as it is written, `{%- raw %}`.
struct Tag<'a> {
    whole: &'a str,
}

impl<'a> Tag<'a> {
    fn inside(&self) -> &'a str {
        self.whole.trim_start_matches("{%").trim_end_matches("%}")
    }

    fn word(&self) -> &'a str {
        self.inside().trim_matches(['-', '+']).trim()
    }

    fn as_block(&self, word: &str) -> String {
        self.whole.replace(self.word(), word)
    }

    fn trims_before(&self) -> bool {
        self.inside().starts_with('-')
    }

    fn trims_after(&self) -> bool {
        self.inside().ends_with('-')
    }
}

/// The next block tag outside comments, with what stands before and after it.
fn next_tag(source: &str) -> Option<(&str, Tag<'_>, &str)> {
    let mut from = 0;
    loop {
        let start = from + source[from..].find("{%")?;
        let comment = source[from..start].rfind("{#").map(|comment| from + comment);
        if let Some(comment) = comment.filter(|comment| !source[*comment..start].contains("#}")) {
            from = comment + source[comment..].find("#}")? + 2;
            continue;
        }
        let end = start + source[start..].find("%}")? + 2;
        return Some((&source[..start], Tag { whole: &source[start..end] }, &source[end..]));
    }
}

/// A raw block as a text in quotes inside a block that trims as the raw block does; and what follows it.
fn raw<'a>(open: &Tag<'_>, source: &'a str) -> Option<(String, &'a str)> {
    let mut from = 0;
    loop {
        let (before, close, after) = next_raw_tag(source, from)?;
        if close.word() != "endraw" {
            from = source.len() - after.len();
            continue;
        }
        let text = if open.trims_after() { before.trim_start() } else { before };
        let text = if close.trims_before() { text.trim_end() } else { without_indent(text, close.inside()) };
        let mut quoted = String::new();
        for character in text.chars() {
            match character {
                '"' | '\\' => quoted.extend(['\\', character]),
                '\n' => quoted.push_str("\\n"),
                _ => quoted.push(character),
            }
        }
        let (sign, end_sign) = (if open.trims_before() { "-" } else { "" }, if close.trims_after() { "-" } else { "" });
        return Some((format!("{{%{sign} if true %}}{{{{ \"{quoted}\" }}}}{{% endif {end_sign}%}}"), after));
    }
}

fn next_raw_tag(source: &str, from: usize) -> Option<(&str, Tag<'_>, &str)> {
    let start = from + source[from..].find("{%")?;
    let end = start + source[start..].find("%}")? + 2;
    Some((&source[..start], Tag { whole: &source[start..end] }, &source[end..]))
}

/// Blanks between the start of a line and a tag are dropped, unless the tag says `+`.
fn without_indent<'a>(text: &'a str, tag: &str) -> &'a str {
    match text.rfind('\n') {
        Some(end) if !tag.starts_with('+') && text[end..].trim().is_empty() => &text[..=end],
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_generation_and_raw_blocks_change() {
        let same = "{% if a %}{# {% raw %} #}{{ generation }}{% endif %} {% set x = 'generation' %}";
        assert_eq!(rewritten(same), same);
        assert_eq!(rewritten("{%- generation -%}x{% endgeneration %}"), "{%- if true -%}x{% endif %}");
        assert_eq!(
            rewritten("{% raw %}\n{{ a }} \"\\\n  {% endraw %}y"),
            "{% if true %}{{ \"\\n{{ a }} \\\"\\\\\\n\" }}{% endif %}y"
        );
        assert_eq!(rewritten("{%- raw -%} a {%- endraw -%}"), "{%- if true %}{{ \"a\" }}{% endif -%}");
        assert_eq!(rewritten("{% raw %}{% for %}"), "{% raw %}{% for %}");
        assert_eq!(rewritten("a\r\nb\rc"), "a\nb\nc");
    }
}
