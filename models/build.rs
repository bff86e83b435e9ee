//! Compiles in every graph of `graphs/`, each with the plans of `plans/` and of `plans/NAME/`, and the device profiles of
//! `devices/`: dropping a file there is all it takes.
//!
//! Writes `graphs.rs`, which the library includes as `trefoil::graphs`. That two graphs do not serve the same
//! architecture is checked here; everything else that can be wrong with a graph or a plan is told by `compile_model!`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// The plan that every model must have, and that the runtime falls back to: it comes first.
const SEQUENTIAL: &str = "sequential";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=graphs");
    println!("cargo::rerun-if-changed=plans");
    println!("cargo::rerun-if-changed=devices");
    println!("cargo::rerun-if-changed=../bench/plans");
    let graphs = ron_files(Path::new("graphs"))?;
    complain_of_rivals(&graphs)?;
    let text = library(&graphs)?;
    let out = env::var_os("OUT_DIR").map(PathBuf::from).ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?;
    fs::write(out.join("graphs.rs"), text)
}

/// The `.ron` files of a folder by name; none where there is no folder.
fn ron_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(vec![]);
    }
    let mut files = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    files.retain(|path| path.extension().is_some_and(|ending| ending == "ron"));
    files.sort();
    Ok(files)
}

fn name(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// The path as `compile_model!` takes it, whatever separates folders here.
fn shown(path: &Path) -> String {
    path.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/")
}

/// The plans a graph is compiled with: those for all graphs and those for it alone, the sequential one first.
fn plans_of(graph: &Path) -> io::Result<Vec<PathBuf>> {
    let own = Path::new("plans").join(name(graph));
    let mut plans = [ron_files(Path::new("plans"))?, ron_files(&own)?].concat();
    plans.sort_by_key(|plan| name(plan) != SEQUENTIAL);
    Ok(plans)
}

fn library(graphs: &[PathBuf]) -> io::Result<String> {
    let mut text = String::new();
    let mut modules = vec![];
    let mut plan_sources = vec![];
    let mut own_plans = String::new();
    for graph in graphs {
        let plans = plans_of(graph)?;
        let paths: Vec<_> = plans.iter().map(|plan| format!("{:?}", shown(plan))).collect();
        let _ = writeln!(text, "::trefoil_macro::compile_model!({:?}, plans: [{}]);", shown(graph), paths.join(", "));
        let texts = plans.iter().map(fs::read_to_string).collect::<io::Result<Vec<_>>>()?;
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        let names = trefoil_codegen::module_names(&name(graph), &texts);
        modules.extend(names.iter().map(|name| format!("{name}::compiled()")));
        for plan in ron_files(&Path::new("plans").join(name(graph)))? {
            let _ = writeln!(own_plans, "    ({:?}, {:?}),", name(&plan), name(graph));
        }
        plan_sources.extend(plans.into_iter().filter(|plan| !plan_sources.contains(plan)).collect::<Vec<_>>());
    }
    let _ = writeln!(
        text,
        "/// All compiled models, by name.\n\
         pub fn all<D: ::trefoil_runtime::launch::Device>() -> Vec<::trefoil_runtime::model::CompiledModel<D>> {{\n    \
         vec![{}]\n}}",
        modules.join(", ")
    );
    text += &sources("GRAPH_SOURCES", "Names and texts of the graphs.", graphs);
    text += &sources("PLAN_SOURCES", "Names and texts of the plans.", &plan_sources);
    let _ = writeln!(
        text,
        "/// Plans that only one graph has, with that graph.\npub const OWN_PLANS: &[(&str, &str)] = &[\n{own_plans}];"
    );
    let papers = ron_files(Path::new("../bench/plans"))?;
    text += &sources("PAPER_PLANS", "Names and texts of the plans found for settings of the paper.", &papers);
    let devices = ron_files(Path::new("devices"))?;
    text += &sources("DEVICE_SOURCES", "Names and texts of the device profiles.", &devices);
    Ok(text)
}

fn sources(constant: &str, doc: &str, files: &[PathBuf]) -> String {
    let entry = |file: &PathBuf| {
        let path = format!("/{}", shown(file));
        format!("    ({:?}, include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), {path:?}))),\n", name(file))
    };
    let entries: String = files.iter().map(entry).collect();
    format!("/// {doc}\npub const {constant}: &[(&str, &str)] = &[\n{entries}];\n")
}

/// An architecture that two graphs serve leaves it open which one runs.
fn complain_of_rivals(graphs: &[PathBuf]) -> io::Result<()> {
    let mut served: BTreeMap<String, &PathBuf> = BTreeMap::new();
    for graph in graphs {
        // A graph that does not load is drawn with its mistakes by `compile_model!`.
        let Ok(loaded) = trefoil_ir::load::load(&name(graph), &fs::read_to_string(graph)?) else { continue };
        for architecture in loaded.serves {
            if let Some(rival) = served.get(&architecture) {
                println!("cargo::error={} and {} both serve {architecture}", shown(rival), shown(graph));
            }
            served.insert(architecture, graph);
        }
    }
    Ok(())
}
