//! Questions to verifiers: what leaves the sink, what answers do, and what a full queue costs.

use incident::quorum::{Answer, Says};
use model::FailureClass::{ConnectRefused, ConnectTimeout, DnsServfail, HttpStatus};
use model::MonoUs;
use model::limits::{
    DEFERRAL_MIN_MS, PRESSURE_RESULTS_MIN, PRESSURE_STICKY_MS, SAMPLE_CONFIRMING_MIN, SAMPLE_SIZE,
    VERIFIERS_WAIT_MS,
};

use super::*;
use crate::questions::Question;
use crate::testbed::QUESTIONS_MAX;
use crate::{Canaries, Health, Signals};

/// Room for the questions of incidents.
const ROOM: usize = QUESTIONS_MAX - SAMPLE_SIZE;

fn with_verifiers(directory: &std::path::Path) -> SinkConfig {
    SinkConfig {
        confirm_after: 1,
        vantages: 2,
        ..config(directory)
    }
}

/// Targets whose failures would be pressure.
const MANY: u32 = PRESSURE_RESULTS_MIN as u32;

/// A sink with verifiers that has [`MANY`] targets.
async fn many_targets(directory: &std::path::Path) -> Bed {
    let store = Rc::new(FakeStore::default());
    let mut bed = Bed::start(with_verifiers(directory), 1, &store).await;
    for slot in 0..MANY {
        bed.register(0, slot, 1, 1 + i64::from(slot), 3_600);
        if slot % 500 == 0 {
            bed.turn().await;
        }
    }
    bed.turn().await;
    bed
}

fn asked(bed: &mut Bed) -> Vec<Question> {
    std::iter::from_fn(|| bed.next_question()).collect()
}

fn answer(bed: &Bed, question: Question, says: &[Says]) {
    let answers = says.iter().enumerate().map(|(vantage, &says)| {
        let vantage = format!("v{vantage}");
        Answer::of(question.request, vantage, says)
    });
    let answers = answers.collect();
    let command = SinkCommand::Answered { question, answers };
    bed.commands.send(command).expect("room");
}

/// Lines of the audit log with both votes on one of a sample.
async fn sampled(bed: &mut Bed) -> usize {
    bed.turns(300).await;
    let rows = bed.store.trail.borrow();
    let votes = rows.iter().filter(|row| row.event_type == "verifier_sent");
    let votes = votes.filter_map(|row| row.subject.as_ref()?.votes.as_ref());
    votes.filter(|votes| votes.results.len() == 2).count()
}

#[test]
fn an_outage_is_confirmed_by_the_answers_to_its_question() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(with_verifiers(dir.path())).await;
        bed.check(0, 0, 1, Some(HttpStatus));
        bed.turns(5).await;
        let [question] = asked(&mut bed)[..] else {
            panic!("one question")
        };
        let of = (question.target, question.slot, question.class);
        assert_eq!(of, (target(7), Slot(0), Some(HttpStatus)));
        assert_eq!(bed.snapshot().counters.open_down, 0);
        // To whom the slot does not belong, it says nothing.
        let other = Question {
            target: target(8),
            ..question
        };
        answer(&bed, other, &[Says::Down, Says::Down]);
        bed.turns(5).await;
        assert_eq!(bed.snapshot().counters.open_down, 0);
        answer(&bed, question, &[Says::Down, Says::Down]);
        bed.turns(5).await;
        assert_eq!(bed.store.story(target(7)), OUTAGE[..2]);
        let counters = bed.snapshot().counters;
        assert_eq!((counters.questions, counters.questions_refused), (1, 0));
        // The other one's were for nobody.
        assert_eq!((counters.votes_down, counters.votes_late), (2, 2));
    });
}

/// Lesson: votes that waited in the sink's own queue for longer than a question lasts were counted,
/// and made a target *Down* on what was seen minutes before.
#[test]
fn votes_that_come_when_their_question_was_given_up_are_counted_as_late_and_decide_nothing() {
    type GivenUp = fn(&mut Bed);
    let ways: [GivenUp; 4] = [
        // The node stood still while they came.
        |bed| bed.pass(VERIFIERS_WAIT_MS),
        |bed| bed.check(0, 0, 1, None),
        |bed| bed.register(0, 0, 2, 7, 60),
        |bed| {
            let command = SinkCommand::Retire {
                core: CoreIndex(0),
                slot: Slot(0),
                by: None,
            };
            bed.commands.send(command).expect("room");
        },
    ];
    for given_up in ways {
        let dir = tempdir().expect("a directory");
        on_virtual_time(async {
            let mut bed = one_target(with_verifiers(dir.path())).await;
            bed.check(0, 0, 1, Some(HttpStatus));
            bed.turns(5).await;
            let [question] = asked(&mut bed)[..] else {
                panic!("one question")
            };
            given_up(&mut bed);
            if bed.mono() < MonoUs(VERIFIERS_WAIT_MS * 1_000) {
                bed.turns(2).await;
            }
            answer(&bed, question, &[Says::Down, Says::Unknown, Says::Down]);
            bed.turns(2).await;
            let counters = bed.snapshot().counters;
            let votes = (counters.votes_up, counters.votes_down, counters.votes_late);
            assert_eq!((votes, counters.open_down), ((0, 0, 2), 0));
        });
    }
}

/// Lesson: the URL was corrected while verifiers looked at the old one, and their votes made the
/// new one *Down*.
#[test]
fn votes_on_an_older_configuration_are_none_on_the_new_one() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(with_verifiers(dir.path())).await;
        bed.check(0, 0, 1, Some(HttpStatus));
        bed.turns(5).await;
        let [question] = asked(&mut bed)[..] else {
            panic!("one question")
        };
        bed.register(0, 0, 2, 7, 60);
        bed.turn().await;
        answer(&bed, question, &[Says::Down, Says::Down]);
        bed.turns(5).await;
        assert_eq!(bed.store.story(target(7)), OUTAGE[..1]);
        bed.pass(DEFERRAL_MIN_MS + 1_000);
        bed.turns(5).await;
        let [again] = asked(&mut bed)[..] else {
            panic!("it is asked again")
        };
        assert_eq!(again.generation, Generation(2));
        answer(&bed, again, &[Says::Down, Says::Down]);
        bed.turns(5).await;
        assert_eq!(bed.store.story(target(7)), OUTAGE[..2]);
    });
}

/// Lesson: with verifiers that said nothing a target stayed *Seems Down* for ever, and nobody was
/// told.
#[test]
fn the_operator_hears_of_targets_that_wait_for_verifiers_in_vain() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(with_verifiers(dir.path())).await;
        bed.check(0, 0, 1, Some(HttpStatus));
        bed.turns(5).await;
        let seen = |bed: &Bed| {
            let counters = bed.snapshot().counters;
            let is_told = Signals::from_bits(counters.signals as u16).has(Signals::UNCONFIRMED);
            let doubts = counters.doubting + counters.deferring;
            assert_eq!((counters.open_seems_down, doubts), (1, 0));
            (counters.unconfirmed, is_told, counters.node_suppressing)
        };
        let (mut story, mut waited_ms) = (Vec::new(), 0);
        while waited_ms < 10 * 60_000 {
            for question in asked(&mut bed) {
                answer(&bed, question, &[Says::Down, Says::Unknown]);
            }
            bed.turns(2).await;
            let now = seen(&bed);
            if story.last().is_none_or(|&(_, last)| last != now) {
                story.push((waited_ms / 1_000, now));
            }
            bed.pass(1_000);
            waited_ms += 1_000;
        }
        let [(0, first), (second, waits), (told, incident)] = story[..] else {
            panic!("{story:?}")
        };
        assert_eq!((first, waits), ((0, false, 0), (1, true, 0)));
        assert_eq!(incident, (1, true, 1));
        assert!(
            (15..20).contains(&second) && (300..320).contains(&told),
            "{story:?}"
        );
        bed.check(0, 0, 1, None);
        bed.turns(5).await;
        assert_eq!(bed.snapshot().counters.unconfirmed, 0);
    });
}

#[test]
fn questions_without_room_are_counted_and_put_again() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let store = Rc::new(FakeStore::default());
        let mut bed = Bed::start(with_verifiers(dir.path()), 1, &store).await;
        let more = ROOM as u32 + 3;
        for slot in 0..more {
            bed.register(0, slot, 1, 1 + i64::from(slot), 3_600);
        }
        bed.turn().await;
        for slot in 0..more {
            bed.check(0, slot, 1, Some(HttpStatus));
        }
        bed.turns(5).await;
        let counters = bed.snapshot().counters;
        assert_eq!(counters.questions_refused, 3);
        assert_eq!(counters.questions_waiting, ROOM as u64);
        // Refused a second time, they wait no longer than the first: nobody failed to answer.
        bed.pass(DEFERRAL_MIN_MS);
        bed.turns(5).await;
        assert_eq!(bed.snapshot().counters.questions_refused, 6);
        let first = asked(&mut bed);
        assert_eq!(first.len(), ROOM);
        for question in first {
            answer(&bed, question, &[Says::Down, Says::Down]);
        }
        bed.turns(5).await;
        assert_eq!(bed.snapshot().counters.open_down, ROOM as u64);
        assert_eq!(asked(&mut bed), []);
        bed.pass(15_000);
        bed.turns(5).await;
        let again = asked(&mut bed);
        assert_eq!(again.len(), 3);
        for question in again {
            answer(&bed, question, &[Says::Down, Says::Down]);
        }
        bed.turns(5).await;
        assert_eq!(bed.snapshot().counters.open_down, u64::from(more));
    });
}

#[test]
fn a_sample_finds_room_however_many_incidents_ask() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = many_targets(dir.path()).await;
        let own = QUESTIONS_MAX as u32;
        (0..own).for_each(|slot| bed.check(0, slot, 1, Some(HttpStatus)));
        bed.turns(5).await;
        let counters = bed.snapshot().counters;
        assert_eq!(
            (counters.questions, counters.sample_questions),
            (ROOM as u64, 0)
        );
        for slot in own..MANY {
            bed.check(0, slot, 1, Some(ConnectRefused));
        }
        (0..own).for_each(|slot| bed.check(0, slot, 1, None));
        bed.turns(5).await;
        let counters = bed.snapshot().counters;
        assert_eq!(counters.failure_pressure, 1);
        assert_eq!(counters.sample_questions, SAMPLE_SIZE as u64);
    });
}

/// Lesson: a name server's SERVFAIL was in doubt like a timeout, but no sample asked about it: the
/// doubt could not end before it was over.
#[test]
fn everything_that_is_in_doubt_is_sampled_and_nothing_else() {
    for (class, doubting, questions) in [
        (DnsServfail, 1, SAMPLE_SIZE as u64),
        (ConnectTimeout, 1, SAMPLE_SIZE as u64),
        (HttpStatus, 1, 0),
    ] {
        let dir = tempdir().expect("a directory");
        on_virtual_time(async {
            let mut bed = many_targets(dir.path()).await;
            for slot in 0..MANY {
                bed.check(0, slot, 1, Some(class));
            }
            bed.turns(5).await;
            let counters = bed.snapshot().counters;
            let seen = (counters.doubting, counters.sample_questions);
            assert_eq!(seen, (doubting, questions), "{class}");
        });
    }
}

/// Lesson: sites that waited for verifiers who were away were many failures for as long as that
/// took, so that every other failure was in doubt.
#[test]
fn who_has_an_open_event_is_no_pressure() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = many_targets(dir.path()).await;
        let mut pressure = Vec::new();
        for _ in 0..2 {
            (0..MANY).for_each(|slot| bed.check(0, slot, 1, Some(HttpStatus)));
            bed.turns(5).await;
            pressure.push(bed.snapshot().counters.failure_pressure);
            bed.pass(PRESSURE_STICKY_MS);
            bed.turns(2).await;
        }
        let counters = bed.snapshot().counters;
        assert_eq!(
            (counters.open_seems_down, counters.open_down),
            (u64::from(MANY), 0)
        );
        assert_eq!(pressure, [1, 0]);
    });
}

#[test]
fn a_sample_of_many_failures_that_verifiers_confirm_ends_the_doubt() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = many_targets(dir.path()).await;
        for slot in 0..MANY {
            bed.check(0, slot, 1, Some(ConnectTimeout));
        }
        bed.turns(5).await;
        let counters = bed.snapshot().counters;
        assert_eq!((counters.failure_pressure, counters.doubting), (1, 1));
        let sample = asked(&mut bed);
        assert_eq!(sample.len(), SAMPLE_SIZE, "sampled, not flooded");
        for (place, question) in sample.into_iter().enumerate() {
            let real = place < SAMPLE_CONFIRMING_MIN;
            let says = if real { Says::Down } else { Says::Up };
            answer(&bed, question, &[says, says]);
        }
        bed.turns(5).await;
        let counters = bed.snapshot().counters;
        assert_eq!((counters.failure_pressure, counters.doubting), (1, 0));
        assert_eq!((counters.samples_confirmed, counters.deferring), (1, 0));
        let real = 2 * SAMPLE_CONFIRMING_MIN as u64;
        assert_eq!((counters.votes_down, counters.votes_late), (real, 0));
        assert_eq!(counters.verifiers_sent, SAMPLE_SIZE as u64);
        assert_eq!(sampled(&mut bed).await, SAMPLE_SIZE);
        // What fails from now on counts at once.
        bed.check(0, 0, 1, Some(ConnectTimeout));
        bed.pass(2_000);
        bed.turns(5).await;
        assert!(bed.snapshot().counters.suspected + bed.snapshot().counters.open_seems_down > 0);
        // Until canaries fall silent: then others are asked about.
        for answering in [3, 0] {
            let health = Health {
                canaries: Canaries {
                    configured: 3,
                    answering,
                },
                ..Health::default()
            };
            bed.commands
                .send(SinkCommand::Health(health))
                .expect("room");
            bed.turn().await;
        }
        let _ = asked(&mut bed);
        for slot in 1..=(SAMPLE_SIZE as u32) {
            bed.check(0, slot, 1, Some(ConnectTimeout));
        }
        bed.turn().await;
        assert_eq!(bed.snapshot().counters.doubting, 1);
        assert_eq!(asked(&mut bed).len(), SAMPLE_SIZE);
    });
}
