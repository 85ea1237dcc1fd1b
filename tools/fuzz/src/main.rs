//! Every fuzz target in one program: libFuzzer's `main`, and the body that `FUZZ_TARGET` names.
//! What the bodies check is in `prober` and in `node`; how long they run, in `cargo xtask fuzz`.

#![no_main]
#![forbid(unsafe_code)]

// The node is a program without a library: its reader of target lists is taken by path.
#[allow(dead_code, reason = "the node uses more of it than a list needs")]
#[path = "../../../engine/node/src/exit.rs"]
mod exit;
#[allow(dead_code, reason = "the node uses more of it than an exit needs")]
#[path = "../../../engine/node/src/out.rs"]
mod out;
mod targets;

use std::sync::LazyLock;

use prober::fuzzing::Target;

static BODY: LazyLock<fn(&[u8])> = LazyLock::new(chosen);

libfuzzer_sys::fuzz_target!(init: LazyLock::force(&BODY), |data: &[u8]| BODY(data));

fn chosen() -> fn(&[u8]) {
    let wanted = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let mut known: Vec<Target> = prober::fuzzing::TARGETS.to_vec();
    known.push(("csv", targets::fuzzing::csv));
    let found = known.iter().find(|(name, _)| *name == wanted);
    found.map(|(_, body)| *body).unwrap_or_else(|| {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        panic!(
            "FUZZ_TARGET: found {wanted:?}, accepted are {}",
            names.join(", ")
        )
    })
}
