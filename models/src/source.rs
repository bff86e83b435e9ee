//! Texts of graphs, plans and device profiles: from a file, or compiled in under a name.

use std::path::Path;

use anyhow::{Context, anyhow, bail};
use trefoil::registry::{DEVICE_SOURCES, GRAPH_SOURCES, PLAN_SOURCES};
use trefoil_ir::diag::{Diagnostic, meant, render_all};
use trefoil_ir::graph::Graph;
use trefoil_ir::load::load;
use trefoil_passes::plan::Plan;
use trefoil_passes::profile::Profile;

/// A text with the names to call it by.
pub(crate) struct Source {
    /// The file's name without its ending.
    pub(crate) name: String,
    /// What to show in messages.
    pub(crate) label: String,
    /// What it says.
    pub(crate) text: String,
}

/// The graph in a file, or the one compiled in under this name.
pub(crate) fn graph(argument: &str) -> anyhow::Result<Source> {
    find("graph", argument, GRAPH_SOURCES)
}

/// The plan in a file, or the one compiled in under this name.
pub(crate) fn plan(argument: &str) -> anyhow::Result<Source> {
    find("plan", argument, PLAN_SOURCES)
}

/// The device profile in a file, or the one compiled in under this name.
pub(crate) fn device(argument: &str) -> anyhow::Result<Source> {
    find("device", argument, DEVICE_SOURCES)
}

fn find(kind: &str, argument: &str, compiled_in: &[(&str, &str)]) -> anyhow::Result<Source> {
    let path = Path::new(argument);
    if path.extension().is_some() || path.is_file() {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the {kind} {argument}"))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        return Ok(Source { name, label: argument.to_owned(), text });
    }
    match compiled_in.iter().find(|(name, _)| *name == argument) {
        Some((name, text)) => {
            Ok(Source { name: (*name).to_owned(), label: format!("{kind}s/{name}.ron"), text: (*text).to_owned() })
        }
        None => {
            let names: Vec<_> = compiled_in.iter().map(|(name, _)| *name).collect();
            let near = meant(argument, &names).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            bail!("no {kind} `{argument}`{near}: give a file, or one of those compiled in ({})", names.join(", "))
        }
    }
}

impl Source {
    /// The graph in this text.
    pub(crate) fn load_graph(&self) -> anyhow::Result<Graph> {
        load(&self.name, &self.text).map_err(|mistakes| self.draw(&mistakes))
    }

    /// The plan in this text.
    pub(crate) fn load_plan(&self) -> anyhow::Result<Plan> {
        Plan::load(&self.name, &self.text).map_err(|mistakes| self.draw(&mistakes))
    }

    /// The device profile in this text.
    pub(crate) fn load_device(&self) -> anyhow::Result<Profile> {
        let known: Vec<_> = DEVICE_SOURCES.iter().map(|(name, _)| *name).collect();
        let find = |name: &str| DEVICE_SOURCES.iter().find(|(known, _)| *known == name).map(|(_, text)| *text);
        Profile::load(&self.name, &self.text, &find, &known).map_err(|mistakes| self.draw(&mistakes))
    }

    /// The mistakes in this text, drawn under the lines they are about.
    pub(crate) fn draw(&self, mistakes: &[Diagnostic]) -> anyhow::Error {
        anyhow!("{}", render_all(mistakes, &self.label, &self.text).trim_end().to_owned())
    }
}
