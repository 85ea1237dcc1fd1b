//! A scripted world, and a core in it.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use cores::core::{Channels, Core, CoreParts};
use cores::reactor::sim::{Dial, End, Peer, Reply, Sim, World};
use cores::{CoreHistograms, CoreStats, DestinationCaps, KeptLimits, LocalEnd};
use crossbeam_channel::{Receiver, Sender, bounded};
use model::ids::splitmix64;
use model::inbox::{CoreCommand, OneShotReport};
use model::{
    CoreIndex, Evidence, Generation, MonoUs, Now, Outcome, Slot, Target, TargetId, TargetSpec,
    UnixMs,
};
use prober::resolver::{IpPolicy, Resolver, ResolverConfig};
use prober::{Guard, Roots, Shared, SharedConfig};

/// 2026-01-01T00:00:00Z and a bit: grids are not aligned to it.
pub(crate) const GRID_ZERO: UnixMs = UnixMs(1_767_225_600_123);

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nConnection: close\r\n\r\nhello world!";
const SERVER_ERROR: &[u8] = b"HTTP/1.1 503 Sorry\r\nContent-Length: 0\r\n\r\n";
const SHORT: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nonly this";
const NOISE: &[u8] = b"\x16\x03\x01 this is not HTTP\r\n\r\n";

/// How long a stalled tick takes, in µs: more than a tenth of any deadline here.
pub(crate) const STALL_US: u64 = 3_000_000;

/// Faults by chance, the same for the same seed.
pub(crate) struct Chance {
    state: u64,
    /// Failing dials, replies and DNS answers, per mille.
    pub(crate) faults: u64,
    /// Stalled ticks, per million.
    pub(crate) stalls: u64,
    /// When ticks began that were to stall, in µs.
    pub(crate) stalled: Vec<u64>,
    /// At the next tick the core stands still for so long, in µs; with that the darkness ends.
    pub(crate) stop_us: u64,
    /// What a turn takes that starts checks, in µs.
    pub(crate) busy_us: u64,
    /// Everything is silent.
    pub(crate) dark: bool,
    /// Dials to this address are noted.
    pub(crate) watched: Option<IpAddr>,
    /// When, in µs.
    pub(crate) dialled: Vec<u64>,
    /// Every name is at the watched address.
    pub(crate) all_watched: bool,
    /// What the watched address does.
    pub(crate) watched_dial: Option<Dial>,
    /// µs from a dial to its answer, and from a request to its reply.
    pub(crate) rtt_us: u64,
    /// What a healthy peer replies.
    pub(crate) good: Cow<'static, [u8]>,
    /// What follows it.
    pub(crate) good_end: End,
}

impl Chance {
    pub(crate) fn new(seed: u64, faults: u64) -> Self {
        Self {
            state: seed,
            faults,
            stalls: 0,
            stalled: Vec::new(),
            stop_us: 0,
            busy_us: 0,
            dark: false,
            watched: None,
            dialled: Vec::new(),
            all_watched: false,
            watched_dial: None,
            rtt_us: 20_000,
            good: Cow::Borrowed(OK),
            good_end: End::Silence,
        }
    }

    pub(crate) fn draw(&mut self, below: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        splitmix64(self.state) % below
    }

    fn faulty(&mut self) -> bool {
        self.faults > 0 && self.draw(1_000) < self.faults
    }
}

impl World for Chance {
    fn dial(&mut self, address: SocketAddr, now: MonoUs) -> Dial {
        if self.watched == Some(address.ip()) {
            self.dialled.push(now.0);
            if let Some(dial) = self.watched_dial {
                return dial;
            }
        }
        if self.dark {
            return Dial::Silence;
        }
        let rtt = self.rtt_us + self.draw(1_000);
        if !self.faulty() {
            return Dial::Accept(rtt);
        }
        match self.draw(4) {
            0 => Dial::Fail(rtt, 111),
            1 => Dial::Fail(rtt, 113),
            2 => Dial::Local(99),
            _ => Dial::Silence,
        }
    }

    fn reply(&mut self, _peer: Peer, request: &[u8], _now: MonoUs) -> Reply {
        assert!(request.starts_with(b"GET /") && request.ends_with(b"\r\n\r\n"));
        let after_us = self.rtt_us + self.draw(5_000);
        let piece = if self.draw(8) == 0 { 7 } else { 4_096 };
        let good = Reply {
            after_us,
            bytes: self.good.clone(),
            piece,
            end: self.good_end,
        };
        if !self.faulty() {
            return good;
        }
        match self.draw(6) {
            0 => Reply {
                bytes: Cow::Borrowed(SERVER_ERROR),
                ..good
            },
            1 => Reply {
                bytes: Cow::Borrowed(SHORT),
                end: End::Eof,
                ..good
            },
            2 => Reply {
                bytes: Cow::Borrowed(SHORT),
                end: End::Reset,
                ..good
            },
            3 => Reply {
                bytes: Cow::Borrowed(NOISE),
                end: End::Eof,
                ..good
            },
            4 => Reply {
                bytes: Cow::Borrowed(SHORT),
                end: End::Silence,
                ..good
            },
            _ => Reply {
                bytes: Cow::Borrowed(b""),
                end: End::Silence,
                ..good
            },
        }
    }

    fn answer(&mut self, query: &[u8], answer: &mut Vec<u8>, _now: MonoUs) -> Option<u64> {
        let rcode = if self.faulty() {
            [2, 3, 0xff][self.draw(3) as usize]
        } else {
            0
        };
        if rcode == 0xff || self.dark {
            return None;
        }
        write_answer(query, answer, rcode);
        if let Some(IpAddr::V4(address)) = self.watched.filter(|_| self.all_watched) {
            // The address ends an answer that has one.
            let (end, has_one) = (answer.len(), answer[7] == 1);
            if has_one {
                answer[end - 4..].copy_from_slice(&address.octets());
            }
        }
        Some(3_000)
    }

    fn busy_us(&mut self) -> u64 {
        self.busy_us
    }

    fn stall_us(&mut self, now: MonoUs) -> u64 {
        if self.stop_us > 0 {
            self.dark = false;
            std::mem::take(&mut self.stop_us)
        } else if self.stalls > 0 && self.draw(1_000_000) < self.stalls {
            self.stalled.push(now.0);
            STALL_US
        } else {
            0
        }
    }
}

/// RFC 1035 §4.1 by hand: header, the question as it came, and one A record unless `rcode` or the
/// question say otherwise.
pub(crate) fn write_answer(query: &[u8], answer: &mut Vec<u8>, rcode: u8) {
    let name_end = 12
        + query[12..]
            .iter()
            .position(|byte| *byte == 0)
            .expect("a root label")
        + 1;
    let question = &query[12..name_end + 4];
    let is_a = query[name_end..name_end + 2] == [0, 1];
    let answers = u8::from(is_a && rcode == 0);
    answer.extend_from_slice(&query[..2]);
    answer.extend_from_slice(&[0x81, 0x80 | rcode, 0, 1, 0, answers, 0, 0, 0, 0]);
    answer.extend_from_slice(question);
    if answers == 1 {
        let hash = question.iter().fold(7u64, |hash, byte| {
            splitmix64(hash ^ u64::from(byte.to_ascii_lowercase()))
        });
        answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 14, 16, 0, 4]);
        answer.extend_from_slice(&[1, hash as u8 | 1, (hash >> 8) as u8, (hash >> 16) as u8]);
    }
}

/// A simulated core with the other ends of its channels.
pub(crate) struct Bench<W = Chance> {
    pub(crate) sim: Sim<W>,
    pub(crate) inbox: Sender<CoreCommand>,
    pub(crate) outcomes: Receiver<Outcome>,
    pub(crate) evidence: Receiver<Box<Evidence>>,
    pub(crate) one_shots: Receiver<OneShotReport>,
    pub(crate) histograms: Receiver<Box<CoreHistograms>>,
    pub(crate) stats: Arc<CoreStats>,
}

/// Sizes that tests vary.
pub(crate) struct Sizes {
    pub(crate) outcomes: usize,
    pub(crate) evidence: usize,
    pub(crate) max_in_flight: u32,
    pub(crate) destination_caps: DestinationCaps,
    /// Resolvers; all of them are the world's.
    pub(crate) upstreams: u8,
    pub(crate) policy: IpPolicy,
    pub(crate) kept: KeptLimits,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            outcomes: 65_536,
            evidence: 16_384,
            max_in_flight: 10_000,
            destination_caps: DestinationCaps::share(1, vec![uncapped()]),
            upstreams: 1,
            policy: IpPolicy::V4First,
            kept: KeptLimits::default(),
        }
    }
}

/// Addresses that tests of the caps leave alone.
fn uncapped() -> prober::Cidr {
    "9.0.0.0/8".parse().expect("a block")
}

pub(crate) fn shared_config() -> SharedConfig {
    SharedConfig {
        user_agent: "ringwatch/test".to_owned(),
        roots: Roots::WebPki,
        guard: Guard::public_only(Vec::new()),
        ..SharedConfig::default()
    }
}

pub(crate) fn bench(world: Chance, sizes: &Sizes) -> Bench {
    bench_in(world, sizes, GRID_ZERO, shared_config())
}

/// A core in any world.
pub(crate) fn bench_in<W: World>(
    world: W,
    sizes: &Sizes,
    grid_zero: UnixMs,
    shared: SharedConfig,
) -> Bench<W> {
    let (inbox_tx, inbox) = bounded(200_000);
    let (outcomes, outcomes_rx) = bounded(sizes.outcomes);
    let (evidence, evidence_rx) = bounded(sizes.evidence);
    let (one_shots, one_shots_rx) = bounded(1_024);
    let (histograms, histograms_rx) = bounded(16);
    let stats = Arc::new(CoreStats::default());
    let upstream = |last| SocketAddr::from((IpAddr::from([1, 1, 1, last]), 53));
    let parts = CoreParts {
        index: CoreIndex(0),
        grid_zero,
        max_in_flight: sizes.max_in_flight,
        destination_caps: sizes.destination_caps.clone(),
        local_end: LocalEnd {
            kept: sizes.kept,
            ..LocalEnd::default()
        },
        histogram_interval_ms: 10_000,
        shared: Shared::new(shared).expect("the test's configuration is valid"),
        resolver: Resolver::new(ResolverConfig {
            upstreams: (1..=sizes.upstreams).map(upstream).collect(),
            policy: sizes.policy,
            seed: [42; 32],
            sockets_per_upstream: 4,
            ..ResolverConfig::default()
        }),
        channels: Channels {
            inbox,
            outcomes,
            evidence,
            one_shots,
            histograms,
        },
        stats: Arc::clone(&stats),
    };
    let core = Core::new(
        parts,
        Now {
            mono: MonoUs(0),
            unix: grid_zero,
        },
    );
    Bench {
        sim: Sim::new(core, world, grid_zero),
        inbox: inbox_tx,
        outcomes: outcomes_rx,
        evidence: evidence_rx,
        one_shots: one_shots_rx,
        histograms: histograms_rx,
        stats,
    }
}

pub(crate) fn target(id: i64, interval_s: i64) -> Box<Target> {
    target_at(id, &format!("http://s-{id}.example/"), interval_s, 1)
}

pub(crate) fn target_at(id: i64, url: &str, interval_s: i64, generation: u32) -> Box<Target> {
    let spec = TargetSpec {
        url: url.to_owned(),
        interval_s: Some(interval_s),
        timeout_ms: Some(5_000),
        ..TargetSpec::default()
    };
    Box::new(Target {
        id: TargetId::new(id).expect("tests use positive ids"),
        generation: Generation(generation),
        active: true,
        config: spec.parse().expect("the test's target is valid"),
    })
}

impl<W: World> Bench<W> {
    pub(crate) fn tell(&self, command: CoreCommand) {
        self.inbox.send(command).expect("the core holds its inbox");
    }

    pub(crate) fn add(&self, count: u32, interval_s: i64) {
        for slot in 0..count {
            let target = target(i64::from(slot) + 1, interval_s);
            self.tell(CoreCommand::Upsert {
                slot: Slot(slot),
                target,
            });
        }
    }

    pub(crate) fn run_s(&mut self, seconds: u64) {
        let until = MonoUs(self.sim.now().mono.0 + seconds * 1_000_000);
        self.sim.run_until(until);
    }

    /// Takes what the sink would take, and checks the accounts.
    pub(crate) fn drain(&mut self) -> Vec<Outcome> {
        while self.evidence.try_recv().is_ok() {}
        while self.histograms.try_recv().is_ok() {}
        let account = self.sim.core().account();
        assert!(account.balances(), "{account:?}");
        self.outcomes.try_iter().collect()
    }
}
