//! What stands around the strands: heading, layers, time axis and legend.

use super::canvas::{Anchor, Canvas, tick_step, width_of};
use super::{LEFT, RIGHT, Scene, WIDTH, colours};
use crate::simulate::units;

/// The heading, from the top down.
pub(super) fn heading(scene: &Scene, canvas: &mut Canvas) -> f64 {
    let (simulation, layers) = (scene.simulation, &scene.view.layers);
    let (mix, time) = (simulation.mix, units::time(simulation.run.end));
    let shown = match layers.len() {
        0 => "no layers".to_owned(),
        1 => format!("layer {} of {}", layers.start, simulation.num_layers()),
        _ => format!("layers {} to {} of {}", layers.start, layers.end - 1, simulation.num_layers()),
    };
    let batch = format!("{} rows: {} decode, {} prefill", mix.tokens(), mix.decode, mix.prefill);
    canvas.text((14.0, 26.0), Anchor::Start, "title", &scene.view.title);
    canvas.text(
        (14.0, 45.0),
        Anchor::Start,
        "faint",
        &format!("{shown}, simulated; {batch}; the whole step takes {time}"),
    );
    62.0
}

/// Brackets that tell from when to when launches of each layer run. Layers of a full pipeline overlap, so neighbours
/// stand on lines of their own.
pub(super) fn layers(scene: &Scene, canvas: &mut Canvas, y: f64) -> f64 {
    let num_lines = scene.view.layers.len().min(2);
    for layer in scene.view.layers.clone() {
        let own = scene.shown.iter().filter(|task| scene.simulation.sites[**task].layer == Some(layer));
        let spans = own.map(|task| scene.simulation.run.spans[*task]).map(|span| (span.start, span.end));
        let Some((start, end)) = spans.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))) else { continue };
        let (left, right) = (scene.x(start) + 1.0, scene.x(end) - 1.0);
        let y = y + 8.0 + 16.0 * ((layer - scene.view.layers.start) % num_lines) as f64;
        canvas.line((left, y - 4.0), (left, y + 4.0), "mark");
        canvas.line((right, y - 4.0), (right, y + 4.0), "mark");
        let name = format!("layer {layer}");
        let half = width_of(&name) / 2.0 + 4.0;
        let middle = (left + right) / 2.0;
        if right - left < 2.0 * half + 4.0 {
            canvas.line((left, y), (right, y), "mark");
            continue;
        }
        canvas.line((left, y), (middle - half, y), "mark");
        canvas.line((middle + half, y), (right, y), "mark");
        canvas.text((middle, y + 4.0), Anchor::Middle, "faint", &name);
    }
    y + 16.0 * num_lines as f64 + 12.0
}

/// The time axis.
pub(super) fn axis(scene: &Scene, canvas: &mut Canvas, y: f64) -> f64 {
    let (scale, unit) = if scene.end < 1e-3 { (1e6, "µs") } else { (1e3, "ms") };
    let step = tick_step((scene.end - scene.start) * scale / 14.0);
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    canvas.line((LEFT, y), (WIDTH - RIGHT, y), "mark");
    let first = (scene.start * scale / step).ceil() as u64;
    let last = (scene.end * scale / step).floor() as u64;
    for tick in first..=last {
        let at = tick as f64 * step;
        let x = scene.x(at / scale);
        canvas.line((x, y), (x, y + 5.0), "mark");
        canvas.text((x, y + 18.0), Anchor::Middle, "faint small", &format!("{at:.decimals$}"));
    }
    canvas.text((LEFT - 6.0, y + 18.0), Anchor::End, "faint small", &format!("time, {unit}"));
    y + 38.0
}

/// A square and what it stands for.
struct Entry {
    text: String,
    fills: Vec<String>,
}

/// The legend, wrapped to the picture's width.
pub(super) fn legend(scene: &Scene, canvas: &mut Canvas, y: f64) -> f64 {
    let mut y = y;
    for entries in [nodes(scene), signs(scene)] {
        let mut x = LEFT;
        for entry in entries {
            let width = 18.0 + 0.92 * width_of(&entry.text) + 16.0;
            if x + width > WIDTH - RIGHT {
                (x, y) = (LEFT, y + 20.0);
            }
            for fill in &entry.fills {
                canvas.rect((x, y - 10.0), (12.0, 12.0), fill);
            }
            canvas.text((x + 18.0, y), Anchor::Start, "small", &entry.text);
            x += width;
        }
        y += 20.0;
    }
    y
}

fn nodes(scene: &Scene) -> Vec<Entry> {
    let entry = |node: &&str| Entry { text: (*node).to_owned(), fills: vec![fill(&scene.colours.fill(node, 0))] };
    scene.colours.nodes().iter().map(entry).collect()
}

fn signs(scene: &Scene) -> Vec<Entry> {
    let most = scene.shown.iter().map(|task| scene.simulation.sites[*task].nano).max().unwrap_or(0);
    let nano_batch = |nano| Entry { text: format!("nano-batch {nano}"), fills: vec![fill(&colours::grey(nano))] };
    let layer_of = |task: &usize| scene.simulation.sites[*task].layer;
    let others_run =
        scene.shown.iter().map(layer_of).any(|layer| layer.is_none_or(|l| !scene.view.layers.contains(&l)));
    let mut others = vec![
        ("slower than alone", vec![fill(&colours::grey(3)), "fill=\"url(#slow)\"".to_owned()]),
        ("used of the resource's peak", vec!["class=\"area\"".to_owned()]),
    ];
    if others_run && !scene.view.layers.is_empty() {
        others.push(("outside these layers", vec![format!("opacity=\".4\" {}", fill(&colours::grey(0)))]));
    }
    let others = others.into_iter().map(|(text, fills)| Entry { text: text.to_owned(), fills });
    (0..=most).map(nano_batch).chain(others).collect()
}

fn fill(colour: &str) -> String {
    format!("class=\"bar\" fill=\"{colour}\"")
}
