//! A simulated step as a picture, of some of its layers: an SVG that stands alone, and a page around it.
//!
//! One strand per resource, one above another: a bar per launch that the resource bounds, a row for each stream that
//! has such launches, and beneath them what is used of the resource's peak. Nodes are told by colour, nano-batches by
//! shade; a bar is hatched while its launch is slower than alone. Nothing comes from elsewhere: no script, no font.

pub mod canvas;
pub mod colours;
mod frame;
mod page;
mod strand;

use std::ops::Range;

use super::Simulation;
use super::engine::seconds;
use canvas::Canvas;
use colours::Colours;

/// What to show, and under which heading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The heading.
    pub title: String,
    /// The layers; launches of others that run at the same time are shown faintly.
    pub layers: Range<usize>,
}

const WIDTH: f64 = 1240.0;
const LEFT: f64 = 124.0;
const RIGHT: f64 = 20.0;

impl Simulation<'_> {
    /// Two layers from the middle, where the pipeline is full.
    pub fn middle_layers(&self) -> Range<usize> {
        let middle = self.num_layers() / 2;
        middle.saturating_sub(1)..(middle + 1).min(self.num_layers())
    }

    /// The picture as SVG.
    pub fn svg(&self, view: &View) -> String {
        let scene = Scene::of(self, view);
        let mut canvas = Canvas::default();
        let mut y = frame::heading(&scene, &mut canvas);
        y = frame::layers(&scene, &mut canvas, y);
        for resource in super::report::RESOURCES {
            y = strand::draw(&scene, &mut canvas, resource, y);
        }
        y = frame::axis(&scene, &mut canvas, y);
        y = frame::legend(&scene, &mut canvas, y);
        canvas.finish(WIDTH, y, &view.title)
    }

    /// The picture and the step's numbers as an HTML page.
    pub fn html(&self, view: &View, report: &super::report::Report) -> String {
        page::page(&view.title, &self.svg(view), report)
    }
}

/// What is shown, and where.
struct Scene<'a> {
    simulation: &'a Simulation<'a>,
    view: &'a View,
    /// The stretch of time, in seconds.
    start: f64,
    end: f64,
    /// The tasks that take time in it.
    shown: Vec<usize>,
    colours: Colours<'a>,
}

impl<'a> Scene<'a> {
    fn of(simulation: &'a Simulation<'a>, view: &'a View) -> Self {
        let (start, end) = window(simulation, &view.layers);
        let spans = &simulation.run.spans;
        let mut shown: Vec<usize> = (0..spans.len())
            .filter(|task| {
                seconds(&simulation.tasks[*task]) > 0.0 && spans[*task].end > start && spans[*task].start < end
            })
            .collect();
        shown.sort_by(|a, b| spans[*a].start.total_cmp(&spans[*b].start));
        let colours = Colours::of(shown.iter().map(|task| simulation.sites[*task].node));
        Self { simulation, view, start, end, shown, colours }
    }

    /// Where a time stands, at the edge if it is outside.
    fn x(&self, time: f64) -> f64 {
        let part = (time - self.start) / (self.end - self.start);
        LEFT + part.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }
}

/// The time of these layers; all of the step's if they took none.
fn window(simulation: &Simulation, layers: &Range<usize>) -> (f64, f64) {
    let tasks = simulation.tasks.iter().zip(&simulation.sites).zip(&simulation.run.spans);
    let own = tasks
        .filter(|((task, site), _)| seconds(task) > 0.0 && site.layer.is_some_and(|layer| layers.contains(&layer)));
    let ends = own.map(|(_, span)| (span.start, span.end));
    let joined = ends.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
    // A step without launches takes no time, and a picture has to show some.
    joined.unwrap_or((0.0, simulation.run.end.max(1e-6)))
}
