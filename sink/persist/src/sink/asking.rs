//! What the sink has verifiers asked: questions of incidents, and samples of many failures at once.
//! It must not know who asks them, nor how.

use incident::pressure::Sample;
use incident::quorum::{Answer, Tally};
use incident::{Audit, AuditKind, Input};
use model::class::Verdict;
use model::limits::SAMPLE_SIZE;
use model::{FactId, FailureClass, Now, Outcome, Slot};

use super::Sink;
use crate::apply::FactStore;
use crate::incidents::Key;
use crate::questions::Question;
use crate::slots::Tenant;

impl<S: FactStore> Sink<S> {
    /// Puts the question of an incident. One that finds no room is put again after a pause. Samples
    /// have room of their own: they tell whether all the others are worth asking.
    pub(super) fn ask(&mut self, request: FactId, key: Key, tenant: &Tenant, now: Now) {
        let class = self.incidents.get(key).failing_class();
        let question = self.question(request, key, tenant, class);
        if !self.put(question, SAMPLE_SIZE) {
            self.step(key, Input::NotAsked { request }, now);
        }
    }

    fn question(
        &self,
        request: FactId,
        key: Key,
        tenant: &Tenant,
        class: Option<FailureClass>,
    ) -> Question {
        Question {
            request,
            target: tenant.target,
            generation: tenant.generation,
            core: self.cores[usize::from(key.core)].index,
            slot: Slot(key.slot),
            class,
        }
    }

    /// Whether there was room for it beside `reserved` others, and somebody to ask.
    fn put(&mut self, question: Question, reserved: usize) -> bool {
        let is_put = self.questions.put(question, reserved);
        let counters = &mut self.ledger.counters;
        counters.questions += u64::from(is_put);
        counters.questions_refused += u64::from(!is_put);
        is_put
    }

    /// While many checks fail, puts questions about some of those that were just drained: whether
    /// the failures are real. Before any of them is stepped, so that it may be in doubt.
    pub(super) fn sample_failures(&mut self, now: Now) {
        if self.policy.vantages == 0 {
            return;
        }
        if self.pressure.withdraws_sample() {
            self.sample = Sample::default();
        }
        let wanted = self.sample.wants(self.pressure.is_failing(), now.mono);
        if wanted == 0 {
            return;
        }
        for (key, outcome) in self.failing(wanted, now) {
            let slots = &self.slots[usize::from(key.core)];
            let Some(tenant) = slots.tenant(key.slot) else {
                continue;
            };
            let request = self.mint.mint(tenant.target.shard(), now.unix);
            let question = self.question(request, key, &tenant, outcome.failure());
            if !self.put(question, 0) {
                return;
            }
            self.ledger.counters.sample_questions += 1;
            self.sample.asked(request, now.mono);
        }
    }

    /// Up to `max` drained failures that pressure casts doubt on, of targets that have no open
    /// event, and are in no window.
    fn failing(&self, max: usize, now: Now) -> Vec<(Key, Outcome)> {
        let cores = self.cores.iter().enumerate();
        let drained = cores.flat_map(|(number, core)| {
            let keyed = move |outcome: &Outcome| {
                let slot = outcome.slot.0;
                let core = number as u16;
                (Key { core, slot }, *outcome)
            };
            core.batch.iter().map(keyed)
        });
        let in_doubt = |(key, outcome): &(Key, Outcome)| {
            outcome.verdict() == Verdict::Down
                && outcome.failure().is_some_and(FailureClass::may_be_ours)
                && !self.incidents.is_failing(*key)
                && !self.is_maintained(*key, now)
        };
        drained.filter(in_doubt).take(max).collect()
    }

    /// Brings answers to whoever asked. A slot that has another tenant by now has no use for them.
    pub(super) fn answered(&mut self, question: &Question, answers: Vec<Answer>, now: Now) {
        let request = question.request;
        if self.sample.awaits(request, now.mono) {
            return self.sample_answered(question, &answers, now);
        }
        let asked = self.asked_about(question);
        let Some((key, tenant)) = asked.filter(|(key, _)| self.incidents.has(*key)) else {
            return self.count_votes(&Tally::too_late(&answers));
        };
        // What was seen of an older configuration is no vote on this one: it is asked again.
        let is_same = tenant.generation == question.generation;
        let (answers, stale) = if is_same {
            (answers, Vec::new())
        } else {
            (Vec::new(), answers)
        };
        self.count_votes(&Tally::too_late(&stale));
        self.step(key, Input::Answered { request, answers }, now);
    }

    /// Whom it was about, if it is still there.
    fn asked_about(&self, question: &Question) -> Option<(Key, Tenant)> {
        let core = self.number_of(question.core)?;
        let slot = question.slot.0;
        let tenant = self.slots[usize::from(core)].tenant(slot)?;
        (tenant.target == question.target).then_some((Key { core, slot }, tenant))
    }

    /// Counts the answers for the sample, and keeps every vote in the audit log.
    fn sample_answered(&mut self, question: &Question, answers: &[Answer], now: Now) {
        let (request, vantages) = (question.request, self.policy.vantages);
        let tally = Tally::of(request, answers);
        self.count_votes(&tally);
        if let Some((_, tenant)) = self.asked_about(question) {
            let audit = Audit {
                target: tenant.target,
                event: None,
                kind: AuditKind::VerifierSent,
                detail: "asked about as one of a sample of many failing checks",
                votes: Some(Box::new(tally.votes(request, answers, vantages))),
                at: now.unix,
            };
            self.note(audit, tenant.group_id, now);
        }
        if self
            .sample
            .answered(request, tally.decide(vantages), now.mono)
        {
            self.pressure.sample_confirmed();
            self.ledger.counters.samples_confirmed += 1;
            tracing::info!("verifiers confirm a sample of the failing checks: they are real");
        }
    }

    /// What the answers to a question came to.
    pub(super) fn count_votes(&mut self, tally: &Tally) {
        let counters = &mut self.ledger.counters;
        counters.votes_up += u64::from(tally.disagreeing);
        counters.votes_down += u64::from(tally.confirming);
        counters.votes_late += u64::from(tally.late);
    }

    /// Gauges of it all.
    pub(super) fn publish_asking(&mut self) {
        self.ledger.counters.questions_waiting = self.questions.waiting() as u64;
    }
}
