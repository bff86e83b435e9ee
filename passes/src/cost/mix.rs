//! The rows of a dense batch, and the workloads they come from.

use std::ops::Range;

/// The rows of a dense batch: decode rows first, then prefill rows.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Mix {
    /// Decode rows: one per running sequence.
    pub decode: u32,
    /// Tokens that the sequence of a decode row has kept, the row's own with them; their mean.
    pub decode_context: f64,
    /// Prefill rows.
    pub prefill: u32,
    /// Keys that a prefill row sees; their mean.
    pub prefill_keys: f64,
    /// Tokens whose keys and values the prefill rows read, each sequence's once.
    pub prefill_kept: f64,
    /// Rows whose logits are wanted.
    pub seqs: u32,
}

/// What a launch does of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rows {
    /// Its rows.
    pub rows: f64,
    /// The keys that they see.
    pub keys: f64,
    /// The tokens whose keys and values are read.
    pub kept: f64,
}

impl Mix {
    /// All rows.
    pub fn tokens(&self) -> u32 {
        self.decode + self.prefill
    }

    /// What attention that sees at most so many positions does of it. Means stand for all rows, so that it is an upper
    /// bound where contexts differ; prefill rows of one prompt read the window before them once more.
    #[must_use]
    pub fn within(self, window: f64) -> Self {
        let own = f64::from(self.prefill);
        Self {
            decode_context: self.decode_context.min(window),
            prefill_keys: self.prefill_keys.min(window),
            prefill_kept: own + (self.prefill_kept - own).min(window),
            ..self
        }
    }

    /// The decode rows among `rows`.
    pub fn decode_rows(&self, rows: Range<u32>) -> Rows {
        let count = f64::from(rows.end.min(self.decode).saturating_sub(rows.start));
        let keys = count * self.decode_context;
        Rows { rows: count, keys, kept: keys }
    }

    /// The prefill rows among `rows`. What they read is counted by their part of all prefill rows.
    pub fn prefill_rows(&self, rows: Range<u32>) -> Rows {
        let count = f64::from(rows.end.saturating_sub(rows.start.max(self.decode)));
        let part = if self.prefill == 0 { 0.0 } else { count / f64::from(self.prefill) };
        Rows { rows: count, keys: count * self.prefill_keys, kept: part * self.prefill_kept }
    }

    /// All of `rows`.
    pub fn all_rows(&self, rows: Range<u32>) -> Rows {
        let (decode, prefill) = (self.decode_rows(rows.clone()), self.prefill_rows(rows));
        Rows { rows: decode.rows + prefill.rows, keys: decode.keys + prefill.keys, kept: decode.kept + prefill.kept }
    }
}

/// Requests by the lengths of their prompts and outputs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Workload {
    /// Mean tokens of a prompt.
    pub prompt: f64,
    /// Mean tokens of an output.
    pub output: f64,
    /// Tokens that a sequence has kept, averaged over the decode rows it gives.
    pub decode_context: f64,
    /// Mean of the square of a prompt's tokens over their mean: the length of the prompt that a prefill row is of.
    pub prompt_of_row: f64,
}

impl Workload {
    /// Requests that are all alike. NanoFlow, section 3.1: a decoding sequence has kept its prompt and half its output.
    pub fn constant(prompt: f64, output: f64) -> Self {
        Self { prompt, output, decode_context: prompt + output / 2.0, prompt_of_row: prompt }
    }

    /// Requests of a trace, as prompt and output tokens; `None` if it holds no tokens.
    pub fn of_lengths(lengths: impl Iterator<Item = (f64, f64)>) -> Option<Self> {
        let (mut count, mut prompts, mut outputs, mut contexts, mut squares) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for (prompt, output) in lengths {
            count += 1.0;
            prompts += prompt;
            outputs += output;
            contexts += output * (prompt + output / 2.0);
            squares += prompt * prompt;
        }
        let decode_context = if outputs > 0.0 { contexts / outputs } else { 0.0 };
        let prompt_of_row = if prompts > 0.0 { squares / prompts } else { 0.0 };
        let workload = Self { prompt: prompts / count, output: outputs / count, decode_context, prompt_of_row };
        (prompts + outputs > 0.0).then_some(workload)
    }

    /// The mix of a dense batch of `tokens` rows in the steady state: every running sequence gives a decode row, and
    /// prompts, cut at any token, fill the rest (NanoFlow, section 4.2.1).
    ///
    /// A prefill row sees half its prompt; and prompts cut by the end of a batch read what they have kept again, half
    /// a prompt per batch.
    pub fn mix(&self, tokens: u32) -> Mix {
        let decode = (f64::from(tokens) * self.output / (self.prompt + self.output)).round() as u32;
        self.mix_of(decode, tokens - decode.min(tokens))
    }

    /// The mix of a batch with so many decode and prefill rows of these requests.
    pub fn mix_of(&self, decode: u32, prefill: u32) -> Mix {
        let finished = if self.prompt > 0.0 { f64::from(prefill) / self.prompt } else { 0.0 };
        let again = if prefill > 0 { self.prompt_of_row / 2.0 } else { 0.0 };
        Mix {
            decode,
            decode_context: self.decode_context,
            prefill,
            prefill_keys: self.prompt_of_row / 2.0,
            prefill_kept: f64::from(prefill) + again,
            seqs: decode + finished.ceil() as u32,
        }
    }

    /// Rows of a dense batch per running sequence.
    pub fn rows_per_sequence(&self) -> f64 {
        (self.prompt + self.output) / self.output
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_batch_has_the_shares_of_the_lengths() {
        let mix = Workload::constant(512.0, 1024.0).mix(2048);
        assert_eq!((mix.decode, mix.prefill), (1365, 683));
        assert_eq!((mix.decode_context, mix.prefill_keys), (1024.0, 256.0));
        assert_eq!(mix.prefill_kept, 683.0 + 256.0);
        assert_eq!(mix.seqs, 1365 + 2);
    }

    #[test]
    fn a_trace_is_weighted_by_its_rows() {
        let workload = Workload::of_lengths([(100.0, 10.0), (300.0, 30.0)].into_iter()).unwrap();
        assert_eq!((workload.prompt, workload.output), (200.0, 20.0));
        assert_eq!(workload.decode_context, (10.0 * 105.0 + 30.0 * 315.0) / 40.0);
        assert_eq!(workload.prompt_of_row, 250.0);
        assert!(Workload::of_lengths(std::iter::empty()).is_none());
    }

    #[test]
    fn a_window_bounds_what_rows_see() {
        let mix = Workload::constant(512.0, 1024.0).mix(2048);
        let near = mix.within(100.0);
        assert_eq!((near.decode_context, near.prefill_keys, near.prefill_kept), (100.0, 100.0, 683.0 + 100.0));
        assert_eq!(mix.within(5000.0), mix);
    }

    #[test]
    fn ranges_divide_decode_and_prefill_rows() {
        let mix =
            Mix { decode: 100, decode_context: 10.0, prefill: 50, prefill_keys: 4.0, prefill_kept: 60.0, seqs: 0 };
        assert_eq!(mix.decode_rows(80..120), Rows { rows: 20.0, keys: 200.0, kept: 200.0 });
        assert_eq!(mix.prefill_rows(80..125), Rows { rows: 25.0, keys: 100.0, kept: 30.0 });
        assert_eq!(mix.all_rows(0..150).rows, 150.0);
        assert_eq!(mix.prefill_rows(0..80), Rows::default());
    }
}
