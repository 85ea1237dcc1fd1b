//! A core with a fleet that is well, on the simulator, for whole cadences of virtual time.
//! `cargo xtask instructions` counts the instructions of two such runs.
//!
//! `healthy TARGETS INTERVAL_S CADENCES` prints one JSON object.

#[path = "../tests/scale/fleet.rs"]
mod fleet;
#[path = "../tests/it/world.rs"]
#[allow(dead_code)]
mod world;

use std::error::Error;

use fleet::Fleet;

fn main() -> Result<(), Box<dyn Error>> {
    let usage = "usage: healthy TARGETS INTERVAL_S CADENCES";
    let numbers: Result<Vec<u32>, _> = std::env::args().skip(1).map(|arg| arg.parse()).collect();
    let [targets, interval_s, cadences] = numbers?[..] else {
        return Err(usage.into());
    };
    let mut fleet = Fleet::new(targets, interval_s);
    fleet.grow(targets);
    fleet.run_cadences(cadences);
    fleet.assert_nobody_is_forgotten();
    let account = fleet.account();
    println!(
        "{{\"checks\":{},\"turns\":{},\"queries\":{},\"late_max_ms\":{}}}",
        account.probed,
        account.turns,
        account.dns.queries,
        fleet.late_max_ms()
    );
    Ok(())
}
