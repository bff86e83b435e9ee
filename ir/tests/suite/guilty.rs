//! Files that say on their guilty lines what is wrong with them: `… //~ T0203 there is no value`.
//!
//! A comment `//~ CODE text` at the end of a line expects a mistake with that code on that line, whose message or help
//! contains the text; a line may expect several. Expectations on lines of their own at the start of a file are for
//! mistakes without a place. Nothing else may be found. With `BLESS=1` in the environment, files are rewritten to
//! expect what is found.

use std::path::{Path, PathBuf};

use trefoil_ir::diag::{Diagnostic, render_all};

const MARK: &str = "//~";

/// The files of a folder of `tests/files` with the given ending, in order of their names.
pub(crate) fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/files").join(folder);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|found| found == ending));
    files.sort();
    files
}

/// The graphs that are shipped and those that show what else may be written, by name, with their sources.
pub(crate) fn legal_graphs() -> Vec<(String, String)> {
    let mut files = files("graphs", "ron");
    files.extend(self::files("../../models/graphs", "ron"));
    let name = |file: &PathBuf| file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    files.iter().map(|file| (name(file), std::fs::read_to_string(file).unwrap())).collect()
}

/// Checks every file of a folder against what `find` finds wrong with its text.
pub(crate) fn check_all(folder: &str, ending: &str, find: impl Fn(&str) -> Vec<Diagnostic>) {
    let files = files(folder, ending);
    assert!(!files.is_empty(), "no files in tests/files/{folder}");
    let complaints: Vec<_> = files.iter().filter_map(|file| check(file, &find)).collect();
    assert!(complaints.is_empty(), "{}\nrun again with BLESS=1 to rewrite the files", complaints.join("\n"));
}

fn check(file: &Path, find: impl Fn(&str) -> Vec<Diagnostic>) -> Option<String> {
    let source = std::fs::read_to_string(file).unwrap();
    let found = find(&source);
    let complaint = compare(&source, &found)?;
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(file, blessed(&source, &found)).unwrap();
        return None;
    }
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    Some(format!("--- {name}\n{complaint}\nfound:\n{}", render_all(&found, &name, &source)))
}

/// Checks the complete text of what is wrong with every file of a folder against the file beside it that ends in `txt`.
pub(crate) fn check_rendered(folder: &str, ending: &str, find: impl Fn(&str) -> Vec<Diagnostic>) {
    for file in files(folder, ending) {
        let source = std::fs::read_to_string(&file).unwrap();
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let found = render_all(&find(&source), &name, &source);
        let golden = file.with_extension("txt");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&golden, found).unwrap();
        } else {
            let expected = std::fs::read_to_string(&golden).unwrap_or_default();
            assert_eq!(found, expected, "{name} is drawn otherwise; run again with BLESS=1 to rewrite");
        }
    }
}

/// Checks that every code in the table of a module's documentation is expected by some file of a folder.
pub(crate) fn check_codes(folder: &str, ending: &str, module: &str) {
    let sources: Vec<_> = files(folder, ending).iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let seen: Vec<_> = sources.iter().flat_map(|source| expected(source)).map(|expected| expected.code).collect();
    let rows = module.lines().filter_map(|line| line.strip_prefix("//! | T"));
    let codes: Vec<_> = rows.map(|row| format!("T{}", &row[..4])).collect();
    assert!(codes.len() > 10, "no table of codes found");
    let untested: Vec<_> = codes.iter().filter(|code| !seen.contains(&code.as_str())).collect();
    assert!(untested.is_empty(), "no file of tests/files/{folder} expects {untested:?}");
}

struct Expected<'s> {
    line: u32,
    code: &'s str,
    text: &'s str,
}

fn expected(source: &str) -> Vec<Expected<'_>> {
    let mut in_header = true;
    let mut all = Vec::new();
    for (index, line) in source.lines().enumerate() {
        in_header &= line.starts_with("//");
        let line_number = if in_header { 0 } else { index as u32 + 1 };
        for mark in line.split(MARK).skip(1) {
            let (code, text) = mark.trim().split_once(' ').unwrap_or((mark.trim(), ""));
            all.push(Expected { line: line_number, code, text: text.trim() });
        }
    }
    all
}

/// What does not meet; `None` if everything does.
fn compare(source: &str, found: &[Diagnostic]) -> Option<String> {
    let mut left: Vec<&Diagnostic> = found.iter().collect();
    let mut complaints = Vec::new();
    for Expected { line, code, text } in expected(source) {
        let meets = |mistake: &&Diagnostic| {
            let says = format!("{}\n{}", mistake.message, mistake.help.as_deref().unwrap_or_default());
            mistake.code == code && mistake.place.line == line && says.contains(text)
        };
        match left.iter().position(meets) {
            Some(index) => drop(left.remove(index)),
            None => complaints.push(format!("line {line} expects {code} `{text}`, which is not found")),
        }
    }
    complaints
        .extend(left.iter().map(|mistake| format!("line {} does not expect {}", mistake.place.line, mistake.code)));
    (!complaints.is_empty()).then(|| complaints.join("\n"))
}

fn blessed(source: &str, found: &[Diagnostic]) -> String {
    let marks = |line: usize| {
        let here = found.iter().filter(move |mistake| mistake.place.line as usize == line);
        here.map(|mistake| format!("{MARK} {} {}", mistake.code, mistake.message))
    };
    let mut text: String = marks(0).map(|mark| mark + "\n").collect();
    for (index, line) in source.lines().enumerate() {
        if line.starts_with(MARK) {
            continue;
        }
        let code = line.split(MARK).next().unwrap_or_default().trim_end();
        let marks: String = marks(index + 1).map(|mark| format!(" {mark}")).collect();
        text += &format!("{code}{marks}\n");
    }
    text
}

#[test]
fn an_expectation_can_fail() {
    use trefoil_ir::diag::Place;
    let found = [Diagnostic::new("T0203", Place { line: 2, column: 1, width: 1 }, "there is no value `a`")];
    assert_eq!(compare("x\ny //~ T0203 no value\n", &found), None);
    for wrong in
        ["x\ny\n", "x //~ T0203\ny\n", "x\ny //~ T0204\n", "x\ny //~ T0203 other\n", "x\ny //~ T0203 //~ T0203\n"]
    {
        assert!(compare(wrong, &found).is_some(), "{wrong}");
    }
    assert_eq!(compare(&blessed("x\ny //~ T0999 old\n", &found), &found), None);
}
