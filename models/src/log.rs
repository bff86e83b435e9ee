//! The log: lines on standard error, so that standard output carries results alone.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::args::LogFormat;

/// Starts the log. A filter that cannot be read falls back to `info`, and says so.
pub(crate) fn init(format: LogFormat, filter: &str) {
    let (filter, wrong) = match EnvFilter::try_new(filter) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("info"), Some(error)),
    };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => lines.with_target(false).with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().init(),
    }
    if let Some(error) = wrong {
        tracing::warn!("the log filter is not readable ({error}); logging at level info");
    }
}
