//! A colour for each node, and a shade of it for each nano-batch.

/// Light enough for dark text and dark enough for white paper; neighbours differ for eyes of all kinds.
const PALETTE: [(u8, u8, u8); 16] = [
    (94, 156, 222),
    (242, 158, 76),
    (98, 186, 132),
    (219, 112, 112),
    (167, 139, 214),
    (214, 190, 84),
    (88, 190, 202),
    (226, 140, 190),
    (176, 142, 112),
    (150, 190, 86),
    (138, 152, 172),
    (236, 176, 150),
    (112, 210, 178),
    (196, 120, 178),
    (232, 206, 140),
    (128, 176, 236),
];

/// The colours of a picture's nodes.
pub(super) struct Colours<'a> {
    nodes: Vec<&'a str>,
}

impl<'a> Colours<'a> {
    /// Colours for these nodes, given out in the order of their first appearance.
    pub(super) fn of(nodes: impl Iterator<Item = &'a str>) -> Self {
        let mut known = Vec::new();
        for node in nodes {
            if !known.contains(&node) {
                known.push(node);
            }
        }
        Self { nodes: known }
    }

    /// The nodes.
    pub(super) fn nodes(&self) -> &[&'a str] {
        &self.nodes
    }

    /// The fill of a node's nano-batch.
    pub(super) fn fill(&self, node: &str, nano: usize) -> String {
        let number = self.nodes.iter().position(|known| *known == node).unwrap_or(0);
        shade(PALETTE[number % PALETTE.len()], nano)
    }
}

/// The colour of the thing of this number, among others of its kind.
pub fn of_number(number: usize) -> String {
    shade(PALETTE[number % PALETTE.len()], 0)
}

/// A nano-batch of no node in particular.
pub(super) fn grey(nano: usize) -> String {
    shade((138, 148, 160), nano)
}

/// The colour mixed with more and more white, four shades of it.
fn shade((red, green, blue): (u8, u8, u8), nano: usize) -> String {
    let white = [0.0, 0.45, 0.22, 0.65][nano % 4];
    let mix = |part: u8| (f64::from(part) + (255.0 - f64::from(part)) * white).round() as u8;
    format!("#{:02x}{:02x}{:02x}", mix(red), mix(green), mix(blue))
}
