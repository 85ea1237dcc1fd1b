//! Checks of the DNS itself: what is asked of a name, and what must be answered. Nothing is
//! connected to: such an attempt ends where others begin to connect.

use model::FailureClass;
use model::check::DnsCheck;
use model::record::{RecordType, RecordValue};
use model::time::Now;
use model::url::Scheme;

use super::dns::Dns;
use super::{Attempt, Rules};
use crate::resolver::{DnsFailure, Records};

/// What is asked of a name, where it is more than whether it has an A record.
#[derive(Debug)]
pub(crate) struct Question {
    kind: RecordType,
    /// In order; empty when any record will do.
    expected: Vec<RecordValue>,
}

impl Question {
    /// The question of `check`; `None` when it asks for any A record.
    pub(crate) fn of(check: &DnsCheck) -> Option<Self> {
        let kind = check.name.kind();
        let usual = kind == RecordType::default() && check.expect.is_empty();
        (!usual).then(|| Self {
            kind,
            expected: check.expect.clone(),
        })
    }

    fn is_expected(&self, value: &str) -> bool {
        let place = self
            .expected
            .binary_search_by_key(&value, RecordValue::as_str);
        place.is_ok()
    }
}

impl Attempt {
    /// The records that `Command::Resolve` asks for; `None`: addresses.
    pub fn question(&self) -> Option<RecordType> {
        if self.hop.scheme != Scheme::Dns {
            return None;
        }
        Some(self.asked().map_or(RecordType::A, |asked| asked.kind))
    }

    fn asked(&self) -> Option<&Question> {
        self.rules.as_ref().map(Rules::set)?.question.as_deref()
    }

    /// Compares the answer, which is kept as evidence, with what is expected.
    pub(super) fn on_answer(&mut self, answer: Result<&Records, DnsFailure>, now: Now) {
        let records = match answer {
            Ok(records) => records,
            Err(failure) => return self.on_no_answer(failure, now),
        };
        self.hop.dns = Dns::of_records(records);
        let heard = &mut self.buffers.carry;
        for value in &records.values {
            heard.extend_from_slice(value.as_str().as_bytes());
            heard.push(b'\n');
        }
        let class = match (self.missing(), self.surplus()) {
            (Some(_), _) => Some(FailureClass::BodyKeywordMissing),
            (None, Some(_)) => Some(FailureClass::BodyForbidden),
            (None, None) => None,
        };
        self.finish(class, now);
    }

    /// What is wrong with the answer, as a sentence.
    pub(super) fn wrong_answer(&self) -> String {
        let kind = self.question().unwrap_or_default();
        match (self.missing(), self.surplus()) {
            (Some(value), _) => format!("the {kind} records lack the expected {value}"),
            (None, Some(value)) => format!("the {kind} records have one not expected: {value}"),
            (None, None) => String::new(),
        }
    }

    /// The first value that should be in the answer and is not.
    fn missing(&self) -> Option<&str> {
        let expected = &self.asked()?.expected;
        let mut expected = expected.iter().map(RecordValue::as_str);
        expected.find(|expected| !self.answered().any(|value| value == *expected))
    }

    /// The first value of the answer that should not be there.
    fn surplus(&self) -> Option<&str> {
        let asked = self.asked().filter(|asked| !asked.expected.is_empty())?;
        self.answered().find(|value| !asked.is_expected(value))
    }

    /// The values of the answer, one a line.
    fn answered(&self) -> impl Iterator<Item = &str> {
        let lines = std::str::from_utf8(&self.buffers.carry).unwrap_or_default();
        lines.lines()
    }
}
