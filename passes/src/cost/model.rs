//! Costs as numbers, and as seconds on a device.

use trefoil_ir::bind::Bound;
use trefoil_ir::dim::Dim;
use trefoil_ir::graph::Graph;
use trefoil_ir::ids::WeightId;
use trefoil_ir::op::{Op, RowDomain};

use super::{ACTIVATION_BYTES, EXPERTS, KEPT, KEYS, KV_BYTES, Mix, ROWS, Rows, WEIGHT_BYTES, of};
use crate::profile::{Kernel, Network, Profile, ResourceKey};
use crate::touch::width_of;

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
        let windowed = self.window(op).map(|window| mix.within(window));
        let mix = windowed.as_ref().unwrap_or(mix);
        let rows = match self.graph.rows_of(op) {
            RowDomain::Tokens => mix.all_rows(range),
            RowDomain::DecodeTokens => mix.decode_rows(range),
            RowDomain::PrefillTokens => mix.prefill_rows(range),
            RowDomain::Seqs => Rows { rows: f64::from(mix.seqs), ..Rows::default() },
        };
        self.load_of_rows(op, rows)
    }

    /// How many positions an attention sees; `None` for all.
    fn window(&self, op: &Op) -> Option<f64> {
        let (Op::Attention { score, .. } | Op::DecodeAttention { score, .. } | Op::PrefillAttention { score, .. }) = op
        else {
            return None;
        };
        let window = self.bound.params.get(&self.graph.params[score.window?].name)?;
        Some(*window).filter(|window| *window > 0.0)
    }

    /// What an operator costs on these rows; nothing on none.
    pub fn load_of_rows(&self, op: &Op, rows: Rows) -> Load {
        if rows.rows == 0.0 {
            return Load::default();
        }
        let cost = of(self.graph, op);
        let experts = self.routed(op, rows.rows).experts;
        let number = |dim: &Dim| self.number(dim, rows, experts);
        let load = Load {
            flops: number(&cost.flops),
            bytes: number(&cost.bytes),
            network: number(&cost.network),
            ..Load::default()
        };
        let (seconds, bound_by) = self.seconds(op, rows, load);
        Load { seconds, bound_by, ..load }
    }

    fn number(&self, dim: &Dim, rows: Rows, experts: f64) -> f64 {
        let bytes = self.profile.bytes;
        let size = |name: &str| match name {
            ROWS => Some(rows.rows.round() as u64),
            KEYS => Some(rows.keys.round() as u64),
            KEPT => Some(rows.kept.round() as u64),
            EXPERTS => Some(experts.round() as u64),
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
            Op::Linear { weight, .. } | Op::ExpertLinear { weight, .. } => {
                let down = self.routed(op, rows.rows);
                compute = self.product_seconds(&self.product_kernel(op), *weight, down, load.flops);
                memory = profile.kernel("*").seconds(load.bytes, profile.memory.bandwidth);
            }
            Op::PrefillAttention { .. } | Op::Attention { .. } => {
                compute = kernel.seconds(load.flops, profile.compute.flops);
            }
            Op::AllReduce { .. } | Op::AllGather { .. } => network = kernel.seconds(load.network, link),
            Op::Embed { .. }
            | Op::RmsNorm { .. }
            | Op::LayerNorm { .. }
            | Op::Rope { .. }
            | Op::Join { .. }
            | Op::Add { .. }
            | Op::GatedMul { .. }
            | Op::Apply { .. }
            | Op::Route { .. }
            | Op::Combine { .. }
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
        let best = self.product_kernel(op).best();
        let compute = load.flops / (self.profile.compute.flops * best);
        let memory = load.bytes / (self.profile.memory.bandwidth * best);
        let link = self.profile.network.map_or(f64::INFINITY, Network::one_way);
        match op {
            // Cutting a product reads its weight again, and never less.
            Op::Linear { .. } => {
                compute.max(load.bytes / (self.profile.memory.bandwidth * self.profile.kernel("*").best()))
            }
            Op::ExpertLinear { .. } | Op::PrefillAttention { .. } | Op::Attention { .. } => compute,
            Op::AllReduce { .. } | Op::AllGather { .. } => load.network / (link * best),
            Op::Embed { .. }
            | Op::RmsNorm { .. }
            | Op::LayerNorm { .. }
            | Op::Rope { .. }
            | Op::Join { .. }
            | Op::Add { .. }
            | Op::GatedMul { .. }
            | Op::Apply { .. }
            | Op::Route { .. }
            | Op::Combine { .. }
            | Op::Rows { .. }
            | Op::KvWrite { .. }
            | Op::DecodeAttention { .. }
            | Op::AddRmsNorm { .. } => memory,
            Op::Repeat { .. } | Op::Columns { .. } => 0.0,
        }
    }

    /// The rows of an operator as experts share them: one group of all rows where there are none.
    fn routed(&self, op: &Op, rows: f64) -> Routed {
        let Op::ExpertLinear { experts, weight, .. } = op else { return Routed { experts: 1.0, rows } };
        let size = |dim: &Dim| self.number(dim, Rows::default(), 0.0);
        let of_all = self.graph.weights[*weight].experts.as_ref().map_or(1.0, size);
        let top_k = size(&width_of(self.graph, *experts));
        Routed { experts: of_all * (1.0 - (1.0 - top_k / of_all).powf(rows)), rows: rows * top_k }
    }

    /// How the kernel of an operator fares. A product by expert whose own is not known fares like a product.
    fn product_kernel(&self, op: &Op) -> Kernel {
        let is_known = self.profile.kernels.contains_key(op.name());
        let is_product = matches!(op, Op::ExpertLinear { .. }) && !is_known;
        self.profile.kernel(if is_product { "Linear" } else { op.name() })
    }

    /// A product's time by waves of tiles, the rows of each expert in tiles of their own; small products are split along
    /// their inner axis as long as that helps.
    fn product_seconds(&self, kernel: &Kernel, weight: WeightId, routed: Routed, flops: f64) -> f64 {
        let compute = &self.profile.compute;
        let Some((tile_rows, tile_columns)) = compute.tile else { return kernel.seconds(flops, compute.flops) };
        let (tile_rows, tile_columns) = (f64::from(tile_rows), f64::from(tile_columns));
        let columns = self.number(&self.graph.weights[weight].rows(), Rows::default(), 0.0);
        let tiles_down = routed.experts * (routed.rows / routed.experts / tile_rows).ceil();
        let tiles_across = (columns / tile_columns).ceil();
        let padded = flops * tiles_down * tile_rows / routed.rows * tiles_across * tile_columns / columns;
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

/// Rows as experts share them.
#[derive(Debug, Clone, Copy)]
struct Routed {
    /// Those that some row goes to.
    experts: f64,
    /// All their rows together.
    rows: f64,
}
