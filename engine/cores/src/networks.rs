//! How the networks of the fleet are: of each /16 (of IPv6 each /32) how many of its last checks
//! could not be made or timed out. A core counts for itself, in a table of fixed size; other
//! threads see a copy of it, made twice a second. It must not know targets or sockets.
//!
//! ```text
//! address ─► /16 ─► its place, if it is free or was quiet ─┬─ this window of 5 s: results, failing
//!                   else it is not looked at               └─ the one before
//! ```
//!
//! A network counts for a minute after its last check: where few targets are few checks come.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};

use model::limits::{
    ISOLATION_SHARE_PERCENT, NETWORK_WINDOW_MS, NETWORK_WINDOWS_KEPT, NETWORKS_MAX,
};
use model::{FailureClass, MonoUs, Outcome, Verdict};

/// A /16 of IPv4 or a /32 of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network(NonZeroU32);

impl Network {
    /// The network of `address`.
    pub fn of(address: IpAddr) -> Self {
        let number = match address.to_canonical() {
            // Apart from every prefix of IPv6 that is in use.
            IpAddr::V4(v4) => 1 << 16 | v4.to_bits() >> 16,
            IpAddr::V6(v6) => (v6.to_bits() >> 96) as u32,
        };
        // ::1 has no prefix.
        Self(NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN))
    }

    fn place(self) -> usize {
        const BITS: u32 = NETWORKS_MAX.ilog2();
        (self.0.get().wrapping_mul(0x9e37_79b1) >> (32 - BITS)) as usize
    }
}

const _: () = assert!(NETWORKS_MAX.is_power_of_two());

/// Whether the check found its network dark; `None` when it says nothing of it.
pub(crate) fn is_dark(outcome: &Outcome) -> Option<bool> {
    let Some(class) = outcome.failure() else {
        return Some(false);
    };
    match class {
        FailureClass::ConnectLocal => Some(true),
        // The address that was tried last had nothing to do with it.
        FailureClass::DnsTimeout => None,
        _ if outcome.verdict() == Verdict::Unknown || class.is_of_dns() => None,
        _ => Some(class.is_connect_or_timeout()),
    }
}

/// Results of a network, and those of them that found it dark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    results: u16,
    dark: u16,
}

impl Tally {
    fn add(&mut self, is_dark: bool) {
        // Two of them fit in 16 bits; of a busy network the share is what matters.
        if self.results == u16::MAX / 2 {
            (self.results, self.dark) = (self.results / 2, self.dark / 2);
        }
        self.results += 1;
        self.dark += u16::from(is_dark);
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    network: Option<Network>,
    /// The last one in which it was checked.
    window: u32,
    now: Tally,
    before: Tally,
}

fn window(now: MonoUs) -> u32 {
    (now.0 / (NETWORK_WINDOW_MS * 1_000)) as u32
}

impl Cell {
    fn add(&mut self, is_dark: bool, window: u32) {
        match window.saturating_sub(self.window) {
            0 => {}
            1 => (self.before, self.now) = (self.now, Tally::default()),
            _ => (self.before, self.now) = (Tally::default(), Tally::default()),
        }
        self.window = window;
        self.now.add(is_dark);
    }

    /// Whether another network may have its place.
    fn is_quiet(&self, window: u32) -> bool {
        self.network.is_none() || window.saturating_sub(self.window) > 1
    }

    /// One number for other threads; 0 = nothing is known.
    fn packed(&self, window: u32) -> u64 {
        let age = window.saturating_sub(self.window);
        match self.network.filter(|_| age < NETWORK_WINDOWS_KEPT) {
            None => 0,
            Some(Network(number)) => {
                let results = u64::from(self.now.results + self.before.results);
                let dark = u64::from(self.now.dark + self.before.dark);
                u64::from(number.get()) << 32 | results << 16 | dark
            }
        }
    }
}

/// The networks that one core checks.
#[derive(Debug)]
pub(crate) struct Networks {
    cells: Box<[Cell]>,
}

impl Networks {
    pub(crate) fn new() -> Self {
        Self {
            cells: vec![Cell::default(); NETWORKS_MAX].into_boxed_slice(),
        }
    }

    /// Counts a check of `network`. Of two that have one place the busier one is counted.
    pub(crate) fn count(&mut self, network: Network, is_dark: bool, now: MonoUs) {
        let (cell, window) = (&mut self.cells[network.place()], window(now));
        if cell.network != Some(network) {
            if !cell.is_quiet(window) {
                return;
            }
            *cell = Cell {
                network: Some(network),
                window,
                ..Cell::default()
            };
        }
        cell.add(is_dark, window);
    }
}

/// One core's networks as other threads see them: written by the core alone.
#[derive(Debug)]
pub struct NetworkStats {
    cells: Box<[AtomicU64]>,
}

impl Default for NetworkStats {
    fn default() -> Self {
        Self {
            cells: (0..NETWORKS_MAX).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl NetworkStats {
    /// Copies what a core knows; how many networks that are.
    pub(crate) fn publish(&self, networks: &Networks, now: MonoUs) -> u64 {
        let window = window(now);
        let mut known = 0;
        for (shown, cell) in self.cells.iter().zip(&networks.cells) {
            let packed = cell.packed(window);
            known += u64::from(packed != 0);
            // ORDERING: each cell is whole by itself, and they need not be of one instant.
            shown.store(packed, Ordering::Relaxed);
        }
        known
    }

    /// Each network by its number, its results, and those that found it dark.
    fn look(&self) -> impl Iterator<Item = (u32, u32, u32)> {
        let known = self.cells.iter().map(|cell| cell.load(Ordering::Relaxed));
        known.filter(|&packed| packed != 0).map(|packed| {
            let low = |bits: u32| (packed >> bits) as u32 & 0xffff;
            ((packed >> 32) as u32, low(16), low(0))
        })
    }
}

/// Networks of which nearly all checks of all cores failed.
pub fn dark_networks<'a>(cores: impl IntoIterator<Item = &'a NetworkStats>) -> u16 {
    let mut shares: HashMap<u32, (u64, u64)> = HashMap::new();
    for (number, results, dark) in cores.into_iter().flat_map(NetworkStats::look) {
        let share = shares.entry(number).or_default();
        *share = (share.0 + u64::from(results), share.1 + u64::from(dark));
    }
    let is_dark = |&&(results, dark): &&(u64, u64)| dark * 100 > results * ISOLATION_SHARE_PERCENT;
    let dark = shares.values().filter(is_dark).count();
    u16::try_from(dark).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        Network::of(text.parse().expect("an address"))
    }

    fn at(s: u64) -> MonoUs {
        MonoUs(s * 1_000_000)
    }

    /// What others see of one core, and how many networks it knows.
    fn seen(networks: &Networks, now: MonoUs) -> (u16, u64) {
        let stats = NetworkStats::default();
        let known = stats.publish(networks, now);
        (dark_networks([&stats]), known)
    }

    #[test]
    fn a_network_is_a_sixteenth_or_the_first_32_bits_of_ipv6() {
        assert_eq!(network("192.0.2.1"), network("192.0.77.9"));
        assert_eq!(network("192.0.2.1"), network("::ffff:192.0.2.1"));
        assert_ne!(network("192.0.2.1"), network("192.1.2.1"));
        assert_eq!(network("2001:db8:1::"), network("2001:db8:2::1"));
        assert_ne!(network("2001:db8::"), network("2001:db9::"));
        assert_ne!(network("::1"), network("0.0.0.1"));
    }

    #[test]
    fn a_network_is_dark_when_more_than_nine_of_ten_checks_of_ten_seconds_fail() {
        for (failing, dark) in [(90, 0), (91, 1), (100, 1)] {
            let mut networks = Networks::new();
            for n in 0..100 {
                let at = at(5 + n / 50 * 5);
                networks.count(network("192.0.2.1"), n < failing, at);
            }
            assert_eq!(seen(&networks, at(10)), (dark, 1));
        }
    }

    #[test]
    fn healthy_checks_are_forgotten_after_ten_seconds_and_dark_ones_after_a_minute() {
        let mut networks = Networks::new();
        let here = network("192.0.2.1");
        (0..100).for_each(|_| networks.count(here, false, at(4)));
        networks.count(here, true, at(9));
        assert_eq!(seen(&networks, at(9)), (0, 1));
        networks.count(here, true, at(10));
        assert_eq!(seen(&networks, at(10)), (1, 1));
        assert_eq!(seen(&networks, at(69)), (1, 1));
        assert_eq!(seen(&networks, at(70)), (0, 0));
    }

    #[test]
    fn what_every_core_counts_is_one_share_of_the_network() {
        let core = |text: &[(&str, bool)]| {
            let (mut networks, stats) = (Networks::new(), NetworkStats::default());
            for &(address, is_dark) in text {
                networks.count(network(address), is_dark, at(1));
            }
            stats.publish(&networks, at(1));
            stats
        };
        let one = core(&[("192.0.2.1", true), ("198.51.100.1", true)]);
        let other = core(&[("192.0.2.1", true), ("198.51.100.1", false)]);
        assert_eq!(dark_networks([&one]), 2);
        assert_eq!(dark_networks([&one, &other]), 1);
    }

    #[test]
    fn a_busy_network_keeps_its_share_and_its_place() {
        let (mut networks, busy) = (Networks::new(), network("192.0.2.1"));
        for n in 0..200_000 {
            networks.count(busy, n % 20 > 0, at(1));
        }
        assert_eq!(seen(&networks, at(1)), (1, 1));
        let of = |number: u32| Network(NonZeroU32::new(number).expect("not zero"));
        let rival = (1..u32::MAX)
            .map(of)
            .find(|other| other.place() == busy.place() && *other != busy);
        let rival = rival.expect("there are more networks than places");
        networks.count(rival, false, at(9));
        assert_eq!(seen(&networks, at(9)), (1, 1));
        networks.count(rival, false, at(10));
        assert_eq!(seen(&networks, at(10)), (0, 1));
    }
}
