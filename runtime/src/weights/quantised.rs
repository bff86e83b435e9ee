//! How quantised tensors are called in checkpoints, to tell them from tensors that are missing.

/// What stands after a module's or a tensor's name, where quantisers store a weight in parts: MXFP4, FP8 with scales,
/// compressed-tensors, GPTQ and AWQ, bitsandbytes.
pub(super) const ENDS: [&str; 14] = [
    "_blocks",
    "_scales",
    ".weight_packed",
    ".weight_shape",
    ".weight_scale",
    ".weight_scale_inv",
    ".weight_zero_point",
    ".weight_scale_2",
    ".qweight",
    ".qzeros",
    ".scales",
    ".g_idx",
    ".weight.absmax",
    ".weight.quant_map",
];

/// The name of the part of a quantised `tensor` that has this end.
pub(super) fn part(tensor: &str, end: &str) -> String {
    format!("{}{end}", tensor.strip_suffix(".weight").unwrap_or(tensor))
}
