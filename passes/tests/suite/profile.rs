//! Device profiles: the shipped ones are sound, and mistakes are told by their codes, all at once.

use trefoil_passes::profile::{Profile, ResourceKey};

use crate::cases;

const SOUND: &str = r#"Device(
    about: "made up",
    memory: (bytes: 1e9, bandwidth: 1e9),
    compute: (flops: 1e12, units: 4, tile: Some((16, 16)), split_seconds: 1e-6),
    network: Some((bandwidth: 2e9)),
    bytes: (weights: 2, activations: 2, kv: 2),
    cut_rows: 16,
    kernels: { "*": [(1e6, 0.5), (1e9, 0.9)], "Linear": [(1e6, 0.5)] },
    sharing: { "memory": [(0.5, 0.8)] },
    slowdown: [(of: "compute", beside: "memory", points: [(0.5, 1.5)])],
    oversubscribed: Slows,
)"#;

fn load(text: &str) -> Result<Profile, Vec<&'static str>> {
    let codes = |mistakes: Vec<trefoil_ir::diag::Diagnostic>| mistakes.iter().map(|mistake| mistake.code).collect();
    Profile::load("device", text, &|name| (name == "other").then_some(SOUND), &["other"]).map_err(codes)
}

/// The codes of what is wrong when `old` is written as `new`.
fn codes(old: &str, new: &str) -> Vec<&'static str> {
    assert!(SOUND.contains(old), "{old} is not there");
    load(&SOUND.replace(old, new)).expect_err("a mistake")
}

#[test]
fn what_is_written_is_what_is_known() {
    let profile = load(SOUND).unwrap();
    assert_eq!(profile.speed(ResourceKey::Memory, 0.5), 0.8);
    assert_eq!(profile.speed(ResourceKey::Compute, 0.3), 0.3);
    assert_eq!(profile.slowdown(ResourceKey::Compute, ResourceKey::Memory, 0.5), 1.5);
    assert_eq!(profile.slowdown(ResourceKey::Memory, ResourceKey::Compute, 0.5), 1.0);
    assert_eq!(profile.kernel("Rope"), profile.kernel("*"));
    assert_ne!(profile.kernel("Linear"), profile.kernel("*"));
}

#[test]
fn mistakes_have_their_codes() {
    assert_eq!(codes("cut_rows", "cut_row"), ["T1401"]);
    assert_eq!(codes("bytes: 1e9", "bytes: 0"), ["T1402"]);
    assert_eq!(codes("flops: 1e12", "flops: -1.0"), ["T1402"]);
    assert_eq!(codes("cut_rows: 16", "cut_rows: 0"), ["T1402"]);
    assert_eq!(codes("(1e9, 0.9)", "(1e5, 0.9)"), ["T1403"]);
    assert_eq!(codes("[(0.5, 0.8)]", "[(0.5, 1.8)]"), ["T1403"]);
    assert_eq!(codes("(0.5, 1.5)", "(0.5, 0.5)"), ["T1403"]);
    assert_eq!(codes("\"Linear\"", "\"Linera\""), ["T1404"]);
    assert_eq!(codes("\"memory\": [", "\"ram\": ["), ["T1404"]);
    assert_eq!(codes("of: \"compute\"", "of: \"all\""), ["T1404"]);
    assert_eq!(codes("\"*\": [(1e6, 0.5), (1e9, 0.9)], \"Linear\": [(1e6, 0.5)]", ""), ["T1406"]);
    assert_eq!(codes("oversubscribed: Slows", "like: Some(\"nowhere\")"), ["T1405"]);
    let several = SOUND.replace("bytes: 1e9", "bytes: 0").replace("\"Linear\"", "\"Linera\"");
    assert_eq!(load(&several).unwrap_err(), ["T1402", "T1404"]);
}

#[test]
fn a_device_like_another_has_its_kernels_at_its_own_peaks() {
    let text = "Device(about: \"\", memory: (bytes: 1e9, bandwidth: 2e9), compute: (flops: 1e12, units: 4), \
                bytes: (weights: 2, activations: 2, kv: 2), cut_rows: 16, like: Some(\"other\"))";
    let (own, other) = (load(text).unwrap(), load(SOUND).unwrap());
    // Twice the bandwidth: the latency stays, and the rate doubles.
    let seconds = |profile: &Profile, bytes| profile.kernel("*").seconds(bytes, profile.memory.bandwidth);
    assert!((seconds(&own, 2e9) - seconds(&other, 1e9)).abs() < 1e-12);
    assert_eq!(own.speed(ResourceKey::Memory, 0.5), 0.8);
}

#[test]
fn shipped_profiles_are_sound() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/devices");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let names: Vec<_> = files.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    assert!(names.len() >= 15, "{names:?}");
    let base = cases::shipped("devices", "a100-80g-x8");
    for name in &names {
        let find = |other: &str| (other == "a100-80g-x8").then_some(base.as_str());
        let profile = Profile::load(name, &cases::shipped("devices", name), &find, &[]);
        let profile = profile.unwrap_or_else(|mistakes| panic!("{name}: {mistakes:?}"));
        assert!(!profile.about.is_empty(), "{name} does not say where its numbers come from");
    }
}
