//! What the memory of attempts in flight comes to: the slope, its bar, and the tables for people.
//! Pure.

use super::{Attempts, End, Kind, Reading};
use crate::bar::Bar;
use crate::baseline::median;
use crate::procfs::Memory;
use crate::table::{Table, grouped};

const KB: f64 = 1_000.0;
/// The most that one attempt may cost, in kB.
const PLAIN_MAX_KB: f64 = 12.0;
const TLS_MAX_KB: f64 = 24.0;

/// The bars of every kind.
pub(in super::super) fn bars(attempts: &[Attempts]) -> impl Iterator<Item = Bar> {
    attempts.iter().map(Attempts::bar)
}

/// Every start, for people; empty when there was none.
pub(in super::super) fn table(attempts: &[Attempts]) -> String {
    let head = [
        "attempts that wait for",
        "in flight",
        "RSS MB",
        "the starts",
        "slope of RSS, Pss, private dirty, kB",
    ];
    let mut table = Table::new(&head);
    for kind in attempts {
        for end in kind.ends.iter().filter(|end| !end.starts.is_empty()) {
            let mb = |bytes: f64| format!("{:.1}", bytes / 1e6);
            let starts = end.starts.iter().map(|start| start.memory.rss_bytes as f64);
            let is_last = end.wanted == kind.ends[1].wanted;
            table.row([
                kind.kind.words().to_owned(),
                grouped(end.in_flight()),
                mb(end.median(|memory| memory.rss_bytes)),
                starts.map(mb).collect::<Vec<_>>().join(", "),
                if is_last {
                    kind.slopes()
                } else {
                    String::new()
                },
            ]);
        }
    }
    let is_empty = attempts.iter().all(|kind| kind.ends[0].starts.is_empty());
    if is_empty {
        String::new()
    } else {
        format!("\n{}", table.markdown())
    }
}

impl Kind {
    fn words(self) -> &'static str {
        match self {
            Self::Plain => "the first byte, plain",
            Self::TlsAnswer => "the first byte, TLS",
            Self::TlsHandshake => "the answer to a TLS hello",
        }
    }

    fn max_kb(self) -> f64 {
        if self.is_tls() {
            TLS_MAX_KB
        } else {
            PLAIN_MAX_KB
        }
    }
}

impl End {
    fn median(&self, of: fn(&Memory) -> u64) -> f64 {
        let starts = self.starts.iter().map(|start| of(&start.memory) as f64);
        median(starts.collect())
    }

    /// The fewest in flight of all starts.
    fn in_flight(&self) -> u64 {
        let starts = self.starts.iter().map(|start| start.in_flight);
        starts.min().unwrap_or(0)
    }

    /// Why its numbers prove nothing.
    fn flaw(&self) -> Option<String> {
        if self.starts.is_empty() {
            return Some("left out".to_owned());
        }
        self.starts.iter().find_map(|start| start.flaw(self.wanted))
    }
}

impl Reading {
    /// Why it is none of `wanted` attempts in flight.
    pub(super) fn flaw(&self, wanted: u32) -> Option<String> {
        let wanted = u64::from(wanted);
        let (ended, of) = (self.ended, grouped(wanted));
        let (seen, silent) = (grouped(self.in_flight), grouped(self.silent));
        if ended > 0 {
            Some(format!(
                "{ended} attempts were over while {of} were to be in flight"
            ))
        } else if self.in_flight < wanted {
            Some(format!("{seen} attempts of {of} were in flight"))
        } else if self.silent < wanted {
            Some(format!("the farm was silent to {silent} of {of}"))
        } else {
            None
        }
    }
}

impl Attempts {
    /// Bytes that one more attempt in flight costs, by medians; `None` when nothing was measured.
    fn slope(&self, of: fn(&Memory) -> u64) -> Option<f64> {
        let [few, many] = &self.ends;
        let is_measured = !few.starts.is_empty() && !many.starts.is_empty();
        let attempts = many.in_flight() as f64 - few.in_flight() as f64;
        (is_measured && attempts > 0.0).then(|| (many.median(of) - few.median(of)) / attempts)
    }

    fn slopes(&self) -> String {
        let kb = |of| {
            let slope = self.slope(of);
            slope.map_or_else(|| "–".to_owned(), |bytes| format!("{:.2}", bytes / KB))
        };
        let (rss, pss) = (kb(|memory| memory.rss_bytes), kb(|memory| memory.pss_bytes));
        format!("{rss}, {pss}, {}", kb(|memory| memory.private_dirty_bytes))
    }

    fn flaw(&self) -> Option<String> {
        let refused = self.refused.clone();
        refused.or_else(|| self.ends.iter().find_map(End::flaw))
    }

    pub(super) fn bar(&self) -> Bar {
        let [few, many] = [0, 1].map(|end| grouped(u64::from(self.ends[end].wanted)));
        let waits_for = self.kind.words();
        Bar::new(
            format!("memory per attempt that waits for {waits_for}, {few} to {many} in flight"),
            self.slope(|memory| memory.rss_bytes)
                .map(|bytes| bytes / KB),
            (self.kind.max_kb(), "kB"),
            self.flaw(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(in_flight: u64, rss_bytes: u64) -> Reading {
        Reading {
            in_flight,
            silent: in_flight,
            ended: 0,
            memory: Memory {
                rss_bytes,
                pss_bytes: rss_bytes - 1_000,
                private_dirty_bytes: rss_bytes - 2_000,
            },
        }
    }

    /// Three starts at either end; an attempt costs as much as these say.
    fn attempts(kind: Kind, kb: [u64; 3]) -> Attempts {
        let base = 50_000_000;
        Attempts {
            kind,
            ends: [
                End {
                    wanted: 1_000,
                    starts: vec![reading(1_000, base); 3],
                },
                End {
                    wanted: 10_000,
                    starts: kb
                        .map(|kb| reading(10_000, base + 9_000 * kb * 1_000))
                        .to_vec(),
                },
            ],
            refused: None,
        }
    }

    #[test]
    fn the_middle_start_speaks_for_all_and_each_kind_has_its_bar() {
        for (kind, kb, holds) in [
            (Kind::Plain, 12, true),
            (Kind::Plain, 13, false),
            (Kind::TlsAnswer, 24, true),
            (Kind::TlsAnswer, 25, false),
            (Kind::TlsHandshake, 24, true),
            (Kind::TlsHandshake, 25, false),
        ] {
            let attempts = attempts(kind, [kb, 99, 1]);
            let complaint = attempts.bar().complaint();
            assert_eq!(complaint.is_none(), holds, "{kind:?} {kb}: {complaint:?}");
        }
    }

    #[test]
    fn what_did_not_come_to_the_wanted_attempts_is_not_shown() {
        let with = |change: fn(&mut Attempts)| {
            let mut attempts = attempts(Kind::Plain, [1, 1, 1]);
            change(&mut attempts);
            let complaint = attempts.bar().complaint();
            complaint.expect("the bar does not hold")
        };
        for (complaint, reason) in [
            (
                with(|all| all.ends[1].starts[2].in_flight = 9_999),
                "not shown, 9,999 attempts of 10,000 were in flight",
            ),
            (
                with(|all| all.ends[1].starts[0].ended = 4),
                "not shown, 4 attempts were over while 10,000 were to be in flight",
            ),
            (
                with(|all| all.ends[0].starts[1].silent = 800),
                "not shown, the farm was silent to 800 of 1,000",
            ),
            (
                with(|all| all.ends[1].starts.clear()),
                "not shown, left out",
            ),
            (
                with(|all| all.refused = Some("too few files".to_owned())),
                "not shown, too few files",
            ),
        ] {
            assert!(complaint.ends_with(reason), "{complaint}");
            assert!(
                complaint.contains("1,000 to 10,000 in flight"),
                "{complaint}"
            );
        }
    }

    #[test]
    fn every_start_is_shown_and_the_slope_once() {
        let shown = table(&[attempts(Kind::TlsAnswer, [18, 19, 20])]);
        let lines: Vec<&str> = shown.lines().filter(|line| line.contains("TLS")).collect();
        assert_eq!(lines.len(), 2, "{shown}");
        assert!(lines[1].contains("212.0, 221.0, 230.0"), "{shown}");
        assert!(lines[1].contains("19.00, 19.00, 19.00"), "{shown}");
        assert!(!lines[0].contains("19.00"), "{shown}");
        let mut nothing = attempts(Kind::Plain, [1, 1, 1]);
        nothing.ends.iter_mut().for_each(|end| end.starts.clear());
        assert_eq!(table(&[nothing]), "");
    }

    #[test]
    fn the_numbers_file_has_every_reading() {
        let json = serde_json::to_value(attempts(Kind::TlsHandshake, [5, 5, 5])).expect("JSON");
        assert_eq!(json["kind"], "tls_handshake");
        assert_eq!(json["ends"][1]["starts"][2]["in_flight"], 10_000);
        assert_eq!(
            json["ends"][0]["starts"][0]["memory"]["private_dirty_bytes"],
            49_998_000
        );
    }
}
