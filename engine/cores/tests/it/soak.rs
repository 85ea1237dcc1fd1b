//! Long simulated runs in which everything goes on at once that an account must tell apart: a fleet
//! that changes, remote sides that fail or are slow, a sink that stays away, pauses.
//! `RINGWATCH_SOAK_SEEDS=a,b,c` and `RINGWATCH_SOAK_HOURS` ask for more; `cargo xtask soak` does.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Range;

use cores::CoreSnapshot;
use model::inbox::{Cadence, CoreCommand};
use model::outcome::flags;
use model::{Generation, MonoUs, Outcome, Slot, Ticket, Verdict};

use crate::world::{Bench, Chance, Sizes, bench, target, target_at};

const TARGETS: u32 = 10_000;
const INTERVAL_S: i64 = 300;
/// Outcomes that wait: a sink that is away for a minute finds it full.
const OUTCOMES: usize = 1_024;
/// Evidence that waits: the failures of some minutes do not fit.
const EVIDENCE: usize = 16;
/// Plenty while the remote sides answer soon, too few while they are slow.
const MAX_IN_FLIGHT: u32 = 128;
const RTT_US: u64 = 20_000;
const SLOW_RTT_US: u64 = 2_400_000;
const RECHECK_MS: u32 = 60_000;
/// Seconds from one look of the sink to the next, while it is there.
const TAKEN_EVERY_S: u64 = 5;
/// Hours of the run whose seed nobody has seen before.
const FRESH_HOURS: u64 = 2;

#[test]
fn a_day_with_ten_thousand_targets_and_random_faults_balances() {
    for (seed, hours) in runs() {
        println!("soak of {hours} h from seed {seed}");
        let mut day = Day::new(seed);
        for _ in 0..hours {
            day.hour();
        }
        day.end();
        day.judge(seed, hours);
    }
}

/// Seeds with the hours of each.
fn runs() -> Vec<(u64, u64)> {
    let from_env = |name| -> Option<Vec<u64>> {
        let text = std::env::var(name).ok()?;
        Some(
            text.split(',')
                .filter_map(|part| part.trim().parse().ok())
                .collect(),
        )
    };
    let hours = from_env("RINGWATCH_SOAK_HOURS").and_then(|hours| hours.first().copied());
    let hours = hours.unwrap_or(24);
    if let Some(seeds) = from_env("RINGWATCH_SOAK_SEEDS") {
        return seeds.into_iter().map(|seed| (seed, hours)).collect();
    }
    let fresh = RandomState::new().build_hasher().finish();
    vec![(2026, hours), (fresh, FRESH_HOURS)]
}

/// What an hour has in store, in minutes.
struct Plan {
    /// The remote sides are slow.
    slow: Range<u64>,
    /// The sink takes nothing.
    away: [u64; 2],
    /// The core is told to pause.
    paused: u64,
}

/// The terms of the account, and what is held.
const TERMS: [&str; 7] = [
    "pending",
    "in_flight",
    "probed",
    "shed",
    "stale",
    "cancelled",
    "held",
];

fn terms(account: &CoreSnapshot) -> [u64; 7] {
    [
        account.pending,
        account.in_flight,
        account.probed,
        account.shed,
        account.stale,
        account.cancelled,
        account.held,
    ]
}

/// A target as the control plane and the sink know it.
#[derive(Clone, Copy, Default)]
struct Site {
    generation: u32,
    present: bool,
    /// The sink has asked for re-checks.
    suspect: bool,
}

struct Day {
    bench: Bench,
    chance: Chance,
    sites: Vec<Site>,
    /// Slots whose last word the sink has taken: they may be used again.
    free: Vec<u32>,
    removed: u64,
    released: u64,
    taken: u64,
    failed: u64,
    evidence: u64,
    one_shots: u64,
    answers: u64,
    rechecks: u64,
    /// The largest that each term was.
    most: [u64; 7],
}

impl Day {
    fn new(seed: u64) -> Self {
        let mut world = Chance::new(seed, 20);
        world.stalls = 1;
        let sizes = Sizes {
            outcomes: OUTCOMES,
            evidence: EVIDENCE,
            max_in_flight: MAX_IN_FLIGHT,
            ..Sizes::default()
        };
        let mut day = Self {
            bench: bench(world, &sizes),
            chance: Chance::new(!seed, 0),
            sites: vec![Site::default(); TARGETS as usize],
            free: Vec::new(),
            removed: 0,
            released: 0,
            taken: 0,
            failed: 0,
            evidence: 0,
            one_shots: 0,
            answers: 0,
            rechecks: 0,
            most: [0; 7],
        };
        (0..TARGETS).for_each(|slot| day.upsert(slot));
        day
    }

    fn plan(&mut self) -> Plan {
        let start = self.chance.draw(50);
        Plan {
            slow: start..start + 4 + self.chance.draw(4),
            away: [self.chance.draw(60), self.chance.draw(60)],
            paused: self.chance.draw(60),
        }
    }

    fn hour(&mut self) {
        let plan = self.plan();
        for minute in 0..60 {
            let slow = plan.slow.contains(&minute);
            self.bench.sim.world_mut().rtt_us = if slow { SLOW_RTT_US } else { RTT_US };
            self.change();
            self.bench.tell(CoreCommand::Pause(minute == plan.paused));
            for _ in 0..60 / TAKEN_EVERY_S {
                self.bench.run_s(TAKEN_EVERY_S);
                self.look();
                if !plan.away.contains(&minute) {
                    self.take();
                }
            }
        }
        self.bench.tell(CoreCommand::Pause(false));
    }

    /// A minute's commands; some meet attempts that run.
    fn change(&mut self) {
        for _ in 0..20 {
            let slot = self.draw_slot();
            self.bench.tell(CoreCommand::CheckNow { slot: Slot(slot) });
        }
        let busy: Vec<u32> = (0..8).map(|_| self.draw_slot()).collect();
        for slot in &busy {
            self.bench.tell(CoreCommand::CheckNow { slot: Slot(*slot) });
        }
        self.run_ms(15);
        for (slot, gone) in busy.into_iter().zip([true, false].into_iter().cycle()) {
            if gone {
                self.remove(slot);
            } else if self.sites[slot as usize].present {
                self.upsert(slot);
            }
        }
        for _ in 0..10 {
            let slot = self.draw_slot();
            if self.sites[slot as usize].present {
                self.upsert(slot);
            }
        }
        let again = self.free.len() / 2;
        for slot in self.free.split_off(again) {
            self.upsert(slot);
        }
        self.one_shots += 1;
        let (target, ticket) = (target(1, INTERVAL_S), Ticket(self.one_shots));
        self.bench.tell(CoreCommand::OneShot { target, ticket });
    }

    fn draw_slot(&mut self) -> u32 {
        self.chance.draw(u64::from(TARGETS)) as u32
    }

    fn run_ms(&mut self, ms: u64) {
        let until = MonoUs(self.bench.sim.now().mono.0 + ms * 1_000);
        self.bench.sim.run_until(until);
    }

    /// Adds the target, or its next generation; now and then it is somewhere else.
    fn upsert(&mut self, slot: u32) {
        let site = &mut self.sites[slot as usize];
        site.generation += 1;
        (site.present, site.suspect) = (true, false);
        let url = format!("http://s-{slot}.example/{}", site.generation / 2);
        let target = target_at(i64::from(slot) + 1, &url, INTERVAL_S, site.generation);
        let slot = Slot(slot);
        self.bench.tell(CoreCommand::Upsert { slot, target });
    }

    fn remove(&mut self, slot: u32) {
        if std::mem::take(&mut self.sites[slot as usize].present) {
            self.removed += 1;
            self.bench.tell(CoreCommand::Remove { slot: Slot(slot) });
        }
    }

    /// The accounts as they are, and as others read them.
    fn look(&mut self) {
        let account = self.bench.sim.core().account();
        assert!(
            account.balances() && account.one_shot.balances(),
            "{account:?}"
        );
        let published = self.bench.stats.snapshot();
        assert!(
            published.balances() && published.one_shot.balances(),
            "{published:?}"
        );
        let limit = u64::from(MAX_IN_FLIGHT);
        assert!(
            account.held <= limit && account.evidence_held <= limit,
            "{account:?}"
        );
        for (most, term) in self.most.iter_mut().zip(terms(&account)) {
            *most = (*most).max(term);
        }
    }

    /// What a sink does.
    fn take(&mut self) {
        let outcomes: Vec<Outcome> = self.bench.outcomes.try_iter().collect();
        self.evidence += self.bench.evidence.try_iter().count() as u64;
        self.answers += self.bench.one_shots.try_iter().count() as u64;
        self.bench.histograms.try_iter().for_each(drop);
        for outcome in outcomes {
            if outcome.has(flags::SLOT_RELEASED) {
                self.released += 1;
                self.free.push(outcome.slot.0);
                continue;
            }
            self.taken += 1;
            self.failed += u64::from(outcome.class != 0);
            self.follow(&outcome);
        }
    }

    /// A failing target is re-checked until it is up.
    fn follow(&mut self, outcome: &Outcome) {
        let site = &mut self.sites[outcome.slot.index()];
        let generation = Generation(site.generation);
        if !site.present || outcome.generation != generation {
            return;
        }
        let (suspect, cadence) = match outcome.verdict() {
            Verdict::Down => (
                true,
                Cadence::Recheck {
                    after_ms: RECHECK_MS,
                },
            ),
            Verdict::Up => (false, Cadence::Grid),
            _ => return,
        };
        if std::mem::replace(&mut site.suspect, suspect) == suspect {
            return;
        }
        self.rechecks += u64::from(suspect);
        self.bench.tell(CoreCommand::Cadence {
            slot: outcome.slot,
            generation,
            cadence,
        });
    }

    /// Drains the core, and takes all that is left.
    fn end(&mut self) {
        self.bench.tell(CoreCommand::Drain { within_ms: 2_000 });
        for _ in 0..100 {
            self.run_ms(100);
            self.look();
            self.take();
        }
        assert!(self.bench.sim.core().is_drained());
    }

    fn judge(&self, seed: u64, hours: u64) {
        let account = self.bench.sim.core().account();
        let [up, degraded, down, unknown] = account.verdicts;
        println!(
            "soak: seed {seed}, {hours} h: due {}, probed {}, shed {}, stale {}, cancelled {}; \
             up {up}, down {down}, degraded {degraded}, unknown {unknown}; {} times held, {} \
             records of evidence cut; {} DNS queries",
            account.due,
            account.probed,
            account.shed,
            account.stale,
            account.cancelled,
            account.held_total,
            account.evidence_truncated,
            account.dns.queries
        );
        for (name, most) in TERMS.iter().zip(self.most) {
            assert!(most > 0, "seed {seed}: {name} was never more than 0");
        }
        assert_eq!(
            (account.pending, account.in_flight, account.held),
            (0, 0, 0)
        );
        assert_eq!(self.taken, account.sent, "seed {seed}: outcomes");
        assert_eq!(self.evidence, self.failed, "seed {seed}: evidence");
        assert_eq!(account.evidence_dropped, 0, "seed {seed}");
        assert!(account.evidence_truncated > 0, "seed {seed}");
        assert_eq!(self.released, self.removed, "seed {seed}: released slots");
        assert!(self.removed > 0 && self.rechecks > 0, "seed {seed}");
        assert_eq!(self.answers, self.one_shots, "seed {seed}: one-shots");
        let cycles = hours * 3_600 / 285;
        let wanted = (cycles - 1) * u64::from(TARGETS);
        assert!(account.due > wanted / 10 * 9, "seed {seed}: {account:?}");
        assert!(up > account.due / 10 * 7, "seed {seed}: {account:?}");
        assert!(down > account.due / 1_000, "seed {seed}: {account:?}");
        assert!(
            account.dns.queries < account.due,
            "seed {seed}: the cache is used"
        );
    }
}
