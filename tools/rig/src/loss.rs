//! Packets that get lost, by chance, between a test and one of its servers: the kernel drops them
//! on loopback of the network that the test has for itself. Both directions, whoever sends again.

use std::process::Command;

/// What [`Own::hosts`](crate::namespace::Own::hosts) has to do first. Nothing is lost yet; a kernel
/// that cannot filter says so.
pub const UP: &str = "ip link set lo up && tc qdisc add dev lo clsact \
    && tc filter add dev lo egress pref 1 handle 1 bpf da bytecode '1,6 0 0 0'";

/// Where the network header begins, and a number by chance, for a packet filter (`linux/filter.h`).
const NETWORK: u32 = 0xFFF0_0000;
const RANDOM: u32 = 0xFFFF_F038;
/// Ports behind an IP header without options.
const PORTS: [u32; 2] = [NETWORK + 20, NETWORK + 22];
/// `TC_ACT_OK` and `TC_ACT_SHOT`.
const PASS: u32 = 0;
const DROP: u32 = 2;

/// From now on `percent` of the packets to and from this port of loopback are lost.
///
/// # Panics
/// Outside of a network of the test's own that [`UP`] made.
pub fn lose(percent: u32, port: u16) {
    let program = program(percent, port);
    tc(&[
        "filter", "replace", "dev", "lo", "egress", "pref", "1", "handle", "1", "bpf", "da",
        "bytecode", &program,
    ]);
}

/// How many packets were lost so far.
///
/// # Panics
/// As [`lose`].
pub fn lost() -> u64 {
    let text = tc(&["-s", "qdisc", "show", "dev", "lo"]);
    let (_, of_filter) = text.split_once("clsact").expect(&text);
    let (_, rest) = of_filter.split_once("dropped ").expect(&text);
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect(&text)
}

/// Classic BPF as `tc` takes it: the number of instructions, then each with its code, where to jump
/// if so and if not, and its number.
fn program(percent: u32, port: u16) -> String {
    let (load_half, load, modulo, equals, at_least, end) = (0x28, 0x20, 0x94, 0x15, 0x35, 0x06);
    let [from, to] = PORTS;
    let port = u32::from(port);
    let lines = [
        (load_half, 0, 0, from),
        (equals, 2, 0, port),
        (load_half, 0, 0, to),
        (equals, 0, 4, port),
        (load, 0, 0, RANDOM),
        (modulo, 0, 0, 100),
        (at_least, 1, 0, percent),
        (end, 0, 0, DROP),
        (end, 0, 0, PASS),
    ];
    let line = |(code, so, not, number): &(i32, u8, u8, u32)| format!("{code} {so} {not} {number}");
    let lines: Vec<String> = lines.iter().map(line).collect();
    format!("{},{}", lines.len(), lines.join(","))
}

fn tc(arguments: &[&str]) -> String {
    let output = Command::new(crate::program("tc"))
        .args(arguments)
        .output()
        .expect("tc runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "tc {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
