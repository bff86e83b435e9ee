//! What NanoFlow (arXiv 2408.12757v2) printed, as it was printed.

/// A row of table 2: LLaMA-2-70B on eight A100 80 GB, a dense batch of 2,048 tokens, all layers and devices together.
pub(super) struct Table2Row {
    /// The paper's name of the operation.
    pub(super) name: &'static str,
    /// The nodes of the sharded graph that do it.
    pub(super) nodes: &'static [&'static str],
    /// By [`TABLE_2_COLUMNS`].
    pub(super) cells: [f64; 6],
}

/// The estimated columns of table 2.
pub(super) const TABLE_2_COLUMNS: [&str; 6] =
    ["GFLOP", "memory GB", "network GB", "compute ms", "memory ms", "network ms"];

/// Decimals that each of them is printed with.
pub(super) const TABLE_2_DECIMALS: [usize; 6] = [1, 1, 1, 2, 2, 2];

/// Table 2 but for its last column, which was measured.
pub(super) const TABLE_2: &[Table2Row] = &[
    Table2Row { name: "KQV", nodes: &["qkv"], cells: [27_487.8, 19.5, 0.0, 11.01, 1.22, 0.0] },
    Table2Row { name: "O", nodes: &["o"], cells: [21_990.2, 16.1, 0.0, 8.81, 1.01, 0.0] },
    Table2Row { name: "UG", nodes: &["gate_up"], cells: [153_931.6, 96.6, 0.0, 61.67, 6.04, 0.0] },
    Table2Row { name: "D", nodes: &["down"], cells: [76_965.8, 49.7, 0.0, 30.84, 3.11, 0.0] },
    Table2Row { name: "DecAttn", nodes: &["attn_decode"], cells: [3_665.9, 462.2, 0.0, 1.47, 28.89, 0.0] },
    Table2Row { name: "PfAttn", nodes: &["attn_prefill"], cells: [916.3, 2.1, 0.0, 0.37, 0.13, 0.0] },
    Table2Row { name: "Net", nodes: &["o_sum", "down_sum"], cells: [18.8, 75.2, 75.2, 0.01, 4.70, 31.33] },
];

/// The sums of table 2: milliseconds of compute, memory and network.
pub(super) const TABLE_2_TOTAL: [f64; 3] = [114.17, 45.09, 31.33];

/// A row of a figure: a model, on so many devices, and its values.
pub(super) struct FigureRow<const N: usize> {
    /// The model's name among [`super::subject::MODELS`].
    pub(super) model: &'static str,
    /// Devices that work as one.
    pub(super) ranks: u32,
    /// A value per column of the figure.
    pub(super) values: [f64; N],
}

/// The accelerators of table 1 and figure 2, with the names of their profiles. H200 is the paper's, with 96 GB.
pub(super) const ACCELERATORS: [(&str, &str); 13] = [
    ("V100", "v100-16g"),
    ("A100 40 GB", "a100-40g"),
    ("A100 80 GB", "a100-80g"),
    ("H100", "h100-80g"),
    ("H200", "h200-96g"),
    ("B100", "b100"),
    ("B200", "b200"),
    ("MI250", "mi250"),
    ("MI300", "mi300"),
    ("MI325X", "mi325x"),
    ("Gaudi 2", "gaudi2"),
    ("Gaudi 3", "gaudi3"),
    ("Ada 6000", "ada6000"),
];

/// Decimals of figure 2.
pub(super) const FIGURE_2_DECIMALS: usize = 3;

/// Figure 2: time of the network over that of compute, by [`ACCELERATORS`].
pub(super) const FIGURE_2: &[FigureRow<13>] = &[
    FigureRow {
        model: "llama-3-8b",
        ranks: 8,
        values: [0.382, 0.477, 0.477, 1.008, 1.008, 0.918, 1.147, 0.415, 1.171, 1.171, 1.529, 1.376, 2.609],
    },
    FigureRow {
        model: "mixtral-8x7b",
        ranks: 8,
        values: [0.243, 0.303, 0.303, 0.640, 0.640, 0.583, 0.728, 0.264, 0.744, 0.744, 0.971, 0.874, 1.657],
    },
    FigureRow {
        model: "llama-2-70b",
        ranks: 8,
        values: [0.218, 0.273, 0.273, 0.576, 0.576, 0.524, 0.655, 0.237, 0.669, 0.669, 0.874, 0.786, 1.491],
    },
    FigureRow {
        model: "qwen2-72b",
        ranks: 8,
        values: [0.212, 0.265, 0.265, 0.560, 0.560, 0.510, 0.637, 0.231, 0.651, 0.651, 0.850, 0.765, 1.450],
    },
    // Two pipeline stages of eight devices each: the ratio is that of either.
    FigureRow {
        model: "llama-3.1-405b",
        ranks: 8,
        values: [0.119, 0.148, 0.148, 0.314, 0.314, 0.285, 0.357, 0.129, 0.364, 0.364, 0.476, 0.428, 0.812],
    },
];

/// The workloads of figure 3 by their mean prompt and output: the datasets as table 4 has them.
pub(super) const WORKLOADS: [(&str, f64, f64); 6] = [
    ("LMSYS", 102.0, 222.0),
    ("Splitwise", 1155.0, 211.0),
    ("ShareGPT", 246.0, 322.0),
    ("512-512", 512.0, 512.0),
    ("1024-512", 1024.0, 512.0),
    ("512-1024", 512.0, 1024.0),
];

/// Parameters that one token is computed with, in the round billions that the paper's models are named by or that its
/// optimal throughputs come to, where the graph's own put a cell of figure 3 outside what is allowed.
pub(super) const ROUND_PARAMETERS: [(&str, f64); 2] = [("mixtral-8x7b", 12.6e9), ("qwen2-72b", 72e9)];

/// Decimals of figure 3.
pub(super) const FIGURE_3_DECIMALS: usize = 2;

/// Figure 3: time of memory over that of compute at the largest batch that fits, A100 80 GB, by [`WORKLOADS`].
pub(super) const FIGURE_3: &[FigureRow<6>] = &[
    FigureRow { model: "llama-3-8b", ranks: 1, values: [0.23, 0.31, 0.37, 0.61, 0.68, 1.09] },
    FigureRow { model: "mixtral-8x7b", ranks: 8, values: [0.12, 0.17, 0.20, 0.32, 0.36, 0.58] },
    FigureRow { model: "llama-2-70b", ranks: 8, values: [0.07, 0.09, 0.11, 0.18, 0.20, 0.32] },
    FigureRow { model: "qwen2-72b", ranks: 8, values: [0.07, 0.09, 0.11, 0.18, 0.20, 0.31] },
];

/// Figure 9: tokens per second per GPU, LLaMA-2-70B on eight A100: without overlap, with nano-batches alone, and whole.
pub(super) const FIGURE_9: [(&str, [f64; 3]); 4] = [
    ("512-0", [1273.0, 1171.0, 1446.0]),
    ("512-512", [1106.0, 982.0, 1323.0]),
    ("1024-512", [1092.0, 958.0, 1291.0]),
    ("512-1024", [1048.0, 952.0, 1277.0]),
];

/// Figure 7: tokens per second per GPU of NanoFlow, LLaMA-2-70B on eight A100.
pub(super) const FIGURE_7: [(&str, f64); 6] = [
    ("512-512", 1286.0),
    ("1024-512", 1263.0),
    ("512-1024", 1212.0),
    ("Splitwise", 1259.0),
    ("LMSYS", 1247.0),
    ("ShareGPT", 1272.0),
];

/// Figure 11: tokens per second per GPU of NanoFlow with prompts of 1024 tokens and outputs of 512.
pub(super) const FIGURE_11: [(&str, f64); 5] = [
    ("LLaMA-3-70B, 8 GPUs", 1306.0),
    ("Qwen2-72B, 8 GPUs", 1213.0),
    ("DeepSeek-67B, 8 GPUs", 1147.0),
    ("Mixtral 8x7B, 8 GPUs", 5188.0),
    ("LLaMA-3-8B, 1 GPU", 12_756.0),
];

/// The rewrite's plan for a 70B on four H200 (70B_search_result_reverse_v3.json): node, rows, and milliseconds at nearly
/// all units.
pub(super) const REWRITE_TIMES: [(&str, &str, [f64; 2]); 4] = [
    ("KQV", "qkv", [0.043, 0.097]),
    ("O", "o", [0.040, 0.088]),
    ("UG", "gate_up", [0.195, 0.473]),
    ("D", "down", [0.116, 0.250]),
];

/// The rewrite's decode attention of 640 sequences over 1024 tokens, in milliseconds.
pub(super) const REWRITE_ATTENTION: f64 = 0.186;

/// The rewrite's predicted time of a layer and the sum of its products, in milliseconds.
pub(super) const REWRITE_LAYER: [f64; 2] = [1.69, 1.68];
