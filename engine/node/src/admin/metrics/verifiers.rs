//! What verifiers were asked, and what it came to. All 0 where there are none.

use std::fmt;

use super::{Page, Scrape, by, plain};
use crate::verifier::client::stats::NonVote;

impl Scrape {
    pub(super) fn verifiers(&self, page: &mut Page<'_>) -> fmt::Result {
        let (sink, seen) = (&self.sink.counters, &self.verifiers);
        let questions = [
            ("asked", sink.questions),
            ("refused", sink.questions_refused),
            ("sample", sink.sample_questions),
        ];
        let help = "Questions to verifiers: all, those without room, and those of samples";
        page.counter("verifier_questions", help, by("kind", &questions))?;
        let help = "Samples that confirmed that many failures at once are real";
        page.counter(
            "verifier_samples_confirmed",
            help,
            plain(sink.samples_confirmed),
        )?;
        let help = "Requests to verifiers, of up to 64 questions";
        page.counter("verifier_batches", help, plain(seen.batches))?;
        let votes = [("up", sink.votes_up), ("down", sink.votes_down)];
        page.counter("verifier_votes", "Votes of vantages", by("kind", &votes))?;
        let reasons = NonVote::ALL.into_iter().zip(seen.non_votes);
        let reasons: Vec<(&str, u64)> = reasons
            .map(|(why, count)| match why {
                // Too late for who asks, or for the sink.
                NonVote::Late => (why.as_str(), count + sink.votes_late),
                _ => (why.as_str(), count),
            })
            .collect();
        let help = "Questions on which a vantage has no vote";
        page.counter("verifier_nonvotes", help, by("reason", &reasons))?;
        let help = "Questions that wait to be asked";
        let waiting = plain(sink.questions_waiting);
        page.gauge("verifier_questions_waiting", help, waiting)?;
        let help = "Batches of questions that wait for answers";
        page.gauge("verifier_batches_under_way", help, plain(seen.under_way))?;
        let help = "Verifiers that failed a moment ago and are not asked";
        page.gauge("verifiers_cooling", help, plain(seen.cooling))?;
        let help = "1 while questions to verifiers are taken";
        page.gauge("verifier_asking", help, plain(u64::from(seen.is_asking)))?;
        let help = "Tasks that ask verifiers and broke; they are begun again";
        page.counter("verifier_tasks_broken", help, plain(seen.broken))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::scrape;
    use super::*;
    use crate::verifier::client::stats::VerifierSeen;

    #[test]
    fn every_reason_is_served_by_its_word() {
        let mut scrape = scrape();
        scrape.verifiers = VerifierSeen {
            batches: 1,
            under_way: 2,
            cooling: 3,
            is_asking: true,
            broken: 6,
            non_votes: std::array::from_fn(|index| 10 + index as u64),
        };
        let counters = &mut scrape.sink.counters;
        (counters.votes_up, counters.votes_down, counters.votes_late) = (4, 5, 100);
        let text = scrape.text().expect("text");
        for (index, why) in NonVote::ALL.into_iter().enumerate() {
            assert_eq!(why as usize, index);
            let word = why.as_str();
            let too_late = if why == NonVote::Late { 100 } else { 0 };
            let sample = format!(
                "verifier_nonvotes_total{{reason=\"{word}\"}} {}\n",
                10 + index + too_late
            );
            assert!(text.contains(&sample), "{sample} in\n{text}");
        }
        for sample in [
            "verifier_batches_total{} 1\n",
            "verifier_batches_under_way{} 2\n",
            "verifiers_cooling{} 3\n",
            "verifier_asking{} 1\n",
            "verifier_tasks_broken_total{} 6\n",
            "verifier_votes_total{kind=\"up\"} 4\n",
            "verifier_votes_total{kind=\"down\"} 5\n",
        ] {
            assert!(text.contains(sample), "{sample} in\n{text}");
        }
    }
}
