//! From a [`Plan`] to the text of its file.

use std::fmt::Write;

use trefoil_ir::graph::Point;
use trefoil_ir::ids::{Id, PointId};
use trefoil_ir::schedule::Stream;

use super::{List, Order, Plan, Share, Suits, Target};

impl Plan {
    /// The text of the plan's file, which reads back as the same plan; `about` is put before it as a comment.
    pub fn to_ron(&self, about: &str) -> String {
        let mut text: String = about.lines().map(|line| format!("// {line}\n")).collect();
        text += "Plan(\n";
        self.fields(&mut text);
        text += ")\n";
        text
    }

    fn fields(&self, text: &mut String) {
        field(text, "suits", &suits(self.suits));
        if let Some(device) = &self.device {
            field(text, "device", &format!("{device:?}"));
        }
        if let Some(ranks) = self.ranks {
            field(text, "ranks", &ranks.to_string());
        }
        field(text, "points", &list(self.points.iter().map(point)));
        field(text, "multiple_of", &self.multiple_of.to_string());
        let cuts = self.cuts.iter().map(|rule| (key(&rule.of), numbers(&rule.value)));
        map(text, "cuts", cuts);
        let gather = self.gather.iter().map(|rule| (key(&rule.of), list(rule.value.iter().map(usize::to_string))));
        map(text, "gather", gather);
        text.push_str("    streams: [\n");
        self.streams.values().for_each(|own| text.push_str(&format!("        {},\n", stream(own))));
        text.push_str("    ],\n");
        let place = self.place.iter().map(|rule| (key(&rule.of), format!("{:?}", self.streams[rule.value].name)));
        map(text, "place", place);
        map(text, "shares", self.shares.iter().map(share));
        match &self.order {
            Order::AsWritten => field(text, "order", "AsWritten"),
            Order::Overlap => field(text, "order", "Overlap"),
            Order::Listed(lists) => listed(text, lists),
        }
    }
}

fn field(text: &mut String, name: &str, value: &str) {
    let _ = writeln!(text, "    {name}: {value},");
}

/// A field with a map, an entry per line; nothing where it is empty.
fn map(text: &mut String, name: &str, entries: impl Iterator<Item = (String, String)>) {
    let entries: String = entries.map(|(key, value)| format!("        {key:?}: {value},\n")).collect();
    if !entries.is_empty() {
        let _ = write!(text, "    {name}: {{\n{entries}    }},\n");
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

fn numbers(points: &[PointId]) -> String {
    list(points.iter().map(|point| point.index().to_string()))
}

fn suits(suits: Suits) -> String {
    let Suits { min_tokens, min_decode, max_tokens, max_decode } = suits;
    let least = [("min_tokens", min_tokens), ("min_decode", min_decode)].into_iter().filter(|(_, rows)| *rows > 0);
    let most = [("max_tokens", max_tokens), ("max_decode", max_decode)];
    let least = least.map(|(name, rows)| format!("{name}: {rows}"));
    let most = most.into_iter().filter_map(|(name, rows)| Some(format!("{name}: Some({})", rows?)));
    format!("({})", least.chain(most).collect::<Vec<_>>().join(", "))
}

fn point(point: &Point) -> String {
    match point {
        Point::Share(share) => format!("Share({share:?})"),
        Point::Tokens(rows) => format!("Tokens({rows})"),
        Point::DecodeShare(share) => format!("DecodeShare({share:?})"),
    }
}

fn stream(stream: &Stream) -> String {
    format!("Stream(name: {:?}, group: {:?}, share: {:?})", stream.name, stream.group, stream.share)
}

fn key(target: &Target) -> String {
    match target {
        Target::Everything => "*".to_owned(),
        Target::Named(name) => name.clone(),
    }
}

fn share(share: &Share) -> (String, String) {
    let number = share.nano.map(|nano| format!("#{nano}")).unwrap_or_default();
    (format!("{}{number}", key(&share.of)), format!("{:?}", share.share))
}

fn listed(text: &mut String, lists: &[List]) {
    text.push_str("    order: Listed({\n");
    for List { body, launches, .. } in lists {
        let _ = writeln!(text, "        {body:?}: [");
        for launches in launches.chunks(6) {
            let names: Vec<_> = launches.iter().map(|launch| format!("{:?}", launch.to_string())).collect();
            let _ = writeln!(text, "            {},", names.join(", "));
        }
        text.push_str("        ],\n");
    }
    text.push_str("    }),\n");
}
