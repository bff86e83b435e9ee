//! A simulated service over time, as an SVG that stands alone.
//!
//! From the top: rows per step, decode and prefill; the plans that ran; sequences that ran and waited; pages in use; time
//! to the first token and normalized latency; and what was used of the resources. Strands share one time axis, and the window in which throughput was
//! measured is marked on it.

use trefoil_passes::simulate::picture::canvas::{Anchor, Canvas, tick_step, width_of};
use trefoil_passes::simulate::picture::colours;

use super::Simulated;
use super::over_time::Moment;

const WIDTH: f64 = 1240.0;
const LEFT: f64 = 124.0;
const RIGHT: f64 = 20.0;
const AREA: f64 = 84.0;
const BAND: f64 = 20.0;
const GAP: f64 = 26.0;

/// Numbers over time, with a name and a colour.
struct Series<'a> {
    name: &'a str,
    colour: String,
    /// By the number of the moment; none where nothing is known.
    values: Vec<Option<f64>>,
}

/// Where time stands.
struct Axis<'a> {
    moments: &'a [Moment],
    seconds: f64,
}

/// The picture.
pub(super) fn svg(simulated: &Simulated) -> String {
    let axis = Axis { moments: &simulated.over_time, seconds: simulated.report.seconds.max(1e-9) };
    let title = simulated.title();
    let mut canvas = Canvas::default();
    canvas.text((14.0, 26.0), Anchor::Start, "title", &title);
    canvas.text((14.0, 45.0), Anchor::Start, "faint", &simulated.subtitle());
    let mut y = 72.0;
    y = axis.stacked(&mut canvas, "rows per step", &rows(&axis), y);
    y = axis.band(&mut canvas, simulated, y);
    y = axis.lines(&mut canvas, "sequences", "", &sequences(&axis), y);
    y = axis.lines(&mut canvas, "KV pages", "%", &pages(&axis, simulated), y);
    let ttft = axis.series("from arrival to the first token", 4, |moment| moment.ttft_seconds);
    y = axis.seconds(&mut canvas, "TTFT", ttft, y);
    let normalized =
        axis.series("from arrival to the last token, per output token", 3, |moment| moment.normalized_seconds);
    y = axis.seconds(&mut canvas, "latency", normalized, y);
    y = axis.lines(&mut canvas, "resources", "%", &resources(&axis), y);
    y = axis.ticks(&mut canvas, simulated, y);
    canvas.finish(WIDTH, y, &title)
}

fn rows<'a>(axis: &Axis) -> Vec<Series<'a>> {
    vec![
        axis.series("decode", 1, |moment| Some(moment.decode_rows)),
        axis.series("prefill", 0, |moment| Some(moment.prefill_rows)),
    ]
}

fn sequences<'a>(axis: &Axis) -> Vec<Series<'a>> {
    vec![
        axis.series("running", 2, |moment| Some(moment.running)),
        axis.series("waiting", 3, |moment| Some(moment.waiting)),
    ]
}

fn pages<'a>(axis: &Axis, simulated: &Simulated) -> Vec<Series<'a>> {
    let all = simulated.memory.num_pages as f64;
    vec![axis.series("in use", 6, |moment| Some(100.0 * moment.pages_in_use / all))]
}

fn resources<'a>(axis: &Axis) -> Vec<Series<'a>> {
    let used = |moment: &Moment, at: usize| moment.utilisation.get(at).map(|used| 100.0 * used.share);
    let names = ["compute, used of the peak", "memory", "network"].into_iter().enumerate();
    let series = names.map(|(at, name)| axis.series(name, at, |moment| used(moment, at)));
    series.filter(|series| series.values.iter().any(Option::is_some)).collect()
}

impl Series<'_> {
    fn most(&self) -> f64 {
        self.values.iter().flatten().copied().fold(0.0, f64::max)
    }
}

impl Axis<'_> {
    fn series<'a>(&self, name: &'a str, colour: usize, value: impl Fn(&Moment) -> Option<f64>) -> Series<'a> {
        Series { name, colour: colours::of_number(colour), values: self.moments.iter().map(value).collect() }
    }

    fn x(&self, seconds: f64) -> f64 {
        LEFT + seconds / self.seconds * (WIDTH - LEFT - RIGHT)
    }

    /// Areas upon each other, as tall as their sum.
    fn stacked(&self, canvas: &mut Canvas, name: &str, series: &[Series], y: f64) -> f64 {
        let sum = |at: usize| series.iter().filter_map(|series| series.values[at]).sum::<f64>();
        let top = scale_top((0..self.moments.len()).map(sum).fold(0.0, f64::max));
        frame(canvas, name, "", top, y);
        let height = |value: f64| y + AREA - value / top * AREA;
        let mut below = vec![0.0; self.moments.len()];
        for series in series {
            let above: Vec<f64> =
                below.iter().zip(&series.values).map(|(below, value)| below + value.unwrap_or(0.0)).collect();
            let edge = |values: &[f64]| -> Vec<(f64, f64)> {
                let steps = self.moments.iter().zip(values);
                steps
                    .flat_map(|(moment, value)| {
                        [(self.x(moment.start), height(*value)), (self.x(moment.end), height(*value))]
                    })
                    .collect()
            };
            let points: Vec<_> = edge(&above).into_iter().chain(edge(&below).into_iter().rev()).collect();
            canvas.shape(&points, &format!("fill=\"{}\"", series.colour));
            below = above;
        }
        key(canvas, series, y)
    }

    /// Lines from one moment's middle to the next.
    fn lines(&self, canvas: &mut Canvas, name: &str, unit: &str, series: &[Series], y: f64) -> f64 {
        let top = scale_top(series.iter().map(Series::most).fold(0.0, f64::max));
        frame(canvas, name, unit, top, y);
        for series in series {
            let points = self.moments.iter().zip(&series.values).filter_map(|(moment, value)| {
                let middle = self.x((moment.start + moment.end) / 2.0);
                value.map(|value| (middle, y + AREA - value / top * AREA))
            });
            let points: Vec<_> = points.collect();
            canvas.path(&points, &format!("stroke=\"{}\" stroke-width=\"1.6\"", series.colour));
        }
        key(canvas, series, y)
    }

    /// A line of seconds, or of milliseconds if they are few.
    fn seconds(&self, canvas: &mut Canvas, name: &str, series: Series, y: f64) -> f64 {
        let (scale, unit) = if series.most() < 10.0 { (1e3, "ms") } else { (1.0, "s") };
        let values = series.values.iter().map(|value| value.map(|seconds| seconds * scale)).collect();
        self.lines(canvas, name, unit, &[Series { values, ..series }], y)
    }

    /// The plans that ran, each with its share of the moment's time.
    fn band(&self, canvas: &mut Canvas, simulated: &Simulated, y: f64) -> f64 {
        canvas.text((14.0, y + 14.0), Anchor::Start, "strong", "plan");
        canvas.rect((LEFT, y), (WIDTH - LEFT - RIGHT, BAND), "class=\"ground\"");
        let plans: Vec<_> = simulated.report.plans.iter().enumerate().filter(|(_, plan)| plan.num_steps > 0).collect();
        for moment in self.moments {
            let (left, right) = (self.x(moment.start), self.x(moment.end));
            let mut top = y;
            for (number, _) in &plans {
                let height = moment.plan_shares[*number] * BAND;
                if height > 0.0 {
                    let colour = colours::of_number(PLAN_COLOUR + number);
                    let fill = format!("fill=\"{colour}\" shape-rendering=\"crispEdges\"");
                    canvas.rect((left, top), (right - left, height), &fill);
                }
                top += height;
            }
        }
        let entries = plans.iter().map(|(number, plan)| (plan.name.as_str(), colours::of_number(PLAN_COLOUR + number)));
        entries_at(canvas, entries, y + BAND + 15.0);
        y + BAND + GAP + 8.0
    }

    /// The time axis, and the window in which throughput was measured.
    fn ticks(&self, canvas: &mut Canvas, simulated: &Simulated, y: f64) -> f64 {
        let (scale, unit) = if self.seconds < 1.0 { (1e3, "ms") } else { (1.0, "s") };
        let step = tick_step(self.seconds * scale / 14.0);
        let decimals = (-step.log10().floor()).max(0.0) as usize;
        let window = simulated.report.window;
        let (left, right) = (self.x(window.start), self.x(window.end));
        canvas.rect((left, y - 3.0), (right - left, 3.0), "class=\"area\"");
        canvas.line((LEFT, y), (WIDTH - RIGHT, y), "mark");
        for tick in 0..=(self.seconds * scale / step).floor() as u64 {
            let at = tick as f64 * step;
            let x = self.x(at / scale);
            canvas.line((x, y), (x, y + 5.0), "mark");
            canvas.text((x, y + 18.0), Anchor::Middle, "faint small", &format!("{at:.decimals$}"));
        }
        canvas.text((LEFT - 6.0, y + 18.0), Anchor::End, "faint small", &format!("time, {unit}"));
        canvas.text((LEFT, y + 36.0), Anchor::Start, "faint small", "thick: where throughput is measured");
        y + 50.0
    }
}

/// The first of the colours of plans: none that stands for anything else.
const PLAN_COLOUR: usize = 8;

/// A round number, at least as large.
fn scale_top(most: f64) -> f64 {
    let most = most.max(1e-9);
    let step = tick_step(most / 8.0);
    (most / step).ceil() * step
}

fn frame(canvas: &mut Canvas, name: &str, unit: &str, top: f64, y: f64) {
    canvas.text((14.0, y + AREA / 2.0), Anchor::Start, "strong", name);
    canvas.rect((LEFT, y), (WIDTH - LEFT - RIGHT, AREA), "class=\"ground\"");
    canvas.line((LEFT, y), (WIDTH - RIGHT, y), "line");
    canvas.line((LEFT, y + AREA), (WIDTH - RIGHT, y + AREA), "line");
    let shown = if top < 10.0 { format!("{top:.1}") } else { format!("{top:.0}") };
    canvas.text((LEFT - 6.0, y + 8.0), Anchor::End, "faint small", format!("{shown} {unit}").trim_end());
    canvas.text((LEFT - 6.0, y + AREA), Anchor::End, "faint small", "0");
}

/// The names of the series under their strand; gives where the next one begins.
fn key(canvas: &mut Canvas, series: &[Series], y: f64) -> f64 {
    let entries = series.iter().map(|series| (series.name, series.colour.clone()));
    entries_at(canvas, entries, y + AREA + 15.0);
    y + AREA + GAP + 8.0
}

fn entries_at<'a>(canvas: &mut Canvas, entries: impl Iterator<Item = (&'a str, String)>, y: f64) {
    let mut x = LEFT;
    for (name, colour) in entries {
        canvas.rect((x, y - 9.0), (11.0, 11.0), &format!("fill=\"{colour}\""));
        canvas.text((x + 16.0, y), Anchor::Start, "small", name);
        x += 16.0 + 0.92 * width_of(name) + 18.0;
    }
}
