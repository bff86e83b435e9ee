//! Methods of Python's texts, lists and dicts that minijinja-contrib lacks or has otherwise.

use minijinja::value::{Kwargs, Rest, Tuple, Value, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State};
use minijinja_contrib::pycompat::unknown_method_callback;

/// Calls a method of a value.
pub(super) fn call(state: &mut State<'_, '_>, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let own = match value.kind() {
        ValueKind::String => value.as_str().map_or(Ok(None), |text| of_text(text, method, args)),
        ValueKind::Seq | ValueKind::Map => of_collection(value, method, args),
        _ => Ok(None),
    };
    match own? {
        Some(result) => Ok(result),
        None => unknown_method_callback(state, value, method, args),
    }
}

/// `None` for methods that others know.
fn of_text(text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    Ok(Some(match method {
        "split" => split(text, args, false)?,
        "rsplit" => split(text, args, true)?,
        "partition" => parts(text, args, str::split_once, |text| [text, "", ""])?,
        "rpartition" => parts(text, args, str::rsplit_once, |text| ["", "", text])?,
        "splitlines" => lines(text, args)?,
        "removeprefix" => with_one(args, |affix| text.strip_prefix(affix).unwrap_or(text).into())?,
        "removesuffix" => with_one(args, |affix| text.strip_suffix(affix).unwrap_or(text).into())?,
        "startswith" | "endswith" if args.len() > 1 => {
            let (affix, part) = (required(args)?, between(text, args)?.1);
            (if method == "startswith" { part.starts_with(affix) } else { part.ends_with(affix) }).into()
        }
        "find" | "rfind" | "index" | "rindex" => place(text, method, args)?,
        "zfill" => zfill(text, from_args::<(usize,)>(args)?.0).into(),
        "ljust" | "rjust" | "center" => justified(text, method, args)?.into(),
        "title" => title(text).into(),
        "swapcase" => text.chars().map(swapped).collect::<String>().into(),
        "casefold" => text.to_lowercase().replace('ß', "ss").into(),
        "isdecimal" => (!text.is_empty() && text.chars().all(char::is_numeric)).into(),
        "istitle" => (text.chars().any(char::is_alphabetic) && title(text) == text).into(),
        _ => return Ok(None),
    }))
}

fn of_collection(value: &Value, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    match (method, value.kind()) {
        ("copy", _) => Ok(Some(value.clone())),
        ("index", ValueKind::Seq) => {
            let (wanted,): (&Value,) = from_args(args)?;
            let place = value.try_iter()?.position(|item| item == *wanted);
            place.map(|place| Some(place.into())).ok_or_else(|| failure(format!("{wanted} is not in list")))
        }
        _ => Ok(None),
    }
}

fn failure(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

fn required(args: &[Value]) -> Result<&str, Error> {
    args.first().and_then(Value::as_str).ok_or_else(|| failure("the method takes a text"))
}

fn with_one(args: &[Value], of: impl Fn(&str) -> Value) -> Result<Value, Error> {
    let (text,): (&str,) = from_args(args)?;
    Ok(of(text))
}

/// `split(sep=None, maxsplit=-1)`, from the left or from the right.
fn split(text: &str, args: &[Value], from_right: bool) -> Result<Value, Error> {
    let (rest, kwargs): (Rest<Value>, Kwargs) = from_args(args)?;
    let mut positional = rest.0.into_iter();
    let separator = positional.next().or(kwargs.get("sep")?).filter(|sep| !sep.is_none() && !sep.is_undefined());
    let most = positional.next().or(kwargs.get("maxsplit")?).map_or(Ok(-1), i64::try_from)?;
    kwargs.assert_all_used()?;
    let most = usize::try_from(most).unwrap_or(usize::MAX - 1);
    let Some(separator) = separator else { return Ok(Value::from(words(text, most, from_right))) };
    let separator = separator.as_str().filter(|text| !text.is_empty());
    let separator = separator.ok_or_else(|| failure("split takes a separator that is a text and not empty"))?;
    let pieces: Vec<&str> = if from_right {
        let mut pieces: Vec<_> = text.rsplitn(most + 1, separator).collect();
        pieces.reverse();
        pieces
    } else {
        text.splitn(most + 1, separator).collect()
    };
    Ok(pieces.into_iter().map(Value::from).collect())
}

/// The words of a text; after `most` splits the rest stays whole.
fn words(text: &str, most: usize, from_right: bool) -> Vec<String> {
    let mut words = vec![];
    let mut rest = text.trim();
    while !rest.is_empty() {
        let cut = if from_right { rest.rsplit_once(char::is_whitespace) } else { rest.split_once(char::is_whitespace) };
        let Some((left, right)) = cut.filter(|_| words.len() < most) else {
            words.push(rest.to_owned());
            break;
        };
        let (word, others) = if from_right { (right, left) } else { (left, right) };
        words.push(word.to_owned());
        rest = others.trim();
    }
    if from_right {
        words.reverse();
    }
    words
}

fn parts<'a>(
    text: &'a str,
    args: &[Value],
    cut: impl Fn(&'a str, &'a str) -> Option<(&'a str, &'a str)>,
    uncut: impl Fn(&'a str) -> [&'a str; 3],
) -> Result<Value, Error> {
    let (separator,): (String,) = from_args(args)?;
    // The separator as a piece of the text itself, so that both live as long.
    let own = text.find(&separator).map(|start| &text[start..start + separator.len()]);
    let pieces = match own.and_then(|own| cut(text, own).map(|(left, right)| [left, own, right])) {
        Some(pieces) => pieces,
        None => uncut(text),
    };
    Ok(Value::from(Tuple::from(pieces.map(Value::from).to_vec())))
}

/// Lines end where Python's do, which is in more places than after `\n`.
fn lines(text: &str, args: &[Value]) -> Result<Value, Error> {
    const ENDS: [char; 10] =
        ['\n', '\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}', '\u{2029}'];
    let (keep,): (Option<bool>,) = from_args(args)?;
    let mut lines = vec![];
    let mut rest = text;
    while let Some(end) = rest.find(ENDS) {
        let length =
            if rest[end..].starts_with("\r\n") { 2 } else { rest[end..].chars().next().map_or(1, char::len_utf8) };
        lines.push(&rest[..if keep.unwrap_or(false) { end + length } else { end }]);
        rest = &rest[end + length..];
    }
    lines.extend((!rest.is_empty()).then_some(rest));
    Ok(lines.into_iter().map(Value::from).collect())
}

/// The part of a text between the characters that the second and third argument name, and at which one it begins.
fn between<'a>(text: &'a str, args: &[Value]) -> Result<(usize, &'a str), Error> {
    let length = text.chars().count();
    let bound = |argument: Option<&Value>, default: usize| match argument.filter(|value| !value.is_none()) {
        Some(value) => i64::try_from(value.clone()).map(|place| {
            let place = if place < 0 { place + length as i64 } else { place };
            usize::try_from(place).unwrap_or(0).min(length)
        }),
        None => Ok(default),
    };
    let (start, end) = (bound(args.get(1), 0)?, bound(args.get(2), length)?);
    let byte = |place: usize| text.char_indices().nth(place).map_or(text.len(), |(byte, _)| byte);
    Ok((start, text.get(byte(start)..byte(end)).unwrap_or_default()))
}

fn place(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let (wanted, (start, part)) = (required(args)?, between(text, args)?);
    let found = if method.starts_with('r') { part.rfind(wanted) } else { part.find(wanted) };
    match found {
        Some(byte) => Ok((start + part[..byte].chars().count()).into()),
        None if method.ends_with("find") => Ok((-1).into()),
        None => Err(failure("substring not found")),
    }
}

fn zfill(text: &str, width: usize) -> String {
    let (sign, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) => text.split_at(text.len() - digits.len()),
        None => ("", text),
    };
    let zeros = width.saturating_sub(text.chars().count()).min(super::OUTPUT_CAP_BYTES);
    format!("{sign}{}{digits}", "0".repeat(zeros))
}

fn justified(text: &str, method: &str, args: &[Value]) -> Result<String, Error> {
    let (width, fill): (usize, Option<char>) = from_args(args)?;
    let length = text.chars().count();
    let missing = width.saturating_sub(length).min(super::OUTPUT_CAP_BYTES);
    let left = match method {
        "ljust" => 0,
        "rjust" => missing,
        // Python puts the odd one to the left where the width is odd.
        _ => missing / 2 + (missing & width & 1),
    };
    let blanks = |number: usize| fill.unwrap_or(' ').to_string().repeat(number);
    Ok(format!("{}{text}{}", blanks(left), blanks(missing - left)))
}

/// Every letter after something that is none becomes large, the others small.
fn title(text: &str) -> String {
    let mut is_inside = false;
    let mut out = String::new();
    for character in text.chars() {
        if is_inside {
            out.extend(character.to_lowercase())
        } else {
            out.extend(character.to_uppercase())
        }
        is_inside = character.is_alphabetic();
    }
    out
}

fn swapped(character: char) -> String {
    if character.is_uppercase() { character.to_lowercase().collect() } else { character.to_uppercase().collect() }
}
