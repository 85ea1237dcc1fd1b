//! Named points around every durable step, at which a test can have the process killed. Outside
//! this crate's own tests they are empty.

/// Passes the point `name`.
#[cfg(not(test))]
pub(crate) fn pass(_name: &'static str) {}

/// Every point of a batch's way, in order, each side of each step.
#[cfg(test)]
pub(crate) const POINTS: [&str; 14] = [
    "segment.before",
    "segment.after",
    "append.before",
    "append.after",
    "sync.before",
    "sync.after",
    "memory.after",
    "apply.before",
    "apply.after",
    "acknowledge.before",
    "acknowledge.after",
    "secure.after",
    "reclaim.before",
    "reclaim.after",
];

/// Points of a start whose journal has a torn end.
#[cfg(test)]
pub(crate) const START_POINTS: [&str; 2] = ["cut.before", "cut.after"];

/// The variable that says where to die: `name:n`, at the n-th time from 1.
#[cfg(test)]
pub(crate) const VARIABLE: &str = "PERSIST_TEST_DIES_AT";

/// Passes the point `name`, or kills the process there as `kill -9` does.
#[cfg(test)]
pub(crate) fn pass(name: &'static str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    static AIM: OnceLock<Option<(String, u32)>> = OnceLock::new();
    static PASSED: AtomicU32 = AtomicU32::new(0);

    let is_listed = POINTS.contains(&name) || START_POINTS.contains(&name);
    assert!(is_listed, "{name} is not listed");
    let aim = AIM.get_or_init(|| {
        let given = std::env::var(VARIABLE).ok()?;
        let (name, nth) = given.split_once(':').expect("name:n");
        Some((name.to_owned(), nth.parse().expect("a number")))
    });
    let Some((aimed, nth)) = aim else { return };
    if aimed == name && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == *nth {
        let this = rustix::process::getpid();
        let _ = rustix::process::kill_process(this, rustix::process::Signal::KILL);
        std::process::abort();
    }
}
