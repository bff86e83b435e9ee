//! From a plan's text to a [`Plan`].

use serde::Deserialize;
use trefoil_ir::diag::{Diagnostic, Place};
use trefoil_ir::graph::Point;
use trefoil_ir::ids::{Id, PointId, StreamId};
use trefoil_ir::schedule::{Group, Stream, Streams};

use super::{LaunchName, List, Order, Plan, Rule, Share, Suits, Target, suggestion};
use crate::source::{Entries, Raw, Reader};

#[derive(Deserialize)]
#[serde(rename = "Plan", deny_unknown_fields)]
struct PlanForm<'a> {
    suits: SuitsForm,
    #[serde(borrow)]
    points: Vec<Raw<'a>>,
    #[serde(borrow, default)]
    multiple_of: Option<Raw<'a>>,
    #[serde(borrow, default)]
    cuts: Entries<'a>,
    #[serde(borrow)]
    streams: Raw<'a>,
    #[serde(borrow, default)]
    place: Entries<'a>,
    #[serde(borrow)]
    order: Raw<'a>,
    #[serde(borrow, default)]
    shares: Entries<'a>,
    #[serde(default)]
    device: Option<String>,
    #[serde(borrow, default)]
    ranks: Option<Raw<'a>>,
    #[serde(borrow, default)]
    gather: Entries<'a>,
}

#[derive(Deserialize)]
#[serde(rename = "Suits", deny_unknown_fields)]
struct SuitsForm {
    #[serde(default)]
    min_tokens: u32,
    #[serde(default)]
    min_decode: u32,
    #[serde(default)]
    max_tokens: Option<u32>,
    #[serde(default)]
    max_decode: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename = "Point")]
enum PointForm {
    Share(f32),
    Tokens(u32),
    DecodeShare(f32),
}

#[derive(Deserialize)]
#[serde(rename = "Stream", deny_unknown_fields)]
struct StreamForm {
    name: String,
    group: GroupForm,
    share: f32,
}

#[derive(Deserialize)]
#[serde(rename = "Group")]
enum GroupForm {
    Compute,
    Memory,
    Network,
    Copy,
}

#[derive(Deserialize)]
#[serde(rename = "Order")]
enum OrderForm<'a> {
    AsWritten,
    Overlap,
    #[serde(borrow)]
    Listed(Entries<'a>),
}

pub(super) fn plan(name: &str, source: &str) -> Result<Plan, Vec<Diagnostic>> {
    let mut reader = Reader::new(source, "T1001", "T1006");
    let plan = reader.read(reader.whole()).and_then(|form| from_form(name, form, &mut reader));
    let mut mistakes = reader.mistakes;
    mistakes.sort_by_key(|mistake| mistake.place);
    match plan {
        Some(plan) if mistakes.is_empty() => Ok(plan),
        Some(_) | None => Err(mistakes),
    }
}

fn from_form<'a>(name: &str, form: PlanForm<'a>, reader: &mut Reader<'a>) -> Option<Plan> {
    let points = points(&form.points, reader);
    let streams = streams(form.streams, reader);
    let cuts = cuts(&form.cuts, form.points.len(), reader);
    let place = placements(&form.place, &streams, reader);
    Some(Plan {
        name: name.to_owned(),
        suits: suits(&form.suits),
        device: form.device,
        ranks: form.ranks.and_then(|raw| ranks(raw, reader)),
        points,
        multiple_of: form.multiple_of.map_or(Some(1), |raw| multiple_of(raw, reader))?,
        cuts,
        streams,
        place,
        order: order(form.order, reader)?,
        shares: shares(&form.shares, reader),
        gather: gathered(&form.gather, reader),
    })
}

fn suits(form: &SuitsForm) -> Suits {
    let SuitsForm { min_tokens, min_decode, max_tokens, max_decode } = *form;
    Suits { min_tokens, min_decode, max_tokens, max_decode }
}

fn ranks<'a>(raw: Raw<'a>, reader: &mut Reader<'a>) -> Option<u32> {
    let ranks = reader.read(raw)?;
    if ranks == 0 {
        reader.report(
            "T1010",
            reader.place(raw),
            "a model has at least 1 rank".to_owned(),
            "leave it out for any number",
        );
    }
    Some(ranks)
}

fn shares<'a>(entries: &Entries<'a>, reader: &mut Reader<'a>) -> Vec<Share> {
    let mut shares = vec![];
    for (name, place, raw) in reader.entries::<Raw>(entries) {
        let Some(share) = reader.read::<f32>(raw) else { continue };
        if !(share > 0.0 && share <= 1.0) {
            let message = format!("the share of `{name}` is {share}");
            reader.report("T1010", reader.place(raw), message, "a share of the device is in (0, 1]");
        }
        let numbered = name.split_once('#').map(|(node, nano)| (node.to_owned(), nano.parse::<usize>()));
        let (of, nano) = match numbered {
            None => (name, None),
            Some((node, Ok(nano))) => (node, Some(nano)),
            Some((_, Err(_))) => {
                let message = format!("`{name}` is no launch");
                reader.report("T1009", place, message, "write `node#number`, such as `qkv#0`, or a name alone");
                continue;
            }
        };
        shares.push(Share { of: target(of), nano, share, place });
    }
    shares
}

fn gathered<'a>(entries: &Entries<'a>, reader: &mut Reader<'a>) -> Vec<Rule<Vec<usize>>> {
    let entries = reader.entries::<Vec<usize>>(entries);
    entries.into_iter().map(|(name, place, value)| Rule { of: target(name), value, place }).collect()
}

fn multiple_of<'a>(raw: Raw<'a>, reader: &mut Reader<'a>) -> Option<u32> {
    let rows = reader.read(raw)?;
    if rows == 0 {
        let message = "cuts cannot be multiples of 0 rows".to_owned();
        reader.report("T1008", reader.place(raw), message, "leave it out for cuts at any row");
    }
    Some(rows)
}

fn points<'a>(raws: &[Raw<'a>], reader: &mut Reader<'a>) -> Vec<Point> {
    let mut points: Vec<Point> = vec![];
    for raw in raws {
        let Some(form) = reader.read::<PointForm>(*raw) else { continue };
        let place = reader.place(*raw);
        let point = match form {
            PointForm::Share(share) => Point::Share(share),
            PointForm::Tokens(tokens) => Point::Tokens(tokens),
            PointForm::DecodeShare(share) => Point::DecodeShare(share),
        };
        if !is_within_batch(point) {
            let message = format!("{point:?} is no point of a batch");
            reader.report("T1002", place, message, "shares are in (0, 1], tokens at least 1");
        }
        if points.iter().any(|earlier| falls(*earlier, point)) {
            let message = format!("{point:?} does not come after the points before it");
            reader.report("T1003", place, message, "points rise: write them in the order of the rows they cut");
        }
        points.push(point);
    }
    points
}

fn is_within_batch(point: Point) -> bool {
    match point {
        Point::Share(share) | Point::DecodeShare(share) => share > 0.0 && share <= 1.0,
        Point::Tokens(tokens) => tokens > 0,
    }
}

/// Whether the second cannot come after the first. Points of different kinds are compared when the batch is known.
fn falls(first: Point, second: Point) -> bool {
    match (first, second) {
        (Point::Share(a), Point::Share(b)) | (Point::DecodeShare(a), Point::DecodeShare(b)) => a >= b,
        (Point::Tokens(a), Point::Tokens(b)) => a >= b,
        (Point::Share(_), Point::Tokens(_) | Point::DecodeShare(_))
        | (Point::Tokens(_), Point::Share(_) | Point::DecodeShare(_))
        | (Point::DecodeShare(_), Point::Share(_) | Point::Tokens(_)) => false,
    }
}

fn cuts<'a>(entries: &Entries<'a>, num_points: usize, reader: &mut Reader<'a>) -> Vec<Rule<Vec<PointId>>> {
    let mut rules = vec![];
    for (name, place, raws) in reader.entries::<Vec<Raw>>(entries) {
        let mut cuts: Vec<PointId> = vec![];
        for raw in raws {
            let Some(number) = reader.read::<usize>(raw) else { continue };
            let cut = PointId::new(number);
            if !(1..=num_points).contains(&number) {
                let message = format!("`{name}` is cut at point {number}, and the plan has {num_points}");
                reader.report("T1004", reader.place(raw), message, "points count from 1; 0 and the end are no cuts");
            } else if cuts.last().is_some_and(|last| *last >= cut) {
                let message = format!("the cuts of `{name}` do not rise at {number}");
                reader.report("T1004", reader.place(raw), message, "write each cut once, in the order of the points");
            }
            cuts.push(cut);
        }
        rules.push(Rule { of: target(name), value: cuts, place });
    }
    rules
}

fn target(name: String) -> Target {
    if name == "*" { Target::Everything } else { Target::Named(name) }
}

fn streams<'a>(list: Raw<'a>, reader: &mut Reader<'a>) -> Streams {
    let mut streams = Streams::default();
    let Some(raws) = reader.read::<Vec<Raw>>(list) else { return streams };
    for raw in &raws {
        let Some(form) = reader.read::<StreamForm>(*raw) else { continue };
        let place = reader.place(*raw);
        if !(form.share > 0.0 && form.share <= 1.0) {
            let message = format!("the share of stream `{}` is {}", form.name, form.share);
            reader.report("T1005", place, message, "a share of the device is in (0, 1]");
        }
        if streams.values().any(|known| known.name == form.name) {
            reader.report("T1005", place, format!("two streams are named `{}`", form.name), "rename one of them");
        }
        let group = match form.group {
            GroupForm::Compute => Group::Compute,
            GroupForm::Memory => Group::Memory,
            GroupForm::Network => Group::Network,
            GroupForm::Copy => Group::Copy,
        };
        streams.push(Stream { name: form.name, group, share: form.share });
    }
    if raws.is_empty() {
        let message = "the plan has no stream".to_owned();
        let help = "the least is `Stream(name: \"compute\", group: Compute, share: 1.0)`";
        reader.report("T1005", reader.place(list), message, help);
    }
    streams
}

fn placements<'a>(entries: &Entries<'a>, streams: &Streams, reader: &mut Reader<'a>) -> Vec<Rule<StreamId>> {
    let mut rules = vec![];
    for (name, place, raw) in reader.entries::<Raw>(entries) {
        let Some(stream) = reader.read::<String>(raw) else { continue };
        match streams.iter().find(|(_, known)| known.name == stream) {
            Some((id, _)) => rules.push(Rule { of: target(name), value: id, place }),
            None => {
                let help = suggestion(&stream, streams.values().map(|stream| stream.name.as_str()));
                reader.report("T1007", reader.place(raw), format!("the plan has no stream `{stream}`"), help);
            }
        }
    }
    rules
}

fn order<'a>(raw: Raw<'a>, reader: &mut Reader<'a>) -> Option<Order> {
    Some(match reader.read(raw)? {
        OrderForm::AsWritten => Order::AsWritten,
        OrderForm::Overlap => Order::Overlap,
        OrderForm::Listed(entries) => Order::Listed(lists(&entries, reader)),
    })
}

fn lists<'a>(entries: &Entries<'a>, reader: &mut Reader<'a>) -> Vec<List> {
    let entries = reader.entries::<Vec<Raw>>(entries);
    let list = |(body, place, raws): (String, Place, Vec<Raw<'a>>)| {
        let launches = raws.into_iter().filter_map(|raw| launch_name(raw, reader)).collect();
        List { body, launches, place }
    };
    entries.into_iter().map(list).collect()
}

fn launch_name<'a>(raw: Raw<'a>, reader: &mut Reader<'a>) -> Option<LaunchName> {
    let text = reader.read::<String>(raw)?;
    let place = reader.place(raw);
    let parts = text.split_once('#').and_then(|(node, nano)| Some((node, nano.parse().ok()?)));
    let name = parts.map(|(node, nano)| LaunchName { node: node.to_owned(), nano, place });
    if name.is_none() {
        reader.report("T1009", place, format!("`{text}` is no launch"), "write `node#number`, such as `qkv#0`");
    }
    name
}
