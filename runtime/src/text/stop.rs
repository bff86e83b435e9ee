//! Stop strings: ends a text where one of them is completed, however the text arrives.
//!
//! The string that completes first wins; of those that complete at the same place, the longest. Text that may still
//! become part of a stop string is held back, so nothing is ever given out that a later piece would take back, and
//! the result does not depend on where the pieces were cut.

/// A stop string that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StopError {
    /// It would stop everywhere.
    #[error("stop strings must not be empty")]
    Empty,
}

/// Looks for stop strings in a text that arrives in pieces.
#[derive(Debug, Clone)]
pub struct StopStrings {
    stops: Vec<String>,
    include: bool,
    held: String,
}

/// What came of a piece of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopMatch {
    /// The text goes on; this much of it is certain.
    Text(String),
    /// A stop string is complete: the last text, and which it was (its place in the list).
    Stopped {
        /// Text up to the stop string, or with it if that was asked for.
        text: String,
        /// Index in the list of stop strings.
        stop: usize,
    },
}

impl StopStrings {
    /// Watches for `stops`; `include` keeps the stop string in the output.
    ///
    /// # Errors
    /// One of them is empty.
    pub fn new(stops: Vec<String>, include: bool) -> Result<Self, StopError> {
        if stops.iter().any(String::is_empty) {
            return Err(StopError::Empty);
        }
        Ok(Self { stops, include, held: String::new() })
    }

    /// Takes the next piece of text. After a stop nothing more may be pushed.
    pub fn push(&mut self, piece: &str) -> StopMatch {
        if self.stops.is_empty() {
            return StopMatch::Text(piece.to_owned());
        }
        self.held.push_str(piece);
        match self.first_match() {
            Some((start, end, stop)) => {
                self.held.truncate(if self.include { end } else { start });
                StopMatch::Stopped { text: std::mem::take(&mut self.held), stop }
            }
            None => StopMatch::Text(self.take_certain()),
        }
    }

    /// What was held back, when the text ends without a stop string.
    pub fn flush(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// The stop string at an index given by [`StopMatch::Stopped`].
    pub fn get(&self, stop: usize) -> Option<&str> {
        self.stops.get(stop).map(String::as_str)
    }

    /// Start, end and index of the match that completes first, the longest of those.
    fn first_match(&self) -> Option<(usize, usize, usize)> {
        let found = self.stops.iter().enumerate().filter_map(|(stop, text)| {
            let start = self.held.find(text.as_str())?;
            Some((start, start + text.len(), stop))
        });
        found.min_by_key(|&(start, end, _)| (end, start))
    }

    /// All of the held text but the longest end of it that begins a stop string.
    fn take_certain(&mut self) -> String {
        let is_start = |tail: &str| self.stops.iter().any(|stop| stop.starts_with(tail));
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let earliest = self.held.len().saturating_sub(longest.saturating_sub(1));
        let cut = (earliest..self.held.len())
            .find(|&at| self.held.get(at..).is_some_and(is_start))
            .unwrap_or(self.held.len());
        let rest = self.held.split_off(cut);
        std::mem::replace(&mut self.held, rest)
    }
}

#[cfg(test)]
mod tests;
