//! The binary as a process, and folders for it to work in.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

pub(crate) fn trefoil(arguments: &[&str]) -> Output {
    // A caller's environment must not stand in for flags.
    let variables = std::env::vars().filter(|(name, _)| name.starts_with("TREFOIL_"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_trefoil"));
    for (name, _) in variables {
        command.env_remove(name);
    }
    command.args(arguments).output().expect("the binary runs")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Standard output of a run that ends well.
pub(crate) fn done(arguments: &[&str]) -> String {
    let output = trefoil(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Exit code and standard error of a run that does not.
pub(crate) fn failed(arguments: &[&str]) -> (i32, String) {
    let output = trefoil(arguments);
    assert!(!output.status.success(), "{arguments:?} was to fail");
    (output.status.code().unwrap_or(-1), text(&output.stderr))
}

/// A folder of its own for one test, gone at the end.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("trefoil-{test}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder for the test");
        Self(path)
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).expect("a file for the test");
        path.display().to_string()
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().expect("a path in UTF-8")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A folder that stays behind is untidy, not wrong.
        let _ = fs::remove_dir_all(&self.0);
    }
}
