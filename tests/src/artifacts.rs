//! Finds the programs that the tests run.

use std::{env, path::PathBuf};

/// The program `name` in the folder of this build (`target/debug/name`).
///
/// # Panics
/// When it is not there: a test runner does not build the programs of other packages.
pub fn program(name: &str) -> PathBuf {
    let executable = env::current_exe().expect("the test knows its own executable");
    let found = executable
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "the program `{name}` is not beside {}: run `cargo build --workspace --bins` first",
            executable.display()
        )
    })
}
