//! What `cargo build` shows of mistakes in graphs and plans.
//!
//! Each case of `mistakes/` is built in a crate of its own, so the files it names are first put where that crate lies.

use std::fs;
use std::path::Path;

#[test]
fn mistakes_are_shown_as_the_compiler_of_graphs_draws_them() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mistakes");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let crate_of_cases = target.join("tests/trybuild").join(env!("CARGO_PKG_NAME"));
    fs::create_dir_all(&crate_of_cases).unwrap();
    for entry in fs::read_dir(&own).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "ron") {
            fs::copy(&path, crate_of_cases.join(path.file_name().unwrap())).unwrap();
        }
    }
    trybuild::TestCases::new().compile_fail("tests/mistakes/*.rs");
}
