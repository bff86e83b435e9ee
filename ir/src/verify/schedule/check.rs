//! The rules that need the order of launches: no races, no value lost, none read before it is there.

use crate::diag::Diagnostic;
use crate::graph::Graph;
use crate::ids::ValueId;

use super::access::{Access, Places, Storage, place_of};
use super::order::{Issued, LaunchNumber, Order};
use super::origin::Origins;

/// A broken rule, and the two places in the text it is about.
pub(super) struct Mistake {
    pub(super) texts: (usize, usize),
    pub(super) diagnostic: Diagnostic,
}

/// What is wrong when the layers of each repeat have these texts.
pub(super) fn mistakes(graph: &Graph, order: &[usize]) -> Vec<Mistake> {
    let check = Check::of(graph, order);
    let mut mistakes = vec![];
    for later in 0..check.order.issued().len() {
        mistakes.extend((0..later).rev().filter_map(|earlier| check.race(earlier, later)));
        mistakes.extend(check.over_itself(later));
        mistakes.extend(check.misreads(later));
        mistakes.extend(check.unfinished(later));
    }
    mistakes
}

struct Check<'a> {
    graph: &'a Graph,
    order: Order<'a>,
    origins: Origins<'a>,
    /// By launch.
    reads: Vec<Vec<Access>>,
    /// By launch.
    writes: Vec<Vec<Access>>,
}

/// What two conflicting accesses are, the earlier one first.
#[derive(Clone, Copy)]
enum Conflict {
    ReadAfterWrite,
    WriteAfterRead,
    WriteAfterWrite,
}

impl Conflict {
    fn code(self) -> &'static str {
        match self {
            Conflict::ReadAfterWrite => "T3001",
            Conflict::WriteAfterRead => "T3002",
            Conflict::WriteAfterWrite => "T3003",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Conflict::ReadAfterWrite => "read after write (RAW)",
            Conflict::WriteAfterRead => "write after read (WAR)",
            Conflict::WriteAfterWrite => "write after write (WAW)",
        }
    }

    /// What the later launch does, and what the earlier one must have done.
    fn verbs(self) -> (&'static str, &'static str) {
        match self {
            Conflict::ReadAfterWrite => ("reads", "written"),
            Conflict::WriteAfterRead => ("writes", "read"),
            Conflict::WriteAfterWrite => ("writes", "written"),
        }
    }
}

impl<'a> Check<'a> {
    fn of(graph: &'a Graph, layers: &[usize]) -> Self {
        let order = Order::unrolled(graph, layers);
        let places = Places::of(graph);
        let result = || places.all_of(graph.gives).into_iter().collect();
        let reads =
            |issued: &Issued<'_>| issued.launch.map_or_else(result, |launch| places.reads(launch, issued.layer));
        let writes =
            |issued: &Issued<'_>| issued.launch.map_or_else(Vec::new, |launch| places.writes(launch, issued.layer));
        let reads = order.issued().iter().map(reads).collect();
        let writes = order.issued().iter().map(writes).collect();
        let origins = Origins::of(graph, &order, layers);
        Self { graph, order, origins, reads, writes }
    }

    fn issued(&self, number: usize) -> &Issued<'a> {
        &self.order.issued()[number]
    }

    fn is_before(&self, earlier: usize, later: usize) -> bool {
        self.order.before(LaunchNumber(earlier), LaunchNumber(later))
    }

    /// Two launches that touch the same elements without a path between them.
    fn race(&self, earlier: usize, later: usize) -> Option<Mistake> {
        if self.is_before(earlier, later) {
            return None;
        }
        let same_step = self.issued(earlier).step == self.issued(later).step;
        let kinds = [
            (Conflict::ReadAfterWrite, &self.writes[earlier], &self.reads[later]),
            (Conflict::WriteAfterRead, &self.reads[earlier], &self.writes[later]),
            (Conflict::WriteAfterWrite, &self.writes[earlier], &self.writes[later]),
        ];
        let (conflict, (first, second)) = kinds.into_iter().find_map(|(conflict, firsts, seconds)| {
            overlapping(firsts, seconds, same_step).map(|accesses| (conflict, accesses))
        })?;
        Some(self.race_between(conflict, (earlier, first), (later, second)))
    }

    fn race_between(&self, conflict: Conflict, earlier: (usize, &Access), later: (usize, &Access)) -> Mistake {
        let (first, second) = (self.describe(earlier.0, later.0), self.describe(later.0, earlier.0));
        let (reads, written) = conflict.verbs();
        let (kind, subject, other) = (conflict.name(), self.name(later.1), self.name(earlier.1));
        let message = format!(
            "{kind}: {second} {reads} {subject}, and nothing makes it come after {first} has {written} {other}"
        );
        let help = format!(
            "record an event on stream `{}` after `{}` and make stream `{}` wait for it before `{}`",
            self.stream(earlier.0),
            self.short_name(earlier.0),
            self.stream(later.0),
            self.short_name(later.0)
        );
        self.mistake(conflict.code(), (earlier.0, later.0), message, help)
    }

    /// A launch that writes where it reads, or twice to one place, without being made for it.
    fn over_itself(&self, number: usize) -> Option<Mistake> {
        let issued = self.issued(number);
        let is_made_for_it = |read: ValueId, written: ValueId| {
            let output = issued.launch.and_then(|launch| Some((launch, number_of(&launch.outputs, written)?)));
            output.is_some_and(|(launch, output)| launch.op.in_place(output).contains(&read))
        };
        let harmless = |read: &Access, write: &Access| match (read.value, write.value) {
            (_, None) => true,
            (Some(read_value), Some(written)) => is_made_for_it(read_value, written) && read.window == write.window,
            (None, Some(_)) => false,
        };
        let (reads, writes) = (&self.reads[number], &self.writes[number]);
        let over_operand =
            pairs(reads, writes).find(|(read, write)| read.overlaps(write, true) && !harmless(read, write));
        let twice = pairs(writes, writes).find(|(a, b)| a.value < b.value && a.overlaps(b, true));
        let (other, written) = over_operand.or(twice)?;
        let message =
            format!("{} writes {} over {}", self.describe(number, number), self.name(written), self.name(other));
        let help = "give the two places of their own, or the whole place of the operand it may overwrite";
        Some(self.mistake("T3006", (number, number), message, help.to_owned()))
    }

    /// Reads of rows that nothing has written, or that something else has overwritten.
    fn misreads(&self, reader: usize) -> Vec<Mistake> {
        self.reads[reader]
            .iter()
            .filter_map(|read| self.missing(reader, read).or_else(|| self.lost(reader, read)))
            .collect()
    }

    /// The launches before `reader` that give what it reads, with the access by which they do.
    fn sources(&self, reader: usize, read: &Access) -> Vec<(usize, &Access)> {
        let writes = |number: usize| self.writes[number].iter().map(move |write| (number, write));
        let same_step = |number: &usize| self.issued(*number).step == self.issued(reader).step;
        let Some(value) = read.value else {
            let candidates = (0..reader).filter(same_step).flat_map(writes);
            return candidates.filter(|(_, write)| write.storage == read.storage).collect();
        };
        let (givers, given) = self.origins.of_value(value, self.issued(reader));
        let candidates = givers.iter().copied().filter(|giver| *giver < reader).flat_map(writes);
        candidates.filter(|(_, write)| write.value == Some(given)).collect()
    }

    fn missing(&self, reader: usize, read: &Access) -> Option<Mistake> {
        let sources = self.sources(reader, read);
        let is_there = |part| sources.iter().any(|(_, write)| write.rows.intersect(part));
        if read.rows.parts().into_iter().all(is_there) {
            return None;
        }
        let message = format!(
            "{} reads rows of {} that no launch before has written",
            self.describe(reader, reader),
            self.name(read)
        );
        Some(self.mistake("T3005", (reader, reader), message, "launch what gives them before".to_owned()))
    }

    fn lost(&self, reader: usize, read: &Access) -> Option<Mistake> {
        read.value?;
        let sources = self.sources(reader, read);
        let by = |part| {
            let (source, _) = *sources.iter().rfind(|(_, write)| write.rows.intersect(part))?;
            let over = |write: &Access| write.overlaps(read, true) && write.rows.intersect(part);
            (source + 1..reader)
                .find(|number| !sources.iter().any(|(own, _)| own == number) && self.writes[*number].iter().any(over))
        };
        let by = read.rows.parts().into_iter().find_map(by)?;
        let message = format!(
            "{} has overwritten {} before {} reads it",
            self.describe(by, reader),
            self.name(read),
            self.describe(reader, by)
        );
        Some(self.mistake("T3004", (by, reader), message, "give one of the two another buffer".to_owned()))
    }

    /// A launch that may outlast its step.
    fn unfinished(&self, end: usize) -> Vec<Mistake> {
        let step = self.issued(end).step;
        if self.issued(end).launch.is_some() {
            return vec![];
        }
        let running = (0..end).filter(|number| self.issued(*number).step == step && !self.is_before(*number, end));
        running.map(|number| self.outlasts(number, end)).collect()
    }

    fn outlasts(&self, number: usize, end: usize) -> Mistake {
        let (stream, result) = (self.stream(end), &self.graph.values[self.graph.gives].name);
        let message = format!(
            "{} may still run when stream `{stream}` has ended with `{result}`, which the host takes as the end of the step",
            self.describe(number, number)
        );
        let help = format!("make stream `{stream}` wait for stream `{}` at the end", self.stream(number));
        self.mistake("T3007", (number, end), message, help)
    }

    fn mistake(&self, code: &'static str, (first, second): (usize, usize), message: String, help: String) -> Mistake {
        let texts = (self.issued(first).text, self.issued(second).text);
        let guilty = [second, first].into_iter().find_map(|number| {
            let issued = self.issued(number);
            issued.launch.map(|launch| place_of(self.graph, issued.block, &launch.node))
        });
        Mistake { texts, diagnostic: Diagnostic::new(code, guilty.unwrap_or_default(), message).help(help) }
    }

    /// The launch as one sentence names it beside another launch.
    fn describe(&self, number: usize, beside: usize) -> String {
        let issued = self.issued(number);
        let layer = issued.layer.map(|layer| format!("layer {layer}, ")).unwrap_or_default();
        let next = if issued.step > self.issued(beside).step { "the next step's " } else { "" };
        format!("{next}`{}` ({layer}stream `{}`)", self.short_name(number), self.stream(number))
    }

    fn short_name(&self, number: usize) -> String {
        match self.issued(number).launch {
            Some(launch) => format!("{}#{}", launch.node, launch.nano),
            None => "the host reading the result".to_owned(),
        }
    }

    fn stream(&self, number: usize) -> String {
        let stream = self.issued(number).stream;
        let named = self.graph.streams.as_ref().and_then(|streams| streams.get(stream));
        named.map_or_else(|| stream.to_string(), |named| named.name.clone())
    }

    /// What an access touches, and where.
    fn name(&self, access: &Access) -> String {
        let value = access.value.map(|value| format!("`{}`", self.graph.values[value].name)).unwrap_or_default();
        match access.storage {
            Storage::Buffer(buffer) => format!("{value} in {buffer}"),
            Storage::Value(_) => value,
            Storage::Cache(cache, _) => format!("cache `{}`", self.graph.caches[cache].name),
        }
    }
}

fn pairs<'b>(firsts: &'b [Access], seconds: &'b [Access]) -> impl Iterator<Item = (&'b Access, &'b Access)> {
    firsts.iter().flat_map(move |first| seconds.iter().map(move |second| (first, second)))
}

fn overlapping<'b>(firsts: &'b [Access], seconds: &'b [Access], same_step: bool) -> Option<(&'b Access, &'b Access)> {
    pairs(firsts, seconds).find(|(first, second)| first.overlaps(second, same_step))
}

fn number_of(outputs: &[ValueId], value: ValueId) -> Option<usize> {
    outputs.iter().position(|output| *output == value)
}
