//! A step as the engine forms it, turned into the tables that launches read.
//!
//! The engine's own rules are checked once more here: a step that breaks one would have a kernel read another
//! sequence's pages. It is refused before anything is launched.

use crate::executor::{Capacity, DeviceFault, Input, Part, Step};
use crate::launch::{SpanTable, StepTables, TokenSource};

/// The tables of a step.
///
/// # Errors
/// A step that the capacity does not allow.
pub(super) fn tables(step: &Step, capacity: &Capacity) -> Result<StepTables, DeviceFault> {
    let mut tables = StepTables { num_decode_rows: step.num_decodes as u32, ..StepTables::default() };
    for (index, part) in step.parts.iter().enumerate() {
        check_part(part, index < step.num_decodes, capacity)
            .map_err(|what| refused(format!("part {index}: {what}")))?;
        push_part(&mut tables, part);
    }
    let (num_rows, limit) = (tables.ids.len(), capacity.max_num_batched_tokens);
    if num_rows > limit {
        return Err(refused(format!("{num_rows} rows, at most {limit} are allowed")));
    }
    if step.num_decodes > step.parts.len() {
        return Err(refused(format!("{} decodes among {} parts", step.num_decodes, step.parts.len())));
    }
    check_last(&tables, capacity)?;
    Ok(tables)
}

/// Whether the rows whose logits are wanted exist and have room.
pub(super) fn check_last(tables: &StepTables, capacity: &Capacity) -> Result<(), DeviceFault> {
    let (num_rows, num_logits, limit) = (tables.ids.len(), tables.last.len(), capacity.max_num_seqs);
    if num_logits > limit {
        return Err(refused(format!("logits of {num_logits} rows, at most {limit} are allowed")));
    }
    match tables.last.iter().find(|row| **row as usize >= num_rows) {
        Some(row) => Err(refused(format!("logits of row {row} of {num_rows}"))),
        None => Ok(()),
    }
}

/// A step that is not run.
pub(super) fn refused(what: String) -> DeviceFault {
    DeviceFault { site: "the step itself".into(), what }
}

fn push_part(tables: &mut StepTables, part: &Part) {
    let (first_row, num_rows) = (tables.ids.len() as u32, part.num_tokens() as u32);
    match &part.input {
        Input::Known(tokens) => tables.ids.extend(tokens.iter().map(|token| TokenSource::Known(*token))),
        Input::LastSampled => tables.ids.push(TokenSource::LastSampled(part.slot)),
    }
    let position = part.position as u32;
    tables.positions.extend(position..position + num_rows);
    tables.spans.push(SpanTable {
        first_row,
        num_rows,
        position,
        pages: part.pages.iter().map(|page| page.0).collect(),
    });
    if part.sample.is_some() {
        tables.last.push(first_row + num_rows - 1);
    }
}

fn check_part(part: &Part, is_decode: bool, capacity: &Capacity) -> Result<(), String> {
    let num_tokens = part.num_tokens();
    if num_tokens == 0 || (is_decode && num_tokens > 1) {
        return Err(format!("{num_tokens} tokens in a {}", if is_decode { "decode" } else { "chunk" }));
    }
    let end = part.position.saturating_add(num_tokens);
    if end > capacity.max_model_len {
        return Err(format!("{end} tokens, the longest sequence has {}", capacity.max_model_len));
    }
    if part.pages.len() < end.div_ceil(capacity.page_tokens) {
        return Err(format!("{} pages of {} for {end} tokens", part.pages.len(), capacity.page_tokens));
    }
    if let Some(page) = part.pages.iter().find(|page| page.0 as usize >= capacity.num_pages) {
        return Err(format!("page {} of {}", page.0, capacity.num_pages));
    }
    if part.slot.0 as usize >= capacity.max_num_seqs {
        return Err(format!("slot {} of {}", part.slot.0, capacity.max_num_seqs));
    }
    match &part.input {
        Input::Known(tokens) => check_tokens(tokens, capacity.vocab),
        Input::LastSampled => Ok(()),
    }
}

fn check_tokens(tokens: &[u32], vocab: usize) -> Result<(), String> {
    let outside = tokens.iter().find(|token| **token as usize >= vocab);
    outside.map_or(Ok(()), |token| Err(format!("token {token} of a vocabulary of {vocab}")))
}
