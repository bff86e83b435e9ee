//! From a checkpoint's folder to a model that is ready to run, with the time of every phase on the way.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::args::ModelArgs;

/// The phases of a start and what each took, for one line in the log.
#[derive(Debug)]
pub struct Timeline {
    began: Instant,
    last: Instant,
    phases: Vec<(&'static str, Duration)>,
}

impl Timeline {
    /// Begins now.
    pub fn new() -> Self {
        let now = Instant::now();
        Self { began: now, last: now, phases: Vec::new() }
    }

    /// Ends the phase that has run since the last call.
    pub fn end(&mut self, phase: &'static str) {
        let now = Instant::now();
        self.phases.push((phase, now - self.last));
        self.last = now;
    }

    /// `config 3 ms, weights 120 ms; 130 ms in all`.
    pub fn summary(&self) -> String {
        let phases: Vec<_> = self.phases.iter().map(|(name, took)| format!("{name} {} ms", took.as_millis())).collect();
        format!("{}; {} ms in all", phases.join(", "), self.began.elapsed().as_millis())
    }
}

/// The folder of the model that ships with the source.
pub fn shipped_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tiny")
}

/// The folder that the arguments name, or the shipped one.
pub fn model_dir(args: &ModelArgs) -> PathBuf {
    args.model.clone().unwrap_or_else(shipped_model)
}

/// A bar on standard error while weights are read; silent where that is no terminal.
pub fn progress_bar(what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}");
    let bar = ProgressBar::new(0).with_message(what);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
