//! The text of the new graph: the nearest one's, with what is to be decided where it belongs.

use super::Subject;
use super::differences::Spot;
use super::nearest::Candidate;

/// Columns of a step inwards.
const STEP: usize = 4;
/// Columns of a line at most.
const WIDTH: usize = 120;

/// The text.
pub(super) fn graph(candidate: &Candidate, subject: &Subject) -> String {
    let lines: Vec<_> = candidate.text.lines().collect();
    let head = lines.iter().position(|line| !line.starts_with("//")).unwrap_or(0);
    let mut text = header(candidate, subject);
    for (number, line) in lines.iter().enumerate().skip(head) {
        let indent = line.len() - line.trim_start().len();
        write_notes(&mut text, candidate, indent, |spot| spot == Spot::Above(number as u32 + 1));
        if line.trim_start().starts_with("serves:") {
            text += &format!("    serves: {:?},\n", subject.architectures);
        } else {
            text += line;
            text.push('\n');
        }
        write_notes(&mut text, candidate, indent + STEP, |spot| line_of(&lines, spot) == Some(number));
        if line_of(&lines, Spot::Settings) == Some(number) && !candidate.unknown.is_empty() {
            let what = format!(
                "No table knows whether these keys matter; nothing reads them: {}",
                candidate.unknown.join(", ")
            );
            comment(&mut text, indent + STEP, &what);
        }
    }
    text
}

/// The line, counted from 0, below which things at a spot stand.
fn line_of(lines: &[&str], spot: Spot) -> Option<usize> {
    let find =
        |from: usize, is: &dyn Fn(&str) -> bool| Some(from + lines.get(from..)?.iter().position(|line| is(line))?);
    match spot {
        Spot::Above(_) => None,
        Spot::Settings => find(0, &|line| line.trim() == "params: {"),
        Spot::Block(line) => find(line.saturating_sub(1) as usize, &|line| line.trim() == "nodes: {"),
        // Less deep than those of blocks.
        Spot::Body => find(0, &|line| line == "    nodes: {"),
    }
}

fn write_notes(text: &mut String, candidate: &Candidate, indent: usize, is_here: impl Fn(Spot) -> bool) {
    for difference in candidate.differences.iter().filter(|difference| is_here(difference.at)) {
        comment(text, indent, &format!("DECIDE: {}.", difference.what));
    }
}

/// Writes a comment, over as many lines as it takes.
fn comment(text: &mut String, indent: usize, what: &str) {
    let margin = format!("{}//", " ".repeat(indent));
    let mut line = margin.clone();
    for word in what.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH && line != margin {
            *text += &line;
            text.push('\n');
            // What goes on is a step further in.
            line = format!("{margin} ");
        }
        line.push(' ');
        line += word;
    }
    *text += &line;
    text.push('\n');
}

fn header(candidate: &Candidate, subject: &Subject) -> String {
    let (family, name) = (subject.family(), candidate.name);
    let by = if subject.tensors.is_some() { "config and tensors" } else { "config" };
    let rest = if candidate.differences.is_empty() {
        format!("Nothing in {by} tells the two apart: compare the logits before you believe it.")
    } else {
        format!("Where {by} differ from what {name} serves, a comment says DECIDE: take it out when it is decided.")
    };
    let mut text = String::new();
    comment(
        &mut text,
        0,
        &format!("{family}: begun from {name} by `trefoil new-model`; say here what is its own. {rest}"),
    );
    text
}
