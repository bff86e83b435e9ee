//! Names: prefixes, tensors that nothing reads, and those of quantised checkpoints.

use super::*;

const EITHER: Names =
    Names { prefixes: &["", "model.", "transformer."], ignores: &["layers.{layer}.extra", "vision.*"] };

/// The usual tensors with `prefix` before their names.
fn under(prefix: &str) -> Vec<Raw> {
    let renamed =
        |raw: &Raw| Raw(Box::leak(format!("{prefix}{}", raw.0).into_boxed_str()), raw.1, raw.2.clone(), raw.3.clone());
    tensors().iter().map(renamed).collect()
}

fn load_either(tensors: &[Raw], options: LoadOptions<'_>) -> Result<Loaded, WeightsError> {
    load_from(tensors, LoadOptions { names: EITHER, ..options })
}

#[test]
fn the_prefix_under_which_most_tensors_are_is_taken() {
    for prefix in EITHER.prefixes {
        let loaded = load_either(&under(prefix), QUIET).unwrap();
        assert_complete(&loaded.weights);
        assert_eq!(loaded.unused, [""; 0]);
    }
    // One tensor without the prefix does not change that; what lacks is reported under it.
    let mut tensors = under("transformer.");
    tensors[5] = f32s("norm", &[8], 5000.0);
    let error = load_either(&tensors, QUIET).unwrap_err();
    let faults: Vec<_> = error.faults.iter().map(ToString::to_string).collect();
    assert_eq!(faults, ["`transformer.norm` is missing; did you mean `norm`?", "`norm` is not read by this graph"],);
    // Of as many the first.
    let error = load_either(&[f32s("else", &[1], 0.0)], QUIET).unwrap_err();
    assert!(error.to_string().contains("`embed` is missing"), "{error}");
    let no_prefixes = Names { prefixes: &[], ignores: &[] };
    assert_complete(&load_from(&self::tensors(), LoadOptions { names: no_prefixes, ..QUIET }).unwrap().weights);
}

#[test]
fn a_tied_head_may_be_without_the_prefix() {
    let mut tensors = under("model.");
    tensors.push(f32s("head", &[40, 8], 0.0));
    assert_complete(&load_either(&tensors, LoadOptions { tied: true, ..QUIET }).unwrap().weights);
    // But a head of its own is not read from there: to tie it in silence would be wrong.
    let error = load_either(&tensors, QUIET).unwrap_err();
    assert_eq!(error.faults, [WeightFault::Extra { tensors: "head".into(), num_tensors: 1 }]);
}

#[test]
fn tensors_that_nothing_reads_are_refused_or_named() {
    let mut tensors = under("model.");
    for name in ["model.layers.1.extra", "vision.a.b", "model.vision.c", "layers.1.rotary_emb.inv_freq"] {
        tensors.push(f32s(name, &[4], 0.0));
    }
    assert_eq!(load_either(&tensors, QUIET).unwrap().unused, [""; 0]);
    for name in ["model.layers.0.q_norm.weight", "model.layers.1.q_norm.weight", "mtp"] {
        tensors.push(f32s(name, &[8], 0.0));
    }
    let error = load_either(&tensors, QUIET).unwrap_err();
    assert_eq!(
        error.to_string().lines().skip(1).collect::<Vec<_>>(),
        [
            "  `model.layers.{0..1}.q_norm.weight` (2 tensors) are not read by this graph",
            "  `mtp` is not read by this graph",
            "  another architecture variant: add what they are for to the graph, or name them in `ignores`; serve anyway \
             with --ignore-extra-weights",
        ]
    );
    let loaded = load_either(&tensors, LoadOptions { ignore_extra: true, ..QUIET }).unwrap();
    assert_complete(&loaded.weights);
    assert_eq!(loaded.unused, ["model.layers.0.q_norm.weight", "model.layers.1.q_norm.weight", "mtp"]);
    let mut faulty = tensors.clone();
    faulty.remove(0);
    let error = load_either(&faulty, LoadOptions { ignore_extra: true, ..QUIET }).unwrap_err();
    assert!(error.faults.iter().all(|fault| matches!(fault, WeightFault::Missing { .. })), "{error}");
}

#[test]
fn quantised_tensors_are_told_from_missing_ones() {
    let mut tensors = tensors();
    tensors[0] = f32s("embed_scales", &[40], 0.0);
    tensors.push(Raw("embed_blocks", Dtype::U8, vec![40, 4], vec![0; 160]));
    tensors[5] = Raw("norm", Dtype::F8_E4M3, vec![8], vec![0; 8]);
    tensors.push(f32s("norm_scale", &[1], 0.0));
    let error = load_from(&tensors, QUIET).unwrap_err();
    assert_eq!(
        error.to_string().lines().skip(1).collect::<Vec<_>>(),
        [
            "  `embed` is quantised: there are tensors that end with `_blocks`, `_scales` instead (model.safetensors)",
            "  `norm` is F8_E4M3; bfloat16, float16 and float32 can be read (model.safetensors)",
            "  `norm_scale` is not read by this graph",
            "  another architecture variant: add what they are for to the graph, or name them in `ignores`; serve anyway \
             with --ignore-extra-weights",
            "  quantised checkpoints (FP8, integers, MXFP4) cannot be served: take the model's bfloat16, float16 or \
             float32 checkpoint, or convert this one to bfloat16",
        ]
    );
}

#[test]
fn a_fault_of_many_layers_is_one() {
    let spec = |tensor: &str, role, rows, columns| WeightSpec {
        role,
        pieces: vec![Piece { tensor: tensor.into(), tied: None, rows, columns, stored: Stored::default() }],
        columns,
        experts: None,
        layers: Some((0..12).collect()),
        part: Part::Whole,
    };
    let specs = [
        spec("layers.{layer}.up.weight", WeightRole::Matrix, 3, 8),
        spec("layers.{layer}.down.weight", WeightRole::Matrix, 3, 8),
        spec("layers.{layer}.norm.weight", WeightRole::Vector, 1, 8),
    ];
    let tensors = (0..12).flat_map(|layer| {
        let name = |end: &str| -> &'static str { Box::leak(format!("layers.{layer}.{end}").into_boxed_str()) };
        let norm = if layer == 7 { 8 } else { 9 };
        [
            f32s(name("upp.weight"), &[3, 8], 0.0),
            Raw(name("down.weight"), Dtype::F8_E4M3, vec![3, 8], vec![0; 24]),
            f32s(name("down.weight_scale"), &[1], 0.0),
            f32s(name("norm.weight"), &[norm], 0.0),
        ]
    });
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "model.safetensors", &tensors.collect::<Vec<_>>());
    let error = load(dir.path(), &specs, QUIET).unwrap_err();
    assert_eq!(
        error.faults.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "`layers.{0..11}.up.weight` is missing; did you mean `layers.{0..11}.upp.weight`?",
            "`layers.{0..11}.down.weight` is F8_E4M3; bfloat16, float16 and float32 can be read (model.safetensors)",
            "`layers.{0..6,8..11}.norm.weight` is [9], the model needs [8] (model.safetensors)",
            "`layers.{0..11}.upp.weight` (12 tensors) are not read by this graph",
        ]
    );
}
