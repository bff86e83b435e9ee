//! From a [`Profile`] to the text that reads back as it.

use std::fmt::Write;

use super::{Oversubscribed, Profile, ResourceKey, Slowdown};

impl Profile {
    /// The profile as a file has it, complete: what it took from another by `like` stands in it.
    pub fn to_ron(&self) -> String {
        let Self { about, memory, compute, bytes, cut_rows, .. } = self;
        let mut text = "Device(\n".to_owned();
        let mut line = |content: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "    {content},");
        };
        line(format!("about: {about:?}"));
        line(format!("memory: (bytes: {}, bandwidth: {})", number(memory.bytes), number(memory.bandwidth)));
        let tile = compute.tile.map_or("None".to_owned(), |(rows, columns)| format!("Some(({rows}, {columns}))"));
        let (flops, split) = (number(compute.flops), number(compute.split_seconds));
        line(format!("compute: (flops: {flops}, units: {}, tile: {tile}, split_seconds: {split})", compute.units));
        if let Some(network) = self.network {
            line(format!("network: Some((bandwidth: {}))", number(network.bandwidth)));
        }
        line(format!("bytes: (weights: {}, activations: {}, kv: {})", bytes.weights, bytes.activations, bytes.kv));
        line(format!("cut_rows: {cut_rows}"));
        let kernels = self.kernels.iter().map(|(name, kernel)| format!("{name:?}: {}", points(kernel.points())));
        line(format!("kernels: {{{}}}", block(kernels)));
        let sharing = self.sharing.iter().map(|(key, speed)| format!("{:?}: {}", name(*key), points(speed.points())));
        line(format!("sharing: {{{}}}", block(sharing)));
        line(format!("slowdown: [{}]", block(self.slowdown.iter().map(slowdown))));
        line(format!(
            "oversubscribed: {}",
            match self.oversubscribed {
                Oversubscribed::Waits => "Waits",
                Oversubscribed::Yields => "Yields",
                Oversubscribed::Slows => "Slows",
            }
        ));
        text + ")\n"
    }
}

/// Lines of their own between the brackets around them; nothing where there are none.
fn block(lines: impl Iterator<Item = String>) -> String {
    let lines: String = lines.map(|line| format!("        {line},\n")).collect();
    if lines.is_empty() { lines } else { format!("\n{lines}    ") }
}

fn slowdown(slowdown: &Slowdown) -> String {
    let (of, beside) = (name(slowdown.of), name(slowdown.beside));
    format!("(of: {of:?}, beside: {beside:?}, points: {})", points(&slowdown.points))
}

fn points(points: &[(f64, f64)]) -> String {
    let points: Vec<_> = points.iter().map(|(at, value)| format!("({}, {})", number(*at), number(*value))).collect();
    format!("[{}]", points.join(", "))
}

/// The shortest text that reads back as the number.
fn number(number: f64) -> String {
    let (plain, scientific) = (format!("{number:?}"), format!("{number:e}"));
    if scientific.len() < plain.len() { scientific } else { plain }
}

fn name(key: ResourceKey) -> &'static str {
    match key {
        ResourceKey::Compute => "compute",
        ResourceKey::Memory => "memory",
        ResourceKey::Network => "network",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A100: &str = include_str!("../../../models/devices/a100-80g-x8.ron");
    const H100: &str = include_str!("../../../models/devices/h100-80g.ron");

    fn load(name: &str, text: &str) -> Profile {
        let find = |name: &str| (name == "a100-80g-x8").then_some(A100);
        Profile::load(name, text, &find, &["a100-80g-x8"]).unwrap_or_else(|mistakes| panic!("{mistakes:?}\n{text}"))
    }

    #[test]
    fn what_is_written_reads_back() {
        for (name, text) in [("a100-80g-x8", A100), ("h100-80g", H100)] {
            let profile = load(name, text);
            assert_eq!(load(name, &profile.to_ron()), profile);
        }
    }

    #[test]
    fn slowdowns_and_texts_with_quotes_read_back() {
        let mut profile = load("a100-80g-x8", A100);
        profile.about = "a \"device\"\nof two lines".to_owned();
        let (of, beside) = (ResourceKey::Memory, ResourceKey::Compute);
        profile.slowdown = vec![Slowdown { of, beside, points: vec![(0.5, 1.25), (1.0, 1.5)] }];
        profile.oversubscribed = Oversubscribed::Slows;
        profile.network = None;
        profile.sharing.clear();
        assert_eq!(load("a100-80g-x8", &profile.to_ron()), profile);
    }
}
