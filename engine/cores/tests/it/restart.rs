//! A node that is killed and started again: another core, the same targets, a later grid zero. The
//! remote sides are what is asked: they see what each core started, to the tick.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use cores::reactor::sim::{Dial, End, Peer, Reply, World};
use model::inbox::CoreCommand;
use model::limits::TICK_MS;
use model::schedule::{cadence_ms, phase_ms};
use model::{MonoUs, Slot, TargetId, UnixMs};
use proptest::prelude::*;

use crate::world::{Bench, GRID_ZERO, Sizes, bench_in, shared_config, target_at};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
/// How often the outcomes are taken.
const TAKEN_EVERY_MS: u64 = 300_000;

/// Remote sides that note who was called, and when.
struct Remotes {
    rtt_us: u64,
    /// µs of the core's clock, and the place of the target in its fleet.
    calls: Vec<(u64, usize)>,
}

impl World for Remotes {
    fn dial(&mut self, address: SocketAddr, now: MonoUs) -> Dial {
        let IpAddr::V4(address) = address.ip() else {
            panic!("{address} is nobody's");
        };
        let place = u32::from(address) & 0xff_ffff;
        self.calls.push((now.0, place as usize));
        Dial::Accept(self.rtt_us)
    }

    fn reply(&mut self, _peer: Peer, _request: &[u8], _now: MonoUs) -> Reply {
        Reply {
            after_us: self.rtt_us,
            bytes: Cow::Borrowed(OK),
            piece: OK.len(),
            end: End::Silence,
        }
    }

    fn answer(&mut self, _query: &[u8], _answer: &mut Vec<u8>, _now: MonoUs) -> Option<u64> {
        panic!("the targets are addresses")
    }
}

#[derive(Clone, Copy, Debug)]
struct Site {
    id: i64,
    interval_s: u32,
}

impl Site {
    fn cadence_ms(self) -> u64 {
        u64::from(cadence_ms(self.interval_s))
    }

    /// How far `at_ms` is behind the last point of the site's grid, in ms.
    fn behind_ms(self, at_ms: u64) -> u64 {
        let id = TargetId::new(self.id).expect("ids are positive");
        let phase = u64::from(phase_ms(id, cadence_ms(self.interval_s)));
        (at_ms + self.cadence_ms() - phase) % self.cadence_ms()
    }
}

/// What one core did: from when on it knew its targets, until when it ran, and its starts as
/// (place in the fleet, wall clock in ms), in their order.
struct Life {
    knew_ms: u64,
    ended_ms: u64,
    starts: Vec<(usize, u64)>,
}

/// A core that is given the fleet, runs and is dropped with all that is in flight. Slots are dealt
/// out anew at each start, in whichever order.
fn live(fleet: &[Site], backwards: bool, zero_ms: u64, run_ms: u64, rtt_us: u64) -> Life {
    let world = Remotes {
        rtt_us,
        calls: Vec::new(),
    };
    let zero = UnixMs(zero_ms);
    let mut bench = bench_in(world, &Sizes::default(), zero, shared_config());
    let mut places: Vec<usize> = (0..fleet.len()).collect();
    if backwards {
        places.reverse();
    }
    for (slot, place) in places.into_iter().enumerate() {
        let site = fleet[place];
        let address = IpAddr::from((9u32 << 24 | place as u32).to_be_bytes());
        let url = format!("http://{address}/");
        let target = target_at(site.id, &url, i64::from(site.interval_s), 1);
        let slot = Slot(slot as u32);
        bench.tell(CoreCommand::Upsert { slot, target });
    }
    // The first turn reads the inbox, whenever it comes.
    bench.sim.run_until(MonoUs(1));
    let knew_ms = bench.sim.now().unix.0;
    run_taking(&mut bench, run_ms);
    let ended_ms = bench.sim.now().unix.0;
    let calls = std::mem::take(&mut bench.sim.world_mut().calls);
    let start = |(us, place): (u64, usize)| (place, zero_ms + us / 1_000);
    Life {
        knew_ms,
        ended_ms,
        starts: calls.into_iter().map(start).collect(),
    }
}

fn run_taking(bench: &mut Bench<Remotes>, run_ms: u64) {
    let mut left_ms = run_ms;
    while left_ms > 0 {
        let step_ms = left_ms.min(TAKEN_EVERY_MS);
        bench
            .sim
            .run_until(MonoUs(bench.sim.now().mono.0 + step_ms * 1_000));
        bench.drain();
        left_ms -= step_ms;
    }
    let account = bench.sim.core().account();
    assert_eq!((account.shed, account.stale, account.cancelled), (0, 0, 0));
}

/// Fleets of a minute, an hour and, fewer, a day: the second core runs for the longest cadence.
fn fleet() -> impl Strategy<Value = Vec<Site>> {
    let of = |longest_s: u32| {
        let id = prop_oneof![1i64..100_000, 1i64..i64::MAX];
        let interval_s = prop_oneof![10u32..=60, 10..=longest_s];
        let site = (id, interval_s).prop_map(|(id, interval_s)| Site { id, interval_s });
        prop::collection::vec(site, 1..40)
    };
    prop_oneof![4 => of(60), 4 => of(3_600), 1 => of(86_400)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_restart_keeps_every_phase_and_checks_each_target_once_per_cadence(
        fleet in fleet(),
        zero_ms in GRID_ZERO.0..GRID_ZERO.0 + 90_000_000,
        killed_after_ms in prop_oneof![6u64..60_000, 6u64..4_000_000],
        down_ms in prop_oneof![Just(0u64), 0u64..60_000, 0u64..200_000_000],
        rtt_us in prop_oneof![Just(20_000u64), Just(400_000)],
    ) {
        let before = live(&fleet, false, zero_ms, killed_after_ms, rtt_us);
        let longest_ms = fleet.iter().map(|site| site.cadence_ms()).max().unwrap_or(0);
        let zero_ms = before.ended_ms + down_ms;
        let after = live(&fleet, true, zero_ms, longest_ms + 2 * TICK_MS, rtt_us);
        let mut last = BTreeMap::<usize, u64>::new();
        for life in [&before, &after] {
            for (place, at_ms) in &life.starts {
                let site = fleet[*place];
                let off_ms = site.behind_ms(*at_ms);
                prop_assert!(off_ms <= TICK_MS, "{site:?} started {off_ms} ms off its phase");
                let point_ms = at_ms - off_ms;
                if let Some(last_ms) = last.insert(*place, point_ms) {
                    let apart_ms = point_ms - last_ms;
                    let over_the_gap = last_ms < life.knew_ms && apart_ms > site.cadence_ms();
                    prop_assert!(
                        over_the_gap || apart_ms == site.cadence_ms(),
                        "{site:?}: {apart_ms} ms from one check to the next"
                    );
                }
            }
            for (place, site) in fleet.iter().enumerate() {
                let in_first_cadence = |(of, at_ms): &&(usize, u64)| {
                    let first = *at_ms - site.behind_ms(*at_ms) <= life.knew_ms + site.cadence_ms();
                    *of == place && first
                };
                let checks = life.starts.iter().filter(in_first_cadence).count();
                let whole = life.ended_ms >= life.knew_ms + site.cadence_ms() + TICK_MS;
                prop_assert!(checks <= 1 && (checks == 1 || !whole), "{site:?}: {checks} checks");
            }
        }
    }

    #[test]
    fn a_restart_spreads_the_checks_of_a_fleet_as_evenly_as_ever(
        first_id in 1i64..i64::MAX / 2,
        targets in 200usize..1_500,
        interval_s in 10u32..=300,
        zero_ms in GRID_ZERO.0..GRID_ZERO.0 + 90_000_000,
        killed_after_ms in 6u64..30_000,
        down_ms in prop_oneof![0u64..2_000, 0u64..20_000_000],
    ) {
        let site = |place| Site { id: first_id + place as i64, interval_s };
        let fleet: Vec<Site> = (0..targets).map(site).collect();
        let before = live(&fleet, false, zero_ms, killed_after_ms, 20_000);
        let cadence_ms = fleet[0].cadence_ms();
        let zero_ms = before.ended_ms + down_ms;
        let after = live(&fleet, true, zero_ms, cadence_ms, 20_000);
        let mut per_second = BTreeMap::<u64, u64>::new();
        for (_, at_ms) in before.starts.iter().chain(&after.starts) {
            *per_second.entry(at_ms / 1_000).or_default() += 1;
        }
        // Ids that were minted in a row lie evenly over the cadence but for a few, whatever their
        // number: the discrepancy of multiples of the golden ratio grows with its logarithm.
        let even = (targets as u64 * 1_000).div_ceil(cadence_ms);
        let most = per_second.values().max().copied().unwrap_or(0);
        prop_assert!(most <= even + 8, "{most} starts in a second, {even} in an even one");
    }
}
