//! Costs as numbers, and as seconds on a device.

use trefoil_ir::bind::Bound;
use trefoil_ir::dim::Dim;
use trefoil_ir::graph::Graph;
use trefoil_ir::ids::WeightId;
use trefoil_ir::op::{Op, RowDomain};

use super::{ACTIVATION_BYTES, KEPT, KEYS, KV_BYTES, Mix, ROWS, Rows, WEIGHT_BYTES, of};
use crate::profile::{Network, Profile, ResourceKey};

/// What a launch costs one rank, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Load {
    /// Floating-point operations.
    pub flops: f64,
    /// Bytes read from and written to memory.
    pub bytes: f64,
    /// Bytes sent to other ranks.
    pub network: f64,
    /// Seconds alone on the whole device.
    pub seconds: f64,
    /// The resource that takes longest.
    pub bound_by: ResourceKey,
}

/// Costs of a graph's operators at one configuration, on one device.
#[derive(Debug, Clone, Copy)]
pub struct Model<'a> {
    /// The graph.
    pub graph: &'a Graph,
    /// Its sizes.
    pub bound: &'a Bound,
    /// The device.
    pub profile: &'a Profile,
}

impl Model<'_> {
    /// What an operator costs on the rows of a range of the batch.
    pub fn load(&self, op: &Op, mix: &Mix, range: std::ops::Range<u32>) -> Load {
        let rows = match self.graph.rows_of(op) {
            RowDomain::Tokens => mix.all_rows(range),
            RowDomain::DecodeTokens => mix.decode_rows(range),
            RowDomain::PrefillTokens => mix.prefill_rows(range),
            RowDomain::Seqs => Rows { rows: f64::from(mix.seqs), ..Rows::default() },
        };
        self.load_of_rows(op, rows)
    }

    /// What an operator costs on these rows; nothing on none.
    pub fn load_of_rows(&self, op: &Op, rows: Rows) -> Load {
        if rows.rows == 0.0 {
            return Load::default();
        }
        let cost = of(self.graph, op);
        let number = |dim: &Dim| self.number(dim, rows);
        let load = Load {
            flops: number(&cost.flops),
            bytes: number(&cost.bytes),
            network: number(&cost.network),
            ..Load::default()
        };
        let (seconds, bound_by) = self.seconds(op, rows, load);
        Load { seconds, bound_by, ..load }
    }

    fn number(&self, dim: &Dim, rows: Rows) -> f64 {
        let bytes = self.profile.bytes;
        let size = |name: &str| match name {
            ROWS => Some(rows.rows.round() as u64),
            KEYS => Some(rows.keys.round() as u64),
            KEPT => Some(rows.kept.round() as u64),
            WEIGHT_BYTES => Some(u64::from(bytes.weights)),
            ACTIVATION_BYTES => Some(u64::from(bytes.activations)),
            KV_BYTES => Some(u64::from(bytes.kv)),
            _ => self.bound.dims.get(name).copied(),
        };
        // A bound graph has all sizes but those above, and its quotients leave no rest.
        dim.evaluate(&size).unwrap_or_default() as f64
    }

    /// The longest of the times that the three resources take: the one that bounds the operator by its kernel's curve,
    /// the others at their peaks.
    fn seconds(&self, op: &Op, rows: Rows, load: Load) -> (f64, ResourceKey) {
        let profile = self.profile;
        let kernel = profile.kernel(op.name());
        let mut compute = load.flops / profile.compute.flops;
        let mut memory = load.bytes / profile.memory.bandwidth;
        let link = profile.network.map_or(f64::INFINITY, Network::one_way);
        let mut network = if load.network > 0.0 { load.network / link } else { 0.0 };
        match op {
            Op::Linear { weight, .. } => {
                compute = self.product_seconds(*weight, rows.rows, load.flops);
                memory = profile.kernel("*").seconds(load.bytes, profile.memory.bandwidth);
            }
            Op::PrefillAttention { .. } | Op::Attention { .. } => {
                compute = kernel.seconds(load.flops, profile.compute.flops);
            }
            Op::AllReduce { .. } | Op::AllGather { .. } => network = kernel.seconds(load.network, link),
            Op::Embed { .. }
            | Op::RmsNorm { .. }
            | Op::Rope { .. }
            | Op::Add { .. }
            | Op::GatedMul { .. }
            | Op::Rows { .. }
            | Op::KvWrite { .. }
            | Op::DecodeAttention { .. }
            | Op::AddRmsNorm { .. } => memory = kernel.seconds(load.bytes, profile.memory.bandwidth),
            Op::Repeat { .. } | Op::Columns { .. } => {}
        }
        let times = [(compute, ResourceKey::Compute), (memory, ResourceKey::Memory), (network, ResourceKey::Network)];
        times
            .into_iter()
            .fold((0.0, ResourceKey::Compute), |longest, own| if own.0 > longest.0 { own } else { longest })
    }

    /// Seconds of a load if the kernel of its operator were as good as it ever is: a bound for any way to cut it.
    pub fn least_seconds(&self, op: &Op, load: Load) -> f64 {
        let best = self.profile.kernel(op.name()).best();
        let compute = load.flops / (self.profile.compute.flops * best);
        let memory = load.bytes / (self.profile.memory.bandwidth * best);
        let link = self.profile.network.map_or(f64::INFINITY, Network::one_way);
        match op {
            Op::Linear { .. } | Op::PrefillAttention { .. } | Op::Attention { .. } => compute,
            Op::AllReduce { .. } | Op::AllGather { .. } => load.network / (link * best),
            Op::Embed { .. }
            | Op::RmsNorm { .. }
            | Op::Rope { .. }
            | Op::Add { .. }
            | Op::GatedMul { .. }
            | Op::Rows { .. }
            | Op::KvWrite { .. }
            | Op::DecodeAttention { .. }
            | Op::AddRmsNorm { .. } => memory,
            Op::Repeat { .. } | Op::Columns { .. } => 0.0,
        }
    }

    /// A product's time by waves of tiles; small products are split along their inner axis as long as that helps.
    fn product_seconds(&self, weight: WeightId, rows: f64, flops: f64) -> f64 {
        let compute = &self.profile.compute;
        let kernel = self.profile.kernel("Linear");
        let Some((tile_rows, tile_columns)) = compute.tile else { return kernel.seconds(flops, compute.flops) };
        let columns = self.number(&self.graph.weights[weight].rows(), Rows::default());
        let tiles_down = (rows / f64::from(tile_rows)).ceil();
        let tiles_across = (columns / f64::from(tile_columns)).ceil();
        let padded =
            flops * tiles_down * f64::from(tile_rows) / rows * tiles_across * f64::from(tile_columns) / columns;
        let (tiles, units) = (tiles_down * tiles_across, f64::from(compute.units));
        let with_parts = |parts: f64| {
            let waves = (tiles * parts / units).ceil();
            let idle = waves * units / (tiles * parts);
            kernel.seconds(padded * idle, compute.flops) + compute.split_seconds * (parts - 1.0)
        };
        let most_parts = (units / tiles).floor().clamp(1.0, 16.0) as u32;
        (1..=most_parts).map(|parts| with_parts(f64::from(parts))).fold(f64::INFINITY, f64::min)
    }
}
