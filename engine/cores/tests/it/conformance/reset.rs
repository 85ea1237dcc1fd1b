//! A connection that is reset while it is being opened. A reset in answer to the first segment is a
//! refusal, and one behind the handshake meets an open connection; between them is a peer that
//! began to open it too and then gave up. No server does so at will: here the peer is two segments
//! that the test writes, in the name of a host that the way to leads into a cable with no end.
//!
//! A check that speaks first learns of it by what it says: to that one it is a reset of HTTP.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use cores::{Clock, CoreHandle, Driver};
use model::inbox::{CoreCommand, OneShotReport};
use model::{FailureClass, Ticket};
use prober::Guard;
use rig::namespace::Own;
use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto, sendto, socket};

use super::peers::Tls;
use super::real::{self, PATIENCE};
use super::sources::eventually;
use super::{TRIES, drivers, target};
use crate::row::Row;

const UP: &str = "ip link set lo up && ip link add near type veth peer name far && \
    ip addr add 10.77.0.1/30 dev near && ip link set far up && ip link set near arp off up && \
    ip route add 10.78.0.0/16 dev near && \
    echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter && echo 0 >/proc/sys/net/ipv4/conf/lo/rp_filter";
const HOST: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 78, 0, 1), 80);
const OURS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// States in `/proc/net/tcp`.
const SYN_SENT: &str = "02";
const SYN_RECEIVED: &str = "03";
/// Flags of a segment.
const SYN: u8 = 2;
const RST: u8 = 4;

/// The port of ours from which the connection to [`HOST`] comes, once it is in `state`.
fn port_in(state: &str) -> Option<u16> {
    let table = fs::read_to_string("/proc/net/tcp").expect("there");
    let host = format!(
        "{:08X}:{:04X}",
        u32::from_le_bytes(HOST.ip().octets()),
        HOST.port()
    );
    table.lines().find_map(|line| {
        let columns: Vec<_> = line.split_whitespace().collect();
        let [_, ours, theirs, is, ..] = columns[..] else {
            return None;
        };
        let (_, port) = ours
            .split_once(':')
            .filter(|_| theirs == host && is == state)?;
        u16::from_str_radix(port, 16).ok()
    })
}

/// The sum that segments are checked by.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks_exact(2)
        .map(|two| u32::from(u16::from_be_bytes([two[0], two[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

/// A segment from [`HOST`] to our `port`, with its IP header; the kernel sums that one up.
fn segment(port: u16, sequence: u32, flag: u8) -> Vec<u8> {
    let mut tcp = [HOST.port().to_be_bytes(), port.to_be_bytes()].concat();
    tcp.extend(sequence.to_be_bytes());
    tcp.extend([0, 0, 0, 0, 5 << 4, flag, 0x10, 0, 0, 0, 0, 0]);
    let ends = [HOST.ip().octets(), OURS.octets()].concat();
    let summed = [&ends[..], &[0, 6, 0, 20], &tcp].concat();
    tcp[16..18].copy_from_slice(&checksum(&summed).to_be_bytes());
    let header = [0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0];
    [&header[..], &ends, &tcp].concat()
}

/// Begins to open the connection from the other side too, and gives it up.
fn begin_and_reset() {
    let raw = socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::RAW)).expect("root here");
    let send = |port, sequence, flag| {
        let to = SocketAddrV4::new(OURS, 0);
        let packet = segment(port, sequence, flag);
        sendto(&raw, &packet, SendFlags::empty(), &to).expect("loopback sends");
    };
    eventually(|| port_in(SYN_SENT).is_some());
    let port = port_in(SYN_SENT).expect("it waits for an answer");
    send(port, 7, SYN);
    eventually(|| port_in(SYN_RECEIVED) == Some(port));
    send(port, 8, RST);
}

fn once(core: &CoreHandle) -> OneShotReport {
    let command = CoreCommand::OneShot {
        target: target(&format!("tcp://{HOST}"), 20_000),
        ticket: Ticket(1),
    };
    core.inbox.send(command).expect("the core runs");
    begin_and_reset();
    let report = core.one_shots.recv_timeout(PATIENCE);
    report.expect("an answer")
}

/// Checks the host; again when the machine of the test was too busy for the core to judge.
fn check(driver: Driver) -> OneShotReport {
    let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    let mut config = real::config(driver, None, nobody, &Tls::new());
    config.shared.guard = Guard::public_only(vec!["10.78.0.0/16".parse().expect("a block")]);
    let core = cores::spawn(config, Clock::start()).expect("the kernel gives out this driver");
    let was_judged =
        |report: &OneShotReport| report.outcome.failure() != Some(FailureClass::LocalPressure);
    let judged = (0..TRIES).map(|_| once(&core)).find(was_judged);
    let drain = CoreCommand::Drain { within_ms: 0 };
    core.inbox.send(drain).expect("the core runs");
    core.thread.join().expect("no panic").expect("a clean end");
    judged.expect("the core could judge once")
}

#[test]
fn a_peer_that_gives_up_what_it_began_to_open_is_a_reset() {
    let name = "conformance::reset::a_peer_that_gives_up_what_it_began_to_open_is_a_reset";
    if !Own::Network.hosts(name, UP) {
        return;
    }
    let row = Row::of("a_peer_that_gives_up_what_it_began_to_open_is_a_reset");
    for driver in drivers() {
        let report = check(driver);
        row.holds(&report.outcome, &report.evidence);
        assert_eq!(report.evidence.addresses.len(), 1, "{driver:?}: {report:?}");
        let dialled = report.evidence.addresses[0].address;
        assert_eq!(dialled, SocketAddr::V4(HOST), "{driver:?}");
    }
}
