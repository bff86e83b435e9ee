//! Test cases in files: `tests/files/passes/PASS/*.case`.
//!
//! ```text
//! What the case shows, in a sentence or two.
//!
//! run: fuse                      the pass after which to look; all passes if left out
//! graph: llama                   a shipped graph, or a section `=== graph` with one
//! plan: sequential               a shipped plan, or a section `=== plan` with one
//! check: qkv: Linear             the graph's text has this; checks are found one after the other
//! check-not: AllReduce           the graph's text does not have this anywhere
//!
//! === expect nodes               the whole text of the bodies, or of the schedule
//! ```
//!
//! In the sections `graph` and `plan`, `//~ CODE text` at the end of a line expects a mistake there; one about
//! no line is expected on the first. With `BLESS=1` in the environment, `expect` sections and expected mistakes are
//! rewritten; checks are not.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use trefoil_ir::diag::Diagnostic;
use trefoil_ir::graph::Graph;
use trefoil_passes::pipeline::{self, PassError};
use trefoil_passes::plan::Plan;

const MARK: &str = "//~";

/// A case as its file says it.
pub(crate) struct Case {
    head: Vec<String>,
    sections: Vec<Section>,
}

struct Section {
    title: String,
    lines: Vec<String>,
}

/// The case files, by folder and name.
pub(crate) fn files() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/files/passes");
    let list = |folder: &Path| {
        let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    };
    let folders = list(&root).into_iter().filter(|path| path.is_dir());
    folders.flat_map(|folder| list(&folder)).filter(|file| file.extension().is_some_and(|own| own == "case")).collect()
}

/// The text of a shipped file.
pub(crate) fn shipped(folder: &str, name: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../models/{folder}/{name}.ron"));
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// What is wrong with a case file; `None` if all is as it says, or has been rewritten to be.
pub(crate) fn check(file: &Path) -> Option<String> {
    let mut case = Case::parse(&std::fs::read_to_string(file).unwrap());
    let complaint = case.complaint()?;
    if std::env::var_os("BLESS").is_some() {
        case.bless();
        std::fs::write(file, case.text()).unwrap();
        return case.complaint().map(|left| format!("{}: cannot be blessed: {left}", file.display()));
    }
    Some(format!("{}: {complaint}", file.display()))
}

/// What came of compiling.
enum Outcome {
    Text(String),
    /// Mistakes, with the section they are in.
    Mistakes(&'static str, Vec<Diagnostic>),
    Broken(String),
}

impl Case {
    /// Reads a case.
    pub(crate) fn parse(text: &str) -> Self {
        let mut case = Case { head: vec![], sections: vec![] };
        for line in text.lines() {
            match (line.strip_prefix("=== "), case.sections.last_mut()) {
                (Some(title), _) => case.sections.push(Section { title: title.to_owned(), lines: vec![] }),
                (None, Some(section)) => section.lines.push(line.to_owned()),
                (None, None) => case.head.push(line.to_owned()),
            }
        }
        case
    }

    fn text(&self) -> String {
        let mut text = self.head.iter().fold(String::new(), |text, line| text + line + "\n");
        for section in &self.sections {
            let _ = writeln!(text, "=== {}", section.title);
            text.extend(section.lines.iter().map(|line| format!("{line}\n")));
        }
        text
    }

    fn header(&self, key: &str) -> Option<&str> {
        self.head.iter().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
    }

    fn section(&self, title: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.title == title)
    }

    fn source(&self, what: &str, folder: &str) -> (String, String) {
        match (self.section(what), self.header(what)) {
            (Some(section), _) => (format!("test_{what}"), section.lines.join("\n") + "\n"),
            (None, Some(name)) => (name.to_owned(), shipped(folder, name)),
            (None, None) => panic!("a case needs `{what}: NAME` or `=== {what}`"),
        }
    }

    fn graph(&self) -> Graph {
        let (name, source) = self.source("graph", "graphs");
        trefoil_ir::load::load(&name, &source)
            .unwrap_or_else(|mistakes| panic!("{}", trefoil_ir::diag::render_all(&mistakes, &name, &source)))
    }

    fn outcome(&self) -> Outcome {
        let (name, source) = self.source("plan", "plans");
        let plan = match Plan::load(&name, &source) {
            Ok(plan) => plan,
            Err(mistakes) => return Outcome::Mistakes("plan", mistakes),
        };
        let result = match self.header("run") {
            Some(pass) => pipeline::run_until(self.graph(), &plan, pass),
            None => pipeline::compile(self.graph(), &plan),
        };
        match result {
            Ok(graph) => Outcome::Text(trefoil_ir::text::print(&graph)),
            Err(PassError::Refused { mistakes, .. }) => {
                let in_plan = mistakes.iter().all(|mistake| mistake.code < "T1200");
                Outcome::Mistakes(if in_plan { "plan" } else { "graph" }, mistakes)
            }
            Err(error) => Outcome::Broken(error.to_string()),
        }
    }

    /// What is not as the case says.
    pub(crate) fn complaint(&self) -> Option<String> {
        match self.outcome() {
            Outcome::Text(text) => self.wrong_text(&text),
            Outcome::Mistakes(section, found) => self.wrong_mistakes(section, &found),
            Outcome::Broken(error) => Some(error),
        }
    }

    fn wrong_text(&self, text: &str) -> Option<String> {
        if let Some(section) = self.sections.iter().find(|section| !section.marks().is_empty()) {
            return Some(format!("mistakes are expected in `{}`, and none is found", section.title));
        }
        let wrong_golden = self.sections.iter().find_map(|section| {
            let part = part_of(text, section.title.strip_prefix("expect ")?);
            (section.lines != part).then(|| format!("`{}` is another now:\n{}", section.title, part.join("\n")))
        });
        wrong_golden.or_else(|| self.failed_check(text).map(|failed| format!("{failed}\n{text}")))
    }

    fn failed_check(&self, text: &str) -> Option<String> {
        let mut rest = text;
        for line in &self.head {
            if let Some(absent) = line.strip_prefix("check-not: ") {
                if text.contains(absent) {
                    return Some(format!("`{absent}` should not be in:"));
                }
            } else if let Some(present) = line.strip_prefix("check: ") {
                match rest.find(present) {
                    Some(at) => rest = &rest[at + present.len()..],
                    None => return Some(format!("`{present}` is not, or not after the checks before it, in:")),
                }
            }
        }
        None
    }

    fn wrong_mistakes(&self, title: &str, found: &[Diagnostic]) -> Option<String> {
        let expected = self.section(title).map(Section::marks).unwrap_or_default();
        let mut left: Vec<_> = found.iter().collect();
        let mut complaints = vec![];
        for (line, code, text) in expected {
            let meets = |own: &&Diagnostic| {
                let says = format!("{}\n{}", own.message, own.help.as_deref().unwrap_or_default());
                line_of(own) == line && own.code == code && says.contains(&text)
            };
            match left.iter().position(meets) {
                Some(at) => drop(left.remove(at)),
                None => {
                    complaints.push(format!("line {line} of `{title}` expects {code} `{text}`, which is not found"))
                }
            }
        }
        complaints.extend(left.iter().map(|own| format!("`{title}` does not expect {own:?}")));
        (!complaints.is_empty()).then(|| complaints.join("\n"))
    }

    /// Makes the case expect what is found.
    pub(crate) fn bless(&mut self) {
        let outcome = self.outcome();
        for section in &mut self.sections {
            match &outcome {
                Outcome::Text(text) => {
                    section.mark(&[]);
                    if let Some(part) = section.title.strip_prefix("expect ") {
                        section.lines = part_of(text, part);
                    }
                }
                Outcome::Mistakes(title, found) if section.title == *title => section.mark(found),
                Outcome::Mistakes(..) | Outcome::Broken(_) => {}
            }
        }
    }
}

impl Section {
    /// Expected mistakes: line, code, text.
    fn marks(&self) -> Vec<(usize, String, String)> {
        let lines = self.lines.iter().enumerate();
        let marks = lines.flat_map(|(at, line)| line.split(MARK).skip(1).map(move |mark| (at + 1, mark.trim())));
        let split = |(line, mark): (usize, &str)| {
            let (code, text) = mark.split_once(' ').unwrap_or((mark, ""));
            (line, code.to_owned(), text.to_owned())
        };
        marks.map(split).collect()
    }

    fn mark(&mut self, found: &[Diagnostic]) {
        for (at, line) in self.lines.iter_mut().enumerate() {
            let code = line.split(MARK).next().unwrap_or_default().trim_end().to_owned();
            let here = found.iter().filter(|own| line_of(own) == at + 1);
            *line = here.fold(code, |line, own| format!("{line} {MARK} {} {}", own.code, own.message));
        }
    }
}

/// A mistake about no line stands on the first.
fn line_of(mistake: &Diagnostic) -> usize {
    mistake.place.line.max(1) as usize
}

/// The bodies' nodes, or the schedule.
fn part_of(text: &str, part: &str) -> Vec<String> {
    let is_schedule = |line: &&str| line.starts_with("schedule");
    let lines = text.lines();
    let part: Vec<&str> = match part {
        "nodes" => lines.skip_while(|line| !line.starts_with("block")).take_while(|line| !is_schedule(line)).collect(),
        "schedule" => lines.skip_while(|line| !is_schedule(line)).collect(),
        other => panic!("`=== expect {other}`: there are `nodes` and `schedule`"),
    };
    part.into_iter().map(str::to_owned).collect()
}
