//! Read-only maps of weight files.
//!
//! A map is used for packing and dropped after it, so the file is free to change once a model is loaded. A file that
//! is *shortened* while it is mapped ends the process with a bus error, as for every program that maps files: the
//! length is checked against the header just before, and checkpoints are replaced by renaming, not by truncation. A
//! file that is overwritten in place gives numbers that nobody intended, but every bit pattern is a number.
#![allow(unsafe_code, reason = "mapping a file promises that nobody else shortens it")]

use std::fs::File;
use std::io;

use memmap2::{Advice, Mmap};

/// Maps a whole file.
pub(super) fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: bytes are only copied out, and any value is valid for them; see above for a file that shrinks.
    let map = unsafe { Mmap::map(file)? };
    // A hint: packing reads each file from its first tensor to its last, whichever way the system takes it.
    let _ = map.advise(Advice::WillNeed);
    Ok(map)
}
