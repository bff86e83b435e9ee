//! From a profile's text to a [`Profile`].

use std::collections::BTreeMap;

use serde::Deserialize;
use trefoil_ir::diag::{Diagnostic, meant};

use super::{Compute, ElementBytes, Kernel, Memory, Network, Oversubscribed, Profile, ResourceKey, Slowdown, Speed};
use crate::plan::OPERATORS;
use crate::source::{Entries, Raw, Reader};

#[derive(Deserialize)]
#[serde(rename = "Device", deny_unknown_fields)]
struct DeviceForm<'a> {
    about: String,
    #[serde(borrow)]
    memory: Raw<'a>,
    #[serde(borrow)]
    compute: Raw<'a>,
    #[serde(borrow, default)]
    network: Option<Raw<'a>>,
    #[serde(borrow)]
    bytes: Raw<'a>,
    #[serde(borrow)]
    cut_rows: Raw<'a>,
    #[serde(borrow, default)]
    kernels: Entries<'a>,
    #[serde(borrow, default)]
    sharing: Entries<'a>,
    #[serde(borrow, default)]
    slowdown: Vec<Raw<'a>>,
    #[serde(default)]
    oversubscribed: OversubscribedForm,
    #[serde(borrow, default)]
    like: Option<Raw<'a>>,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename = "Oversubscribed")]
enum OversubscribedForm {
    #[default]
    Waits,
    Yields,
    Slows,
}

#[derive(Deserialize)]
#[serde(rename = "Memory", deny_unknown_fields)]
struct MemoryForm {
    bytes: f64,
    bandwidth: f64,
}

#[derive(Deserialize)]
#[serde(rename = "Compute", deny_unknown_fields)]
struct ComputeForm {
    flops: f64,
    #[serde(default = "one")]
    units: u32,
    #[serde(default)]
    tile: Option<(u32, u32)>,
    #[serde(default)]
    split_seconds: f64,
}

fn one() -> u32 {
    1
}

#[derive(Deserialize)]
#[serde(rename = "Network", deny_unknown_fields)]
struct NetworkForm {
    bandwidth: f64,
}

#[derive(Deserialize)]
#[serde(rename = "Bytes", deny_unknown_fields)]
struct BytesForm {
    weights: u32,
    activations: u32,
    kv: u32,
}

#[derive(Deserialize)]
#[serde(rename = "Slowdown", deny_unknown_fields)]
struct SlowdownForm {
    of: String,
    beside: String,
    points: Vec<(f64, f64)>,
}

pub(super) fn profile<'f>(
    name: &str,
    source: &str,
    find: &dyn Fn(&str) -> Option<&'f str>,
    known: &[&str],
) -> Result<Profile, Vec<Diagnostic>> {
    let mut reader = Reader::new(source, "T1401", "T1404");
    let form = reader.read::<DeviceForm>(reader.whole());
    let profile = form.and_then(|form| from_form(name, form, &mut reader, find, known));
    let mut mistakes = reader.mistakes;
    mistakes.sort_by_key(|mistake| mistake.place);
    match profile {
        Some(profile) if mistakes.is_empty() => Ok(profile),
        Some(_) | None => Err(mistakes),
    }
}

fn from_form<'a, 'f>(
    name: &str,
    form: DeviceForm<'a>,
    reader: &mut Reader<'a>,
    find: &dyn Fn(&str) -> Option<&'f str>,
    known: &[&str],
) -> Option<Profile> {
    let memory = memory(form.memory, reader);
    let compute = compute(form.compute, reader);
    let network = form.network.map(|raw| network(raw, reader));
    let bytes = element_bytes(form.bytes, reader);
    let cut_rows = reader.read::<u32>(form.cut_rows);
    positive(cut_rows.map(f64::from), "cut_rows", form.cut_rows, reader);
    let kernels = kernels(&form.kernels, reader);
    let sharing = sharing(&form.sharing, reader);
    let slowdown = form.slowdown.iter().filter_map(|raw| slowdown(*raw, reader)).collect();
    let like = form.like.and_then(|raw| like(raw, reader, find, known));
    if kernels.is_empty() && form.like.is_none() {
        let help = "measure them with `trefoil profile`, or name a device that it is `like`";
        reader.report("T1406", reader.place(form.compute), "the profile has no kernels".to_owned(), help);
    }
    let own = Profile {
        name: name.to_owned(),
        about: form.about,
        memory: memory?,
        compute: compute?,
        network: network.flatten(),
        bytes: bytes?,
        cut_rows: cut_rows?,
        kernels,
        sharing,
        slowdown,
        oversubscribed: match form.oversubscribed {
            OversubscribedForm::Waits => Oversubscribed::Waits,
            OversubscribedForm::Yields => Oversubscribed::Yields,
            OversubscribedForm::Slows => Oversubscribed::Slows,
        },
    };
    Some(match like {
        Some(other) => completed(own, &other),
        None => own,
    })
}

/// What the profile does not say itself is as on the other device, at the same share of its peaks.
fn completed(own: Profile, other: &Profile) -> Profile {
    let mut kernels = own.kernels.clone();
    for (operator, kernel) in &other.kernels {
        let ratio = peak(&own, operator) / peak(other, operator);
        kernels.entry(operator.clone()).or_insert_with(|| kernel.scaled(ratio));
    }
    let mut sharing = own.sharing.clone();
    for (key, speed) in &other.sharing {
        sharing.entry(*key).or_insert_with(|| speed.clone());
    }
    let slowdown = if own.slowdown.is_empty() { other.slowdown.clone() } else { own.slowdown.clone() };
    Profile { kernels, sharing, slowdown, ..own }
}

/// The peak of the resource in which an operator's work is counted.
fn peak(profile: &Profile, operator: &str) -> f64 {
    match operator {
        "Linear" | "PrefillAttention" | "ExpertLinear" => profile.compute.flops,
        "AllReduce" | "AllGather" => profile.network.map_or(1.0, Network::one_way),
        _ => profile.memory.bandwidth,
    }
}

fn memory<'a>(raw: Raw<'a>, reader: &mut Reader<'a>) -> Option<Memory> {
    let form: MemoryForm = reader.read(raw)?;
    positive(Some(form.bytes), "bytes", raw, reader);
    positive(Some(form.bandwidth), "bandwidth", raw, reader);
    Some(Memory { bytes: form.bytes, bandwidth: form.bandwidth })
}

fn compute<'a>(raw: Raw<'a>, reader: &mut Reader<'a>) -> Option<Compute> {
    let form: ComputeForm = reader.read(raw)?;
    positive(Some(form.flops), "flops", raw, reader);
    positive(Some(f64::from(form.units)), "units", raw, reader);
    if let Some((rows, columns)) = form.tile {
        positive(Some(f64::from(rows.min(columns))), "tile", raw, reader);
    }
    let ComputeForm { flops, units, tile, split_seconds } = form;
    Some(Compute { flops, units, tile, split_seconds })
}

fn network<'a>(raw: Raw<'a>, reader: &mut Reader<'a>) -> Option<Network> {
    let form: NetworkForm = reader.read(raw)?;
    positive(Some(form.bandwidth), "bandwidth", raw, reader);
    Some(Network { bandwidth: form.bandwidth })
}

fn element_bytes<'a>(raw: Raw<'a>, reader: &mut Reader<'a>) -> Option<ElementBytes> {
    let BytesForm { weights, activations, kv } = reader.read(raw)?;
    positive(Some(f64::from(weights.min(activations).min(kv))), "bytes", raw, reader);
    Some(ElementBytes { weights, activations, kv })
}

fn positive<'a>(number: Option<f64>, field: &str, raw: Raw<'a>, reader: &mut Reader<'a>) {
    if number.is_some_and(|number| number <= 0.0 || !number.is_finite()) {
        let message = format!("`{field}` is {}", number.unwrap_or_default());
        reader.report("T1402", reader.place(raw), message, "write a number above 0, in the unit the format names");
    }
}

fn kernels<'a>(entries: &Entries<'a>, reader: &mut Reader<'a>) -> BTreeMap<String, Kernel> {
    let mut kernels = BTreeMap::new();
    for (operator, place, raw) in reader.entries::<Raw>(entries) {
        if operator != "*" && !OPERATORS.contains(&operator.as_str()) {
            let near = meant(&operator, &OPERATORS).map(|near| format!("did you mean `{near}`?"));
            let help =
                near.unwrap_or_else(|| "operators are named as in a graph, `*` stands for all others".to_owned());
            reader.report("T1404", place, format!("`{operator}` is no operator"), help);
        }
        let Some(points) = points(raw, reader, |share| share > 0.0 && share <= 1.0) else { continue };
        kernels.insert(operator, Kernel::new(points));
    }
    kernels
}

fn sharing<'a>(entries: &Entries<'a>, reader: &mut Reader<'a>) -> BTreeMap<ResourceKey, Speed> {
    let mut sharing = BTreeMap::new();
    for (name, place, raw) in reader.entries::<Raw>(entries) {
        let key = resource(&name);
        if key.is_none() {
            reader.report("T1404", place, format!("`{name}` is no resource"), RESOURCES);
        }
        let points = points(raw, reader, |speed| speed > 0.0 && speed <= 1.0);
        sharing.extend(key.zip(points).map(|(key, points)| (key, Speed::new(points))));
    }
    sharing
}

const RESOURCES: &str = "there are compute, memory and network";

fn resource(name: &str) -> Option<ResourceKey> {
    match name {
        "compute" => Some(ResourceKey::Compute),
        "memory" => Some(ResourceKey::Memory),
        "network" => Some(ResourceKey::Network),
        _ => None,
    }
}

fn slowdown<'a>(raw: Raw<'a>, reader: &mut Reader<'a>) -> Option<Slowdown> {
    let form: SlowdownForm = reader.read(raw)?;
    let keys = (resource(&form.of), resource(&form.beside));
    let (Some(of), Some(beside)) = keys else {
        let message = format!("a slowdown of `{}` beside `{}`", form.of, form.beside);
        reader.report("T1404", reader.place(raw), message, RESOURCES);
        return None;
    };
    rising(&form.points, raw, reader, |factor| factor >= 1.0);
    Some(Slowdown { of, beside, points: form.points })
}

fn points<'a>(raw: Raw<'a>, reader: &mut Reader<'a>, is_legal: impl Fn(f64) -> bool) -> Option<Vec<(f64, f64)>> {
    let points: Vec<(f64, f64)> = reader.read(raw)?;
    rising(&points, raw, reader, is_legal);
    Some(points)
}

fn rising<'a>(points: &[(f64, f64)], raw: Raw<'a>, reader: &mut Reader<'a>, is_legal: impl Fn(f64) -> bool) {
    let falls = points.windows(2).any(|pair| pair[1].0 <= pair[0].0);
    let wrong = points.iter().find(|(at, value)| *at <= 0.0 || !at.is_finite() || !is_legal(*value));
    if falls || wrong.is_some() || points.is_empty() {
        let what = wrong.map_or("points that do not rise".to_owned(), |point| format!("the point {point:?}"));
        let help = "points rise from above 0; shares and speeds are in (0, 1], slowdowns at least 1";
        reader.report("T1403", reader.place(raw), what, help);
    }
}

fn like<'a, 'f>(
    raw: Raw<'a>,
    reader: &mut Reader<'a>,
    find: &dyn Fn(&str) -> Option<&'f str>,
    known: &[&str],
) -> Option<Profile> {
    let name: String = reader.read(raw)?;
    let Some(text) = find(&name) else {
        let near = meant(&name, known).map(|near| format!("did you mean `{near}`?"));
        let help = near.unwrap_or_else(|| format!("there are {}", known.join(", ")));
        reader.report("T1405", reader.place(raw), format!("there is no device `{name}`"), help);
        return None;
    };
    // One step only: a chain would hide where numbers come from.
    let other = profile(&name, text, &|_| None, &[]);
    if other.is_err() {
        let message = format!("the profile `{name}` is not sound by itself");
        reader.report("T1405", reader.place(raw), message, "be like a device that has kernels of its own");
    }
    other.ok()
}
