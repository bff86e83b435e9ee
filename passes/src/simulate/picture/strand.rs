//! The strand of a resource: the launches that it bounds, and beneath them what is used of it.

use super::canvas::{Anchor, Canvas, width_of};
use super::{LEFT, RIGHT, Scene, WIDTH};
use crate::profile::ResourceKey;
use crate::simulate::engine::{Piece, seconds};
use crate::simulate::report::resource_name;
use crate::simulate::units;

const BAR: f64 = 28.0;
const ROW: f64 = BAR + 4.0;
const AREA: f64 = 44.0;
const GAP: f64 = 20.0;

/// Slower than this part of its speed alone, a launch is hatched.
const SLOW: f64 = 0.98;

/// Draws a strand from `y` down and gives where it ends: at `y` for a resource that the step leaves alone.
pub(super) fn draw(scene: &Scene, canvas: &mut Canvas, resource: ResourceKey, y: f64) -> f64 {
    let Some(peak) = scene.simulation.peak(resource) else { return y };
    let pieces = &scene.simulation.run.pieces;
    let uses = |piece: &Piece| scene.simulation.rate(piece, resource);
    let own: Vec<usize> =
        scene.shown.iter().copied().filter(|task| scene.simulation.tasks[*task].resource == resource).collect();
    if own.is_empty() && pieces.iter().all(|piece| uses(piece) == 0.0) {
        return y;
    }
    canvas.text((14.0, y + 12.0), Anchor::Start, "strong", resource_name(resource));
    let streams = streams_of(scene, &own);
    for (row, stream) in streams.iter().enumerate() {
        let top = y + row as f64 * ROW;
        let name = scene.simulation.streams().nth(*stream).map_or("", |stream| &stream.name);
        let name = format!("on stream {name}");
        canvas.text((14.0, top + 26.0), Anchor::Start, "faint small", &shortened(&name));
        for task in own.iter().filter(|task| scene.simulation.tasks[**task].stream == *stream) {
            bar(scene, canvas, *task, top);
        }
    }
    let top = y + streams.len().max(1) as f64 * ROW + 2.0;
    area(scene, canvas, (resource, peak), top);
    top + AREA + GAP
}

/// A name that fits the margin.
fn shortened(name: &str) -> String {
    let most = ((LEFT - 24.0) / 5.6) as usize;
    if name.chars().count() <= most { name.to_owned() } else { name.chars().take(most - 1).chain(['…']).collect() }
}

fn streams_of(scene: &Scene, tasks: &[usize]) -> Vec<usize> {
    let mut streams: Vec<usize> = tasks.iter().map(|task| scene.simulation.tasks[*task].stream).collect();
    streams.sort_unstable();
    streams.dedup();
    streams
}

fn bar(scene: &Scene, canvas: &mut Canvas, task: usize, top: f64) {
    let (site, span) = (&scene.simulation.sites[task], scene.simulation.run.spans[task]);
    let (left, right) = (scene.x(span.start), scene.x(span.end));
    let fill = scene.colours.fill(site.node, site.nano);
    let layers = &scene.view.layers;
    let is_chosen = layers.is_empty() || site.layer.is_some_and(|layer| layers.contains(&layer));
    let attributes = if is_chosen { "" } else { "opacity=\".4\"" };
    canvas.group(attributes, &tooltip(scene, task), |canvas| {
        canvas.rect((left, top), ((right - left).max(0.6), BAR), &format!("class=\"bar\" fill=\"{fill}\""));
        for (start, end) in slow_stretches(scene, task) {
            let (left, right) = (scene.x(start), scene.x(end));
            canvas.rect((left, top), (right - left, BAR), "fill=\"url(#slow)\"");
        }
        let full = format!("{}#{}", site.node, site.nano);
        let fits = |text: &&str| width_of(text) + 6.0 <= right - left;
        if let Some(text) = [full.as_str(), site.node].into_iter().find(fits) {
            canvas.label(((left + right) / 2.0, top + BAR / 2.0 + 4.0), &fill, text);
        }
    });
}

fn tooltip(scene: &Scene, task: usize) -> String {
    let simulation = scene.simulation;
    let (site, span, load) = (&simulation.sites[task], simulation.run.spans[task], simulation.tasks[task].load);
    let layer = site.layer.map_or("outside the layers".to_owned(), |layer| format!("layer {layer}"));
    let (rows, time) = (&site.rows, units::time(span.end - span.start));
    let alone = units::time(seconds(&simulation.tasks[task]));
    format!(
        "{}#{} ({}), {layer}\nrows {}..{} of the batch\nfrom {}, for {time}; alone {alone}\nshare {}, speed {:.2}\n{}, {}, {} sent",
        site.node,
        site.nano,
        site.operator,
        rows.start,
        rows.end,
        units::time(span.start),
        simulation.tasks[task].share,
        simulation.mean_speed(task),
        units::amount(load.flops, "FLOP"),
        units::amount(load.bytes, "B"),
        units::amount(load.network, "B"),
    )
}

/// When a launch is slower than alone, neighbouring pieces joined.
fn slow_stretches(scene: &Scene, task: usize) -> Vec<(f64, f64)> {
    let span = scene.simulation.run.spans[task];
    let pieces = &scene.simulation.run.pieces;
    let first = pieces.partition_point(|piece| piece.end <= span.start);
    let mut stretches: Vec<(f64, f64)> = Vec::new();
    for piece in pieces[first..].iter().take_while(|piece| piece.start < span.end) {
        let is_slow = piece.running.iter().any(|(running, speed)| *running == task && *speed < SLOW);
        if !is_slow || piece.end <= scene.start || piece.start >= scene.end {
            continue;
        }
        match stretches.last_mut() {
            Some(last) if last.1 == piece.start => last.1 = piece.end,
            Some(_) | None => stretches.push((piece.start, piece.end)),
        }
    }
    stretches
}

fn area(scene: &Scene, canvas: &mut Canvas, (resource, peak): (ResourceKey, f64), top: f64) {
    let bottom = top + AREA;
    canvas.rect((LEFT, top), (WIDTH - LEFT - RIGHT, AREA), "class=\"ground\"");
    let mut points = vec![(LEFT, bottom)];
    let mut used = 0.0;
    for piece in &scene.simulation.run.pieces {
        let (start, end) = (piece.start.max(scene.start), piece.end.min(scene.end));
        if end <= start {
            continue;
        }
        let part = scene.simulation.rate(piece, resource) / peak;
        used += part * (end - start);
        let y = bottom - part.min(1.0) * AREA;
        points.extend([(scene.x(start), y), (scene.x(end), y)]);
    }
    points.push((WIDTH - RIGHT, bottom));
    canvas.area(&points);
    canvas.line((LEFT, top), (WIDTH - RIGHT, top), "line");
    canvas.line((LEFT, bottom), (WIDTH - RIGHT, bottom), "line");
    let unit = match resource {
        ResourceKey::Compute => "FLOP/s",
        ResourceKey::Memory | ResourceKey::Network => "B/s",
    };
    let mean = units::percent(used / (scene.end - scene.start));
    canvas.text((LEFT - 6.0, top + 8.0), Anchor::End, "faint small", &units::amount(peak, unit));
    canvas.text((LEFT - 6.0, top + AREA / 2.0 + 6.0), Anchor::End, "small", &format!("used {mean}"));
    canvas.text((LEFT - 6.0, bottom), Anchor::End, "faint small", "0");
}
