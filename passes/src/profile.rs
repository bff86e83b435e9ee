//! Device profiles: what the cost model, the simulator and the search know of a device.
//!
//! ```ron
//! Device(
//!     about: "where the numbers come from, and when they were measured",
//!     memory: (bytes: 80e9, bandwidth: 2.0e12),              // of one device; bytes per second
//!     compute: (flops: 312e12, units: 108, tile: (128, 128), split_seconds: 4e-6),
//!     network: Some((bandwidth: 600e9)),                     // of one device, both directions together
//!     bytes: (weights: 2, activations: 2, kv: 2),            // of an element
//!     cut_rows: 128,                                         // what nano-batches are multiples of
//!     kernels: {                                             // by operator; "*" for those not named
//!         "Linear": [(1e9, 0.90), (1e12, 0.96)],             // (work, share of the peak reached), rising
//!         "*": [(1e6, 0.2), (1e9, 0.85)],
//!     },
//!     sharing: { "memory": [(0.1, 0.25), (0.4, 0.6)] },      // (share, speed of what is alone on the device)
//!     slowdown: [(of: "memory", beside: "compute", points: [(0.5, 1.2), (1.0, 1.6)])],
//!     oversubscribed: Waits,                                 // or Yields, Slows: what shares over 1 in all lead to
//!     like: Some("a100-80g-x8"),                             // takes kernels and sharing from there
//! )
//! ```
//!
//! - **Kernels.** The work of a product or of prefill attention is its floating-point operations, that of a collective
//!   the bytes it sends, that of everything else the bytes it moves. Between the points *time* is interpolated, so two
//!   points give a latency and a rate, and measured times are met exactly.
//! - **Products** run in tiles, one per unit of the device at a time: the last wave of tiles may leave units idle, and
//!   a product of fewer tiles than units is split along its inner axis, which costs `split_seconds` per further part.
//! - **Sharing.** While unlike launches run side by side each has a share of the device, and all shares together are at
//!   most 1. A product's speed is its share; what is bound by memory or network is faster than its share, which is why
//!   overlap pays (NanoFlow, section 4.1.1 and table 3).
//! - **Slowdown** is what a launch suffers beside another, at the other's share, beyond what sharing explains.
//!   Bandwidth is divided among those that want it in any case.
//!
//! | code | mistake |
//! |---|---|
//! | T1401 | the file is not a device profile: not RON, or a field that is missing, unknown or of another kind |
//! | T1402 | a number that is not above 0 |
//! | T1403 | points that do not rise, or a share or speed outside (0, 1] |
//! | T1404 | a name that is no operator or no resource, or stands twice |
//! | T1405 | `like` names a device that is not known, or one that is like another itself |
//! | T1406 | no kernels, and no `like` to take them from |

mod curve;
mod fit;
mod read;
mod write;

use std::collections::BTreeMap;

use trefoil_ir::diag::Diagnostic;
use trefoil_ir::op::Resource;

pub use curve::{Kernel, Speed};
pub use fit::rounded;

/// A device, or one of several that work as one.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// File name without its ending.
    pub name: String,
    /// Where the numbers come from, and when they were measured.
    pub about: String,
    /// The device's memory.
    pub memory: Memory,
    /// Its arithmetic.
    pub compute: Compute,
    /// Its links to other devices, if it has any.
    pub network: Option<Network>,
    /// Bytes of an element.
    pub bytes: ElementBytes,
    /// Nano-batches are multiples of this many rows.
    pub cut_rows: u32,
    /// How kernels fare, by operator; `"*"` for those not named.
    pub kernels: BTreeMap<String, Kernel>,
    /// The speed that a share of the device gives, by resource.
    pub sharing: BTreeMap<ResourceKey, Speed>,
    /// What launches suffer beside others.
    pub slowdown: Vec<Slowdown>,
    /// What launches do whose shares sum to more than 1.
    pub oversubscribed: Oversubscribed,
}

/// What launches side by side do whose shares sum to more than 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Oversubscribed {
    /// The later ones wait until there is room: units are divided for good, as green contexts do.
    #[default]
    Waits,
    /// Products take what the others leave. Kernels with a fixed number of blocks keep their units and the hardware
    /// fills the others with the blocks of products: NanoFlow defines a product's share by its speed beside another
    /// kernel, and alone it has the whole device (section 4.1.1).
    Yields,
    /// All get their part of the sum: units are switched between them, as an operating system does.
    Slows,
}

/// A resource as a key: compute, memory, network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum ResourceKey {
    /// Arithmetic.
    #[default]
    Compute,
    /// Reading memory.
    Memory,
    /// Links between devices.
    Network,
}

/// Memory of one device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Memory {
    /// Bytes.
    pub bytes: f64,
    /// Bytes per second.
    pub bandwidth: f64,
}

/// Arithmetic of one device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Compute {
    /// Floating-point operations per second of 16-bit products.
    pub flops: f64,
    /// Units that work on tiles: streaming multiprocessors, cores.
    pub units: u32,
    /// Rows and columns of the tile of a product that one unit works on; `None` where tiles are too small to matter.
    pub tile: Option<(u32, u32)>,
    /// Seconds for each further part that a small product's inner axis is split into.
    pub split_seconds: f64,
}

/// Links of one device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Network {
    /// Bytes per second, both directions together.
    pub bandwidth: f64,
}

impl Network {
    /// Bytes per second in one direction.
    pub fn one_way(self) -> f64 {
        self.bandwidth / 2.0
    }
}

/// Bytes of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ElementBytes {
    /// Of weights.
    pub weights: u32,
    /// Of activations.
    pub activations: u32,
    /// Of keys and values.
    pub kv: u32,
}

/// What launches bound by `of` suffer beside one bound by `beside`.
#[derive(Debug, Clone, PartialEq)]
pub struct Slowdown {
    /// The resource of the one that suffers.
    pub of: ResourceKey,
    /// The resource of the other.
    pub beside: ResourceKey,
    /// The other's share, and by how much time grows: at least 1.
    pub points: Vec<(f64, f64)>,
}

impl Profile {
    /// Reads the profile `name` from the text of its file. `find` gives the text of another profile.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, in the order of the text.
    pub fn load<'a>(
        name: &str,
        source: &str,
        find: &dyn Fn(&str) -> Option<&'a str>,
        known: &[&str],
    ) -> Result<Self, Vec<Diagnostic>> {
        read::profile(name, source, find, known)
    }

    /// The kernel of an operator.
    pub fn kernel(&self, operator: &str) -> Kernel {
        let named = self.kernels.get(operator).or_else(|| self.kernels.get("*"));
        named.cloned().unwrap_or_default()
    }

    /// The speed, relative to that of a launch alone on the whole device, that `share` of the device gives.
    pub fn speed(&self, resource: ResourceKey, share: f64) -> f64 {
        self.sharing.get(&resource).map_or(share, |speed| speed.at(share))
    }

    /// By how much a launch is slower beside another of `share`, 1 for not at all.
    pub fn slowdown(&self, of: ResourceKey, beside: ResourceKey, share: f64) -> f64 {
        let known = self.slowdown.iter().find(|slowdown| slowdown.of == of && slowdown.beside == beside);
        known.map_or(1.0, |slowdown| curve::between(&slowdown.points, (0.0, 1.0), share))
    }
}

impl From<Resource> for ResourceKey {
    fn from(resource: Resource) -> Self {
        match resource {
            Resource::Compute => Self::Compute,
            Resource::Memory => Self::Memory,
            Resource::Network => Self::Network,
        }
    }
}
