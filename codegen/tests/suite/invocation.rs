//! What stands between the parentheses of `compile_model!`.

use std::io;

use super::{LLAMA, SEQUENTIAL};
use trefoil_codegen::Invocation;

fn read(path: &str) -> io::Result<String> {
    match path {
        "graphs/llama.ron" => Ok(LLAMA.to_owned()),
        "graphs/empty.ron" => Ok("Model()".to_owned()),
        "plans/sequential.ron" => Ok(SEQUENTIAL.1.to_owned()),
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    }
}

fn expand(invocation: &str) -> String {
    let invocation: Invocation = syn::parse_str(invocation).unwrap();
    invocation.expand(read).to_string()
}

#[test]
fn the_module_follows_the_files_it_was_made_from() {
    let text = expand(r#""graphs/llama.ron", plans: ["plans/sequential.ron"],"#);
    for part in ["pub mod llama", "\"graphs/llama.ron\"", "\"plans/sequential.ron\"", "include_bytes !"] {
        assert!(text.contains(part), "`{part}` is not in {text}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let text = expand(r#""graphs/nowhere.ron", plans: ["plans/sequential.ron"]"#);
    assert!(text.contains("compile_error") && text.contains("cannot read graphs/nowhere.ron: "), "{text}");
}

#[test]
fn mistakes_become_a_compile_error_and_the_files_stay_tracked() {
    let text = expand(r#""graphs/empty.ron", plans: ["plans/sequential.ron"]"#);
    for part in ["compile_error", "graphs/empty.ron cannot be compiled", "error[T01", "include_bytes !"] {
        assert!(text.contains(part), "`{part}` is not in {text}");
    }
}

#[test]
fn what_it_does_not_understand_it_says() {
    for (invocation, message) in [
        ("", "expected string literal"),
        (r#""a.ron""#, "expected `,`"),
        (r#""a.ron", plan: ["b.ron"]"#, "expected `plans`"),
        (r#""a.ron", plans: []"#, "needs at least one plan"),
    ] {
        let error = syn::parse_str::<Invocation>(invocation).err().unwrap().to_string();
        assert!(error.contains(message), "{error}");
    }
}
