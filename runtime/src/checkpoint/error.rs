//! What can be wrong with the files of a checkpoint.

use std::path::PathBuf;

/// A file of a checkpoint that cannot be used, with what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The path given is no directory.
    #[error("{}: not a directory; give the folder that holds config.json and tokenizer.json", path.display())]
    NotADirectory {
        /// As given.
        path: PathBuf,
    },
    /// A file that every checkpoint must have.
    #[error("{}: there is no such file; {advice}", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
        /// How to make one.
        advice: &'static str,
    },
    /// The operating system refused.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's own words.
        source: std::io::Error,
    },
    /// The file as a whole is not what its name says.
    #[error("{}: {what}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, in words.
        what: String,
    },
    /// One key of the file.
    #[error("{}: `{key}` is {value}; expected {expected}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// Dotted path of the key.
        key: String,
        /// The value found, cut to a readable length.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
}
