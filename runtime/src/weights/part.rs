//! What one of several ranks reads of a tensor.

use std::borrow::Cow;

use super::Rank;
use super::shards::Tensor;
use crate::model::Part;

/// The bytes of the rank's part. Rows stand together in the file; columns are copied row by row.
pub(super) fn bytes<'a>(all: &'a [u8], tensor: &Tensor, part: Part, rank: Rank) -> Cow<'a, [u8]> {
    match part {
        Part::Whole => Cow::Borrowed(all),
        Part::Rows => Cow::Borrowed(stretch(all, rank)),
        Part::Columns if rank.num_ranks == 1 => Cow::Borrowed(all),
        Part::Columns => {
            let num_rows = if tensor.shape.len() > 1 { tensor.shape[0] } else { 1 };
            let row_bytes = (all.len() / num_rows.max(1)).max(1);
            Cow::Owned(all.chunks_exact(row_bytes).flat_map(|row| stretch(row, rank)).copied().collect())
        }
    }
}

/// The rank's of as many equal stretches as there are ranks.
fn stretch(all: &[u8], rank: Rank) -> &[u8] {
    let own = all.len() / rank.num_ranks;
    &all[rank.number * own..(rank.number + 1) * own]
}
