//! How mistakes of form are worded, and who was meant.

use ron::error::Error;

use crate::diag::{Diagnostic, Place, meant};

/// What ron and serde found wrong, in our words.
pub(super) fn of_form(error: Error, place: Place) -> Diagnostic {
    match error {
        Error::NoSuchEnumVariant { expected, found, outer } => {
            let kind = outer.unwrap_or_else(|| "variant".to_owned());
            Diagnostic::new("T0103", place, format!("there is no {kind} `{found}`"))
                .help(suggest(&found, expected.iter().copied()))
        }
        Error::NoSuchStructField { expected, found, outer } => {
            Diagnostic::new("T0104", place, format!("{} has no field `{found}`", subject(outer)))
                .help(suggest(&found, expected.iter().copied()))
        }
        Error::MissingStructField { field, outer } => {
            Diagnostic::new("T0105", place, format!("{} lacks the field `{field}`", subject(outer)))
                .help(format!("add `{field}: …`"))
        }
        Error::DuplicateStructField { field, outer } => {
            Diagnostic::new("T0106", place, format!("{} has the field `{field}` twice", subject(outer)))
                .help("keep one of them")
        }
        other => of_another_kind(&other, place),
    }
}

/// The file is no RON at all.
pub(super) fn of_syntax(error: &Error, place: Place) -> Diagnostic {
    Diagnostic::new("T0101", place, format!("this is not RON: {}", uncapitalised(&error.to_string())))
        .help("look for a missing quote, comma or bracket here or just before")
}

fn of_another_kind(error: &Error, place: Place) -> Diagnostic {
    let expected = match error {
        Error::SuggestRawIdentifier(_) | Error::InvalidIdentifier(_) => "expected a bare word".to_owned(),
        other => uncapitalised(&other.to_string()),
    };
    Diagnostic::new("T0102", place, format!("something else should stand here: {expected}"))
        .help("names and expressions are strings, `\"n1\"`; variants such as `Causal` are bare words")
}

fn subject(outer: Option<String>) -> String {
    outer.map_or_else(|| "this".to_owned(), |outer| format!("`{outer}`"))
}

fn uncapitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

/// A help line that names the candidate meant by `found`, or lists them all.
pub(super) fn suggest<'c>(found: &str, candidates: impl IntoIterator<Item = &'c str>) -> String {
    let candidates: Vec<&str> = candidates.into_iter().collect();
    match meant(found, &candidates) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if candidates.is_empty() => "nothing is known here yet: define it above".to_owned(),
        None => format!("known here: {}", list(&candidates)),
    }
}

fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
