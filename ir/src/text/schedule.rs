//! The launch schedule as text, printed and read side by side.

use std::fmt::Write;

use super::cursor::{Cursor, Statement};
use super::lines::{NodeLine, block, id, id_below, named};
use super::names::{Names, word};
use super::op;
use super::print::{Spot, launch_text};
use crate::diag::Diagnostic;
use crate::dim::Dim;
use crate::graph::Graph;
use crate::ids::{BlockId, BufferId, StreamId, Table, ValueId};
use crate::infer::shape;
use crate::schedule::{Buffer, BufferRows, Home, Launch, Schedule, Section, Step};

/// The graph's schedule as text; nothing where it has none.
pub(super) fn print(graph: &Graph) -> String {
    let Some(schedule) = &graph.schedule else { return String::new() };
    let mut text = format!("schedule of {} events\n", schedule.num_events);
    for (id, buffer) in schedule.buffers.iter() {
        let _ = writeln!(text, "  buffer {id} = {}{}", rows_word(buffer.rows), shape(&buffer.columns));
    }
    if !schedule.homes.is_empty() {
        text += "  homes\n";
        for (value, home) in schedule.homes.iter() {
            print_home(&mut text, graph, value, home.as_ref());
        }
    }
    for section in &schedule.sections {
        print_section(&mut text, graph, section);
    }
    text
}

fn print_home(text: &mut String, graph: &Graph, value: ValueId, home: Option<&Home>) {
    let Some(Home { buffer, column, columns }) = home else { return };
    let window = shape(&[column.clone(), columns.clone()]);
    let name = graph.values.get(value).map_or("", |value| &value.name);
    let _ = writeln!(text, "    {value} = {buffer} columns {window} // {name}");
}

fn print_section(text: &mut String, graph: &Graph, section: &Section) {
    match section {
        Section::Once(steps) => {
            *text += "  once\n";
            print_steps(text, "    ", steps, Names { graph, block: None });
        }
        Section::Repeat { blocks, times } => {
            let _ = writeln!(text, "  repeat {times}");
            for (block, steps) in blocks {
                let _ = writeln!(text, "    block {}", Names { graph, block: None }.block(*block));
                print_steps(text, "      ", steps, Names { graph, block: Some(*block) });
            }
        }
    }
}

fn print_steps(text: &mut String, indent: &str, steps: &[Step], names: Names<'_>) {
    for step in steps {
        let line = match step {
            Step::Launch(launch) => print_launch(launch, names),
            Step::Record { stream, event } => format!("record {event} on {}", names.stream(*stream)),
            Step::Wait { stream, event } => format!("wait {event} on {}", names.stream(*stream)),
        };
        let _ = writeln!(text, "{indent}{line}");
    }
}

fn print_launch(launch: &Launch, names: Names<'_>) -> String {
    let Launch { node, nano, op, outputs, range, stream, share } = launch;
    let outputs: Vec<_> = outputs.iter().map(ValueId::to_string).collect();
    let spot = Spot { range: Some(*range), stream: Some(*stream), share: *share };
    let launch = launch_text(&outputs, &op::print(op, names), spot, names);
    format!("launch {} {nano}: {launch}", word(node))
}

fn rows_word(rows: BufferRows) -> &'static str {
    match rows {
        BufferRows::Tokens => "tokens",
        BufferRows::Seqs => "seqs",
    }
}

/// Reads the lines of a schedule. Mistakes are collected, a line each.
pub(super) fn parse(graph: &Graph, statement: &Statement<'_>, mistakes: &mut Vec<Diagnostic>) -> Option<Schedule> {
    let mut reader = ScheduleReader { graph, mistakes, schedule: empty() };
    match reader.num_events(&mut statement.cursor.clone()) {
        Ok(num_events) => reader.schedule.num_events = num_events,
        Err(mistake) => reader.mistakes.push(mistake),
    }
    for child in &statement.children {
        if let Err(mistake) = reader.part(child) {
            reader.mistakes.push(mistake);
        }
    }
    reader.mistakes.is_empty().then_some(reader.schedule)
}

fn empty() -> Schedule {
    Schedule { sections: Vec::new(), num_events: 0, buffers: Table::default(), homes: Table::default() }
}

struct ScheduleReader<'g, 'm> {
    graph: &'g Graph,
    mistakes: &'m mut Vec<Diagnostic>,
    schedule: Schedule,
}

impl ScheduleReader<'_, '_> {
    fn num_events(&mut self, cursor: &mut Cursor<'_>) -> Result<usize, Diagnostic> {
        cursor.keyword("schedule")?;
        cursor.keyword("of")?;
        let num_events = cursor.number()?;
        cursor.keyword("events")?;
        cursor.end()?;
        Ok(num_events)
    }

    fn part(&mut self, statement: &Statement<'_>) -> Result<(), Diagnostic> {
        let mut cursor = statement.cursor.clone();
        let start = cursor.clone();
        match cursor.word()? {
            "buffer" => self.buffer(&mut cursor)?,
            "homes" => self.homes(statement),
            "once" => {
                let steps = self.steps(statement, None);
                self.schedule.sections.push(Section::Once(steps));
            }
            "repeat" => {
                let times = cursor.dim()?;
                let blocks = self.blocks(statement);
                self.schedule.sections.push(Section::Repeat { blocks, times });
            }
            _ => return Err(start.error("`buffer`, `homes`, `once` or `repeat` should stand here")),
        }
        cursor.end()
    }

    fn buffer(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Diagnostic> {
        let at = cursor.clone();
        let found: BufferId = id(cursor, 'm')?;
        cursor.expect("=")?;
        let rows = match cursor.word()? {
            "tokens" => BufferRows::Tokens,
            "seqs" => BufferRows::Seqs,
            _ => return Err(cursor.error("`tokens` or `seqs` should stand here")),
        };
        let columns = cursor.list(Cursor::dim)?;
        let next = self.schedule.buffers.push(Buffer { rows, columns });
        if found == next { Ok(()) } else { Err(Diagnostic::new("T0903", at.place(), format!("the next id is {next}"))) }
    }

    fn homes(&mut self, statement: &Statement<'_>) {
        self.schedule.homes = self.graph.values.ids().map(|_| None).collect();
        for child in &statement.children {
            match self.home(&mut child.cursor.clone()) {
                Ok((value, home)) => self.schedule.homes[value] = Some(home),
                Err(mistake) => self.mistakes.push(mistake),
            }
        }
    }

    fn home(&mut self, cursor: &mut Cursor<'_>) -> Result<(ValueId, Home), Diagnostic> {
        let value = id_below(cursor, 'v', self.graph.values.len())?;
        cursor.expect("=")?;
        let buffer = id_below(cursor, 'm', self.schedule.buffers.len())?;
        cursor.keyword("columns")?;
        let window = cursor.list(Cursor::dim)?;
        let window = <[Dim; 2]>::try_from(window);
        let [column, columns] =
            window.map_err(|_| cursor.error("a first column and a number of columns stand here"))?;
        cursor.end()?;
        Ok((value, Home { buffer, column, columns }))
    }

    fn blocks(&mut self, statement: &Statement<'_>) -> Vec<(BlockId, Vec<Step>)> {
        let mut blocks = Vec::new();
        for child in &statement.children {
            match self.block_header(&mut child.cursor.clone()) {
                Ok(block) => blocks.push((block, self.steps(child, Some(block)))),
                Err(mistake) => self.mistakes.push(mistake),
            }
        }
        blocks
    }

    fn block_header(&mut self, cursor: &mut Cursor<'_>) -> Result<BlockId, Diagnostic> {
        cursor.keyword("block")?;
        let found = block(cursor, Names { graph: self.graph, block: None })?;
        cursor.end()?;
        Ok(found)
    }

    fn steps(&mut self, statement: &Statement<'_>, block: Option<BlockId>) -> Vec<Step> {
        let names = Names { graph: self.graph, block };
        let steps = statement.children.iter().map(|child| step(&mut child.cursor.clone(), names));
        let (steps, mistakes): (Vec<_>, Vec<_>) = steps.partition(Result::is_ok);
        self.mistakes.extend(mistakes.into_iter().filter_map(Result::err));
        steps.into_iter().filter_map(Result::ok).collect()
    }
}

fn step(cursor: &mut Cursor<'_>, names: Names<'_>) -> Result<Step, Diagnostic> {
    let start = cursor.clone();
    let keyword = cursor.word()?;
    if keyword == "launch" {
        return launch(cursor, names).map(Step::Launch);
    }
    // An event or a stream that is not there is for the verifier to find.
    let event = id(cursor, 'e')?;
    cursor.keyword("on")?;
    let stream = stream(cursor, names)?;
    cursor.end()?;
    match keyword {
        "record" => Ok(Step::Record { stream, event }),
        "wait" => Ok(Step::Wait { stream, event }),
        _ => Err(start.error("`launch`, `record` or `wait` should stand here")),
    }
}

fn launch(cursor: &mut Cursor<'_>, names: Names<'_>) -> Result<Launch, Diagnostic> {
    let start = cursor.clone();
    let line = NodeLine::parse(cursor)?;
    let op = op::parse(&line.call, names)?;
    let missing = |what: &str| start.error(format!("a launch has {what}"));
    let range = line.range.ok_or_else(|| missing("a range, `@ 0..1`"))?;
    let stream = stream(&mut line.stream.ok_or_else(|| missing("a stream, `on compute`"))?, names)?;
    let nano = line.nano.ok_or_else(|| missing("a number after the name of its node"))?;
    let outputs = line.outputs.into_iter().map(|output| output.id).collect();
    Ok(Launch { node: line.name, nano, op, outputs, range, stream, share: line.share })
}

/// A stream by name or id.
pub(super) fn stream(cursor: &mut Cursor<'_>, names: Names<'_>) -> Result<StreamId, Diagnostic> {
    named(cursor, "stream", |word| names.find_stream(word))
}
