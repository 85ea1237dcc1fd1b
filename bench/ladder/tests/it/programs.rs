//! The built programs, and `ringwatch check` as a child process.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The program `name`, which is built into the folder of `ladder` itself.
pub(crate) fn built(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_ladder")).parent();
    let program = folder.expect("a program is in a folder").join(name);
    assert!(
        program.is_file(),
        "{} is not built: `cargo build -p farm -p node` builds it",
        program.display()
    );
    program
}

/// Runs `ringwatch check --json` with `args` to its end, in a clean environment.
pub(crate) fn check(args: &[String]) -> Output {
    let mut command = Command::new(built("ringwatch"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("RINGWATCH_")) {
        command.env_remove(name);
    }
    command.args(["check", "--json"]).args(args);
    command.stdin(Stdio::null());
    command.output().expect("ringwatch starts")
}

/// The root folder of the workspace.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.ancestors().nth(2);
    root.expect("ladder lives two folders below the root")
        .into()
}
