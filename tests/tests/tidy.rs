//! The rules of the house that no compiler checks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Which rooms may know which others; a room that is not listed may be known by all below it and knows none.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("trefoil-ir", &[]),
    ("trefoil-passes", &["trefoil-ir"]),
    ("trefoil-codegen", &["trefoil-ir", "trefoil-passes"]),
    ("trefoil-macro", &["trefoil-codegen"]),
    ("trefoil-kernels", &[]),
    ("trefoil-runtime", &["trefoil-kernels"]),
    ("trefoil", &["trefoil-codegen", "trefoil-ir", "trefoil-macro", "trefoil-passes", "trefoil-runtime"]),
];

/// Crates from outside that only one room may use.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("axum", &["trefoil-runtime"]),
    ("clap", &["trefoil"]),
    ("ron", &["trefoil-ir", "trefoil-passes"]),
    ("syn", &["trefoil-codegen", "trefoil-macro"]),
    ("tokenizers", &["trefoil-runtime"]),
];

/// Longest file before it has to be split by meaning, in lines.
const MAX_LINES: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace").to_owned()
}

fn packages() -> Vec<Value> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let arguments = ["metadata", "--format-version", "1", "--no-deps", "--offline"];
    let output = Command::new(cargo).args(arguments).current_dir(root()).output().expect("cargo runs");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    metadata["packages"].as_array().expect("a list of packages").clone()
}

/// Each package's dependencies of the given kind (`Null` is the normal one).
fn dependencies(kind: impl Fn(&Value) -> bool) -> BTreeMap<String, BTreeSet<String>> {
    let names = |package: &Value| {
        let all = package["dependencies"].as_array().expect("a list of dependencies").iter();
        all.filter(|dependency| kind(&dependency["kind"]))
            .filter_map(|d| d["name"].as_str().map(str::to_owned))
            .collect()
    };
    packages().iter().map(|package| (package["name"].as_str().unwrap_or_default().to_owned(), names(package))).collect()
}

/// Files that git tracks or would track, with the given ending.
fn files(ending: &str) -> Vec<PathBuf> {
    let arguments = ["ls-files", "--cached", "--others", "--exclude-standard"];
    let output = Command::new("git").args(arguments).current_dir(root()).output().expect("git runs");
    let names = String::from_utf8(output.stdout).expect("names in UTF-8");
    let files: Vec<_> = names.lines().filter(|name| name.ends_with(ending)).map(|name| root().join(name)).collect();
    files.into_iter().filter(|file| file.exists()).collect()
}

fn complaints(ending: &str, complaint: impl Fn(&Path, &str) -> Option<String>) -> Vec<String> {
    let files = files(ending);
    assert!(!files.is_empty(), "no {ending} files found: the test looks in the wrong place");
    let text =
        |file: &Path| std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    files
        .iter()
        .filter_map(|file| complaint(file, &text(file)).map(|what| format!("{}: {what}", file.display())))
        .collect()
}

#[test]
fn rooms_know_only_those_they_may() {
    let found = dependencies(Value::is_null);
    for (room, may_know) in MAY_KNOW {
        let rooms = found[*room].iter().filter(|name| name.starts_with("trefoil"));
        for known in rooms {
            assert!(may_know.contains(&known.as_str()), "{room} must not depend on {known} (DESIGN: rooms)");
        }
    }
    for (library, rooms) in ONLY_IN {
        for (room, known) in found.iter().filter(|(room, _)| room.as_str() != "trefoil-tests") {
            assert!(!known.contains(*library) || rooms.contains(&room.as_str()), "{room} must not use {library}");
        }
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    let mute = complaints(".rs", |file, text| {
        let is_case = file.components().any(|part| part.as_os_str() == "ui" || part.as_os_str() == "snapshots");
        (!is_case && !text.starts_with("//!")).then(|| "does not open with `//!`".to_owned())
    });
    assert!(mute.is_empty(), "{}", mute.join("\n"));
}

#[test]
fn no_file_has_outgrown_its_room() {
    let long = complaints(".rs", |_, text| {
        let lines = text.lines().count();
        (lines > MAX_LINES).then(|| format!("{lines} lines; split it by what it does (at most {MAX_LINES})"))
    });
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn nothing_is_left_for_later() {
    // Spelt apart, so that this file does not find itself.
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("todo", "!("), concat!("unimplemented", "!(")];
    for ending in [".rs", ".ron", ".py", ".md"] {
        let found = complaints(ending, |_, text| {
            marks.iter().find(|mark| text.contains(**mark)).map(|mark| format!("contains {mark}"))
        });
        assert!(found.is_empty(), "{}", found.join("\n"));
    }
}

#[test]
fn operators_are_never_matched_by_a_wildcard() {
    let build_half = ["ir/src", "passes/src", "codegen/src", "tests/src/oracle"];
    let found = complaints(".rs", |file, text| {
        let here = file.strip_prefix(root()).unwrap_or(file);
        if !build_half.iter().any(|room| here.starts_with(room)) {
            return None;
        }
        wildcard_over_op(text).map(|line| format!("line {line}: `_ =>` in a match over `Op`; name the operators"))
    });
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The line of a `_ =>` arm that stands in the same match, and at the same depth, as an arm that begins with `Op::`.
fn wildcard_over_op(text: &str) -> Option<usize> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let lines: Vec<&str> = text.lines().collect();
    lines.iter().enumerate().find_map(|(number, line)| {
        let is_wildcard = line.trim_start().starts_with("_ =>");
        let mut before =
            lines[..number].iter().rev().take_while(|above| above.trim().is_empty() || indent(above) >= indent(line));
        let over_op = before.any(|above| indent(above) == indent(line) && above.trim_start().starts_with("Op::"));
        (is_wildcard && over_op).then_some(number + 1)
    })
}

#[test]
fn the_wildcard_rule_sees_one() {
    let guilty = "match op {\n    Op::Add { .. } => 1,\n    _ => 2,\n}\n";
    let innocent = "match n {\n    1 => match op {\n        Op::Add { .. } => 1,\n    },\n    _ => 2,\n}\n";
    assert_eq!(wildcard_over_op(guilty), Some(3));
    assert_eq!(wildcard_over_op(innocent), None);
}

#[test]
fn the_readme_maps_the_folders() {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("a README");
    let folders = std::fs::read_dir(root()).expect("the workspace").flatten().filter(|entry| entry.path().is_dir());
    for folder in folders {
        let name = folder.file_name().to_string_lossy().into_owned();
        let is_ours = !name.starts_with('.') && name != "target";
        assert!(!is_ours || readme.contains(&format!("`{name}/`")), "README.md does not say what `{name}/` is");
    }
    for line in readme.lines().filter(|line| line.starts_with("| `")) {
        let name = line.trim_start_matches("| `").split('`').next().unwrap_or_default();
        if name.ends_with('/') {
            assert!(root().join(name).is_dir(), "README.md maps `{name}`, which is not there");
        }
    }
}
