//! What is wrong with this node itself, in sentences for whoever reads its log: the first of a
//! kind at once, then one a minute. Checks that are unknown for our own sake are explained nowhere
//! else. It must not know where the sentences go.

use cores::CoreSnapshot;
use model::{FailureClass, MonoUs};
use persist::{Quiet, Signals, SinkCounters};

use super::journal;
use super::lease::Right;

/// Time between two sentences of one kind, in s.
const EVERY_S: u64 = 60;

/// A sentence, and how many of its kind were kept back since the one before.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) swallowed: u64,
    pub(super) text: String,
}

/// What was complained of already.
pub(super) struct Troubles {
    quiet: Quiet,
    /// By signal: another one is other trouble.
    doubts: Quiet,
    /// Checks refused by the guard that were told of.
    blocked_said: u64,
    /// Connections without a local end that were told of.
    sources_wanted_said: u64,
    /// Checks without a verdict for the resolvers' sake that were told of.
    sick_said: u64,
}

impl Troubles {
    pub(super) fn new() -> Self {
        Self {
            quiet: Quiet::every_s(EVERY_S),
            doubts: Quiet::every_s(EVERY_S),
            blocked_said: 0,
            sources_wanted_said: 0,
            sick_said: 0,
        }
    }

    /// A complaint of `kind`, unless there was one a moment ago.
    pub(super) fn complaint(
        &mut self,
        kind: &'static str,
        now: MonoUs,
        text: impl FnOnce() -> String,
    ) -> Option<Complaint> {
        let swallowed = self.quiet.allows(kind, now)?;
        Some(Complaint {
            swallowed,
            text: text(),
        })
    }

    /// What the numbers of the sink and of the cores tell.
    pub(super) fn look(
        &mut self,
        sink: &SinkCounters,
        cores: &[CoreSnapshot],
        now: MonoUs,
    ) -> Vec<Complaint> {
        let found = [
            self.held(cores, now),
            self.journal(sink, now),
            self.lease(sink, now),
            self.blocked(cores, now),
            self.sources(cores, now),
            self.resolvers(cores, now),
            self.doubts(sink, now),
            self.excused(sink, now),
            self.no_route(sink, now),
            self.unconfirmed(sink, now),
        ];
        found.into_iter().flatten().collect()
    }

    /// By which signals failing checks are not believed; after five minutes the sink says so, too.
    /// Each is said at once, also while another one goes on.
    fn doubts(&mut self, sink: &SinkCounters, now: MonoUs) -> Option<Complaint> {
        let signals = Signals::from_bits(sink.signals as u16).without(Signals::TOLD_ONLY);
        let text = || {
            let names: Vec<_> = signals.names().collect();
            format!(
                "failing checks are doubted, because the trouble may be ours ({}): connect \
                 failures and timeouts of targets that were up are unknown",
                names.join(", ")
            )
        };
        let said = signals
            .names()
            .filter_map(|name| self.doubts.allows(name, now));
        let swallowed = said.reduce(u64::max)?;
        let text = text();
        Some(Complaint { swallowed, text })
    }

    /// No signal of its own may be in force: turns of 30 ms are far from lag at p99.
    fn excused(&mut self, sink: &SinkCounters, now: MonoUs) -> Option<Complaint> {
        let signals = Signals::from_bits(sink.signals as u16);
        let text = || {
            "timeouts are not known, because the loop of a probe core stood still for a tenth of \
             their time: give the probe cores CPUs of their own (`probe_cores`), or fewer targets"
                .to_owned()
        };
        let goes_on = signals.has(Signals::CHECKS_EXCUSED);
        goes_on.then(|| self.complaint("excused", now, text))?
    }

    /// Of the resolvers there is a sentence already.
    fn no_route(&mut self, sink: &SinkCounters, now: MonoUs) -> Option<Complaint> {
        let signals = Signals::from_bits(sink.signals as u16);
        let text = || {
            format!(
                "this machine finds no way to targets that were well (connect.local): {} targets \
                 are not known; see to its routes and addresses (`ip route`)",
                sink.not_known
            )
        };
        let goes_on = signals.has(Signals::NO_ROUTE);
        goes_on.then(|| self.complaint("no_route", now, text))?
    }

    /// A target that nobody confirms is neither up nor down, and nobody is called for it.
    fn unconfirmed(&mut self, sink: &SinkCounters, now: MonoUs) -> Option<Complaint> {
        let targets = sink.unconfirmed;
        let text = || {
            format!(
                "{targets} failing targets wait for confirmation, because too few verifiers say \
                 anything of them: `ringwatch doctor` asks each verifier, and \
                 ringwatch_verifier_nonvotes_total says why they have no votes"
            )
        };
        (targets > 0).then(|| self.complaint("unconfirmed", now, text))?
    }

    fn held(&mut self, cores: &[CoreSnapshot], now: MonoUs) -> Option<Complaint> {
        let held: u64 = cores.iter().map(|core| core.held).sum();
        let text = || format!("{held} results are held: the sink is slower than the probe cores");
        (held > 0).then(|| self.complaint("held", now, text))?
    }

    /// The sink says what is wrong once: who looks later must see it, too.
    fn journal(&mut self, sink: &SinkCounters, now: MonoUs) -> Option<Complaint> {
        let trouble = journal::trouble(sink)?;
        let text = || {
            format!(
                "{trouble} ({} of {} bytes; {} facts and {} batches wait)",
                sink.journal_bytes, sink.journal_max_bytes, sink.facts_waiting, sink.apply_lag
            )
        };
        self.complaint(trouble, now, text)
    }

    /// The sink says both once: who looks later must see it, too.
    fn lease(&mut self, sink: &SinkCounters, now: MonoUs) -> Option<Complaint> {
        let (kind, text) = match Right::of(sink) {
            Right::Held => return None,
            Right::Lapsed => (
                "lapsed",
                "the lease of this node was not renewed in time, because the store is away or \
                 this process stood still: another node may take over; nothing is lost meanwhile",
            ),
            Right::Fenced => (
                "fenced",
                "another node took over: this one checks and writes nothing until the other's \
                 lease is over; stop one of the two",
            ),
        };
        self.complaint(kind, now, || text.to_owned())
    }

    /// A fleet whose addresses are not allowed is never down: nothing else would tell.
    fn blocked(&mut self, cores: &[CoreSnapshot], now: MonoUs) -> Option<Complaint> {
        let of = |core: &CoreSnapshot| core.failed(FailureClass::SafetyBlocked);
        let blocked: u64 = cores.iter().map(of).sum();
        let news = blocked.saturating_sub(self.blocked_said);
        let text = || {
            format!(
                "{news} checks refused by the safety guard: add --allow CIDR for the private \
                 networks that are meant to be watched, and names such as .corp where they have \
                 their own"
            )
        };
        let complaint = (news > 0).then(|| self.complaint("blocked", now, text))??;
        self.blocked_said = blocked;
        Some(complaint)
    }

    fn sources(&mut self, cores: &[CoreSnapshot], now: MonoUs) -> Option<Complaint> {
        let wanted: u64 = cores.iter().map(|core| core.sources_wanted).sum();
        let absent = cores.iter().map(|core| core.sources_absent).max();
        let (news, absent) = (
            wanted.saturating_sub(self.sources_wanted_said),
            absent.unwrap_or(0),
        );
        let text = || {
            format!(
                "{news} connections found no local address or port ({absent} source addresses are \
                 absent): give source_addresses that this machine has (`ringwatch doctor`), or \
                 where it has one family alone say so (`ip`)"
            )
        };
        let complaint = (news > 0).then(|| self.complaint("sources", now, text))??;
        self.sources_wanted_said = wanted;
        Some(complaint)
    }

    /// Also while no core finds them sick: a resolver that refuses is told apart at once, name by
    /// name.
    fn resolvers(&mut self, cores: &[CoreSnapshot], now: MonoUs) -> Option<Complaint> {
        let is_sick = cores.iter().any(|core| core.dns.sick > 0);
        let of = |core: &CoreSnapshot| core.failed(FailureClass::DnsResolverSick);
        let unknown: u64 = cores.iter().map(of).sum();
        let news = unknown.saturating_sub(self.sick_said);
        let sum = |of: fn(&CoreSnapshot) -> u64| cores.iter().map(of).sum::<u64>();
        let failing = sum(|core| core.dns.names_failing);
        let share = match sum(|core| core.dns.names_judged) {
            0 => String::new(),
            names => format!(" ({failing} of {names})"),
        };
        let text = || {
            format!(
                "the resolvers refuse, do not listen, or fail for too many names{share} to be \
                 believed: {news} checks are unknown (dns.resolver_sick); `ringwatch doctor` asks \
                 each of them"
            )
        };
        let complaint = (is_sick || news > 0).then(|| self.complaint("resolvers", now, text))??;
        self.sick_said = unknown;
        Some(complaint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> MonoUs {
        MonoUs(s * 1_000_000)
    }

    fn texts(found: &[Complaint]) -> Vec<&str> {
        found.iter().map(|complaint| &complaint.text[..]).collect()
    }

    fn sick() -> CoreSnapshot {
        let mut core = CoreSnapshot::default();
        core.dns.sick = 1;
        core
    }

    #[test]
    fn a_node_that_is_well_is_quiet() {
        let cores = [CoreSnapshot::default(), CoreSnapshot::default()];
        let found = Troubles::new().look(&SinkCounters::default(), &cores, at(1));
        assert_eq!(found, []);
    }

    #[test]
    fn every_shortage_of_our_own_has_its_sentence() {
        let mut short = sick();
        (short.held, short.sources_wanted, short.sources_absent) = (3, 7, 2);
        short.failures[FailureClass::SafetyBlocked as usize] = 5;
        let sink = SinkCounters {
            journal_alarm: 1,
            journal_bytes: 99,
            unconfirmed: 4,
            signals: u64::from(
                Signals::LOOP_LAG
                    .and(Signals::STALLED)
                    .and(Signals::CHECKS_EXCUSED)
                    .and(Signals::NO_ROUTE)
                    .and(Signals::NO_RESOLVER)
                    .and(Signals::UNCONFIRMED)
                    .bits(),
            ),
            ..SinkCounters::default()
        };
        let found = Troubles::new().look(&sink, &[short, CoreSnapshot::default()], at(1));
        let texts = texts(&found);
        for (text, start) in texts.iter().zip([
            "3 results are held",
            "the journal cannot be written or read back",
            "5 checks refused by the safety guard",
            "7 connections found no local address or port (2 source addresses are absent)",
            "the resolvers refuse, do not listen, or fail for too many names to be believed: 0 ",
            "failing checks are doubted, because the trouble may be ours (loop_lag, stalled): ",
            "timeouts are not known, because the loop of a probe core stood still",
            "this machine finds no way to targets that were well",
            "4 failing targets wait for confirmation, because too few verifiers say anything of",
        ]) {
            assert!(text.starts_with(start), "{text}");
        }
        assert_eq!(texts.len(), 9);
    }

    #[test]
    fn a_resolver_that_refuses_is_told_of_although_no_core_finds_it_sick() {
        let (mut troubles, sink) = (Troubles::new(), SinkCounters::default());
        let mut say = |unknown, s| {
            let mut core = CoreSnapshot::default();
            core.failures[FailureClass::DnsResolverSick as usize] = unknown;
            let found = troubles.look(&sink, &[core], at(s));
            found.first().map(|complaint| complaint.text.clone())
        };
        assert!(say(3, 1).is_some_and(|text| text.contains("believed: 3 checks are unknown")));
        assert_eq!(say(3, 100), None, "no new ones");
        assert!(say(5, 101).is_some_and(|text| text.contains("believed: 2 checks are unknown")));
    }

    #[test]
    fn of_sick_resolvers_it_says_for_how_many_names_they_fail_on_all_cores() {
        let (mut failing, mut more) = (sick(), sick());
        (failing.dns.names_failing, failing.dns.names_judged) = (60, 200);
        (more.dns.names_failing, more.dns.names_judged) = (15, 40);
        let cores = [failing, more, CoreSnapshot::default()];
        let found = Troubles::new().look(&SinkCounters::default(), &cores, at(1));
        assert!(found[0].text.contains("too many names (75 of 240) to be"));
    }

    #[test]
    fn what_goes_on_is_said_once_a_minute_with_what_was_kept_back() {
        let (mut troubles, sink) = (Troubles::new(), SinkCounters::default());
        let mut say = |s| troubles.look(&sink, &[sick()], at(s));
        assert_eq!(say(1).len(), 1);
        assert!(say(2).is_empty() && say(60).is_empty());
        assert_eq!(say(61)[0].swallowed, 2);
    }

    /// Lesson: of lag and a stop within the same minute only the first was ever said.
    #[test]
    fn a_further_reason_to_doubt_is_said_at_once_and_each_once_a_minute() {
        let mut troubles = Troubles::new();
        let mut say = |signals: Signals, s| {
            let signals = u64::from(signals.bits());
            let sink = SinkCounters {
                signals,
                ..SinkCounters::default()
            };
            let found = troubles.look(&sink, &[], at(s));
            found
                .into_iter()
                .map(|said| (said.swallowed, said.text))
                .next()
        };
        let (lag, both) = (Signals::LOOP_LAG, Signals::LOOP_LAG.and(Signals::STALLED));
        let says = |said: Option<(u64, String)>, names: &str| {
            let (swallowed, text) = said?;
            text.contains(names).then_some(swallowed)
        };
        assert_eq!(says(say(lag, 1), "(loop_lag)"), Some(0));
        assert_eq!(say(lag, 2), None);
        assert_eq!(says(say(both, 3), "(loop_lag, stalled)"), Some(0));
        assert_eq!((say(both, 4), say(Signals::STALLED, 60)), (None, None));
        assert_eq!(says(say(both, 61), "(loop_lag, stalled)"), Some(3));
    }

    #[test]
    fn connections_without_a_local_end_are_told_of_once_each() {
        let (mut troubles, sink) = (Troubles::new(), SinkCounters::default());
        let mut say = |wanted, s| {
            let core = CoreSnapshot {
                sources_wanted: wanted,
                ..CoreSnapshot::default()
            };
            let found = troubles.look(&sink, &[core, core], at(s));
            found.first().map(|complaint| complaint.text.clone())
        };
        assert!(say(2, 1).is_some_and(|text| text.starts_with("4 connections")));
        assert_eq!(say(2, 100), None, "no new ones");
        assert_eq!(
            say(5, 101).map(|text| text[..2].to_owned()),
            Some("6 ".into())
        );
        assert_eq!(say(9, 102), None, "a moment ago");
        assert_eq!(
            say(9, 200).map(|text| text[..2].to_owned()),
            Some("8 ".into())
        );
    }
}
