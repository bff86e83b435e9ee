//! SVG elements, and the styles they have by day and by night.

/// Elements drawn so far.
#[derive(Debug, Default)]
pub struct Canvas {
    elements: String,
}

/// Where a text stands to its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// The text begins at it.
    Start,
    /// The text's middle is at it.
    Middle,
    /// The text ends at it.
    End,
}

const STYLE: &str = "\
text{font-family:system-ui,'Segoe UI','DejaVu Sans',sans-serif;font-size:11px;fill:#1f2933}\
.paper{fill:#ffffff}.title{font-size:16px;font-weight:600}.strong{font-size:13px;font-weight:600}\
.faint{fill:#66707c}.small{font-size:10px}.line{stroke:#c5ccd4;stroke-width:1}.mark{stroke:#66707c;stroke-width:1.5}\
.ground{fill:#f1f3f6}.area{fill:#7689a3}.bar{stroke:#1f2933;stroke-opacity:.35;stroke-width:.6}\
.label{fill:#14181d;font-size:10.5px;paint-order:stroke;stroke-width:3px;stroke-linejoin:round}\
@media (prefers-color-scheme:dark){text{fill:#e3e8ee}.paper{fill:#15191f}.faint{fill:#98a4b1}\
.line{stroke:#3a434e}.mark{stroke:#98a4b1}.ground{fill:#1f252d}.area{fill:#8498b3}.label{fill:#14181d}}";

const HATCH: &str = "<pattern id=\"slow\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" \
patternTransform=\"rotate(45)\"><path d=\"M0 0V6\" stroke=\"#14181d\" stroke-opacity=\".38\" stroke-width=\"1.6\"/></pattern>";

impl Canvas {
    /// A rectangle with attributes of its own.
    pub fn rect(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), attributes: &str) {
        let element =
            format!("<rect x=\"{x:.2}\" y=\"{y:.2}\" width=\"{width:.2}\" height=\"{height:.2}\" {attributes}/>\n");
        self.elements.push_str(&element);
    }

    /// A line.
    pub fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), class: &str) {
        let element =
            format!("<line class=\"{class}\" x1=\"{x1:.2}\" y1=\"{y1:.2}\" x2=\"{x2:.2}\" y2=\"{y2:.2}\"/>\n");
        self.elements.push_str(&element);
    }

    /// A closed shape through these points, of the usual colour.
    pub fn area(&mut self, points: &[(f64, f64)]) {
        self.shape(points, "class=\"area\"");
    }

    /// A closed shape through these points, with attributes of its own.
    pub fn shape(&mut self, points: &[(f64, f64)], attributes: &str) {
        self.elements.push_str(&format!("<polygon {attributes} points=\"{}\"/>\n", joined(points)));
    }

    /// A line through these points, with attributes of its own.
    pub fn path(&mut self, points: &[(f64, f64)], attributes: &str) {
        self.elements.push_str(&format!("<polyline fill=\"none\" {attributes} points=\"{}\"/>\n", joined(points)));
    }

    /// A text.
    pub fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, class: &str, text: &str) {
        self.text_with(&format!("x=\"{x:.2}\" y=\"{y:.2}\" class=\"{class}\""), anchor, text);
    }

    /// A text on a bar, with a halo of the bar's colour.
    pub fn label(&mut self, (x, y): (f64, f64), halo: &str, text: &str) {
        let attributes = format!("x=\"{x:.2}\" y=\"{y:.2}\" class=\"label\" stroke=\"{halo}\" pointer-events=\"none\"");
        self.text_with(&attributes, Anchor::Middle, text);
    }

    fn text_with(&mut self, attributes: &str, anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let element = format!("<text {attributes} text-anchor=\"{anchor}\">{}</text>\n", escape(text));
        self.elements.push_str(&element);
    }

    /// Elements that belong together, with a tooltip.
    pub fn group(&mut self, attributes: &str, tooltip: &str, draw: impl FnOnce(&mut Self)) {
        self.elements.push_str(&format!("<g {attributes}><title>{}</title>\n", escape(tooltip)));
        draw(self);
        self.elements.push_str("</g>\n");
    }

    /// The whole picture.
    pub fn finish(self, width: f64, height: f64, title: &str) -> String {
        let title = escape(title);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" aria-label=\"{title}\">\n<style>{STYLE}</style>\n\
             <defs>{HATCH}</defs>\n<rect class=\"paper\" width=\"{width:.0}\" height=\"{height:.0}\"/>\n{}</svg>\n",
            self.elements
        )
    }
}

fn joined(points: &[(f64, f64)]) -> String {
    let points: Vec<_> = points.iter().map(|(x, y)| format!("{x:.2},{y:.2}")).collect();
    points.join(" ")
}

/// 1, 2 or 5 times a power of ten, at least `least`: the step between the ticks of an axis.
pub fn tick_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= least * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

/// How wide a text of the usual size is, at most: the fonts of readers differ.
pub fn width_of(text: &str) -> f64 {
    6.4 * text.chars().count() as f64
}

/// A text as XML and HTML take it.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::tick_step;

    #[test]
    fn ticks_are_round() {
        assert_eq!(tick_step(3.0), 5.0);
        assert_eq!(tick_step(0.06), 0.1);
        assert_eq!(tick_step(20.0), 20.0);
        assert_eq!(tick_step(70.0), 100.0);
    }
}
