//! What the process says when it ends.

use std::process::ExitCode;

/// Why a command ended without doing what it was asked to. The number is the process's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Anything not named below.
    Other = 1,
    /// The command line is wrong (clap's own code, too).
    Usage = 2,
    /// A graph, plan or checkpoint is wrong.
    Invalid = 3,
    /// The model does not fit into memory.
    DoesNotFit = 4,
    /// The device failed.
    Device = 5,
}

/// An error with the code to exit with. Shown once, by `main`.
#[derive(Debug)]
pub(crate) struct CommandError {
    pub(crate) exit: Exit,
    pub(crate) error: anyhow::Error,
}

/// What a command gives back.
pub(crate) type Outcome = Result<(), CommandError>;

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

impl<E: Into<anyhow::Error>> From<E> for CommandError {
    fn from(error: E) -> Self {
        Self { exit: Exit::Other, error: error.into() }
    }
}

/// Gives an error the code to exit with.
pub(crate) trait OrExit<T> {
    /// The value, or the error with this code.
    fn or_exit(self, exit: Exit) -> Result<T, CommandError>;
}

impl<T, E: Into<anyhow::Error>> OrExit<T> for Result<T, E> {
    fn or_exit(self, exit: Exit) -> Result<T, CommandError> {
        self.map_err(|error| CommandError { exit, error: error.into() })
    }
}
