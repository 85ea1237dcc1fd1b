//! A namespace of a test's own: the test runs once more in a child, this same program, in a
//! namespace that is gone with it.

use std::process::Command;

/// Tells the child that it is one.
const INSIDE: &str = "RINGWATCH_TEST_NAMESPACE";

/// What the test has for itself.
#[derive(Clone, Copy, Debug)]
pub enum Own {
    /// The network: no interface, no route, no neighbour's port.
    Network,
    /// What is mounted where.
    Mounts,
}

impl Own {
    fn option(self) -> &'static str {
        match self {
            Self::Network => "--net",
            Self::Mounts => "--mount",
        }
    }

    /// Runs the rest of the test whose path in its program is `test` in a namespace, after a shell
    /// has done `up` in it: `true` there. `false` here, after it ended well; also where `up` cannot
    /// be done, as in many containers, which is said.
    ///
    /// # Panics
    /// When the test failed in there, or no test has this path.
    pub fn hosts(self, test: &str, up: &str) -> bool {
        if std::env::var_os(INSIDE).is_some() {
            return true;
        }
        let unshare = |then: &str| {
            let mut command = Command::new("unshare");
            command.args(["--map-root-user", self.option(), "sh", "-c"]);
            command.arg(format!("{up} {then}"));
            command
        };
        if !unshare("").status().is_ok_and(|status| status.success()) {
            eprintln!("no namespace of our own with `{up}` here: {test} is left out");
            return false;
        }
        let child = unshare("&& exec \"$0\" --exact --nocapture \"$1\"")
            .arg(std::env::current_exe().expect("this program"))
            .arg(test)
            .env(INSIDE, "1")
            .output()
            .expect("unshare runs");
        let said = String::from_utf8_lossy(&child.stdout);
        let errors = String::from_utf8_lossy(&child.stderr);
        assert!(child.status.success(), "{said}{errors}");
        assert!(said.contains("1 passed"), "{said}{errors}");
        false
    }
}
