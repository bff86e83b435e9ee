//! How a checkpoint holds a tensor, as text: `transposed rows [3 * hidden, hidden] plus 1`, printed and read.

use super::cursor::Cursor;
use crate::diag::Diagnostic;
use crate::graph::{Slice, Stored};
use crate::infer::shape;

/// The words after a tensor's sizes, each with a space before it; nothing for one that is held as it is read.
pub(super) fn print(stored: &Stored) -> String {
    let transposed = if stored.transposed { " transposed" } else { "" };
    let rows = stored.slice.as_ref().map_or_else(String::new, |Slice { of, from, stride }| {
        let stride = stride.iter().flat_map(|(take, every)| [take.clone(), every.clone()]);
        format!(" rows {}", shape(&[of.clone(), from.clone()].into_iter().chain(stride).collect::<Vec<_>>()))
    });
    let plus = if stored.plus == 0.0 { String::new() } else { format!(" plus {}", stored.plus) };
    format!("{transposed}{rows}{plus}")
}

pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Stored, Diagnostic> {
    let mut stored = Stored::default();
    if cursor.peek() == "transposed" {
        cursor.keyword("transposed")?;
        stored.transposed = true;
    }
    if cursor.peek() == "rows" {
        cursor.keyword("rows")?;
        stored.slice = Some(slice(cursor)?);
    }
    if cursor.peek() == "plus" {
        cursor.keyword("plus")?;
        stored.plus = cursor.number()?;
    }
    Ok(stored)
}

fn slice(cursor: &mut Cursor<'_>) -> Result<Slice, Diagnostic> {
    let at = cursor.clone();
    let sizes = cursor.list(Cursor::dim)?;
    match <[_; 4]>::try_from(sizes) {
        Ok([of, from, take, every]) => Ok(Slice { of, from, stride: Some((take, every)) }),
        Err(sizes) => match <[_; 2]>::try_from(sizes) {
            Ok([of, from]) => Ok(Slice { of, from, stride: None }),
            Err(_) => Err(at.error("rows of a tensor have two sizes, or four: of, from, take, every")),
        },
    }
}
