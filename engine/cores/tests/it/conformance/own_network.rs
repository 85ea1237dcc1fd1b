//! A network of a test's own: the test runs once more in a child, this same program, in a network
//! namespace that is gone with it.

use std::process::Command;

/// Tells this program that it is in a network of its own.
const OWN_NETWORK: &str = "RINGWATCH_TEST_OWN_NETWORK";

/// Runs the rest of the test `name`, a path below this folder's module, in a network namespace,
/// after a shell has done `up` in it: `true` there. `false`, after it ended well, here; also where
/// nobody may make a namespace.
pub(super) fn in_own_network(name: &str, up: &str) -> bool {
    if std::env::var_os(OWN_NETWORK).is_some() {
        return true;
    }
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--net", "sh", "-c"]);
        command
    };
    let is_had = |command: &mut Command| command.status().is_ok_and(|status| status.success());
    if !is_had(unshare().arg("true")) {
        eprintln!("no network namespace of our own here: {name} is left out");
        return false;
    }
    let program = std::env::current_exe().expect("this program");
    let child = unshare()
        .arg(format!("{up} && exec \"$0\" --exact --nocapture \"$1\""))
        .arg(program)
        .arg(format!("conformance::{name}"))
        .env(OWN_NETWORK, "1")
        .output()
        .expect("unshare runs");
    let said = String::from_utf8_lossy(&child.stdout);
    let errors = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{said}{errors}");
    assert!(said.contains("1 passed"), "{said}{errors}");
    false
}
