//! Fuzz body of DNS messages: queries that we write, answers that anybody sends. Traces of a whole
//! resolver are in [`trace`].

pub(crate) mod trace;

use std::net::IpAddr;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};
use model::limits::{
    DNS_ADDRESSES_MAX, DNS_CNAME_MAX, DNS_NEGATIVE_TTL_MAX_MS, DNS_NEGATIVE_TTL_MIN_MS,
    DNS_TTL_MAX_MS, DNS_TTL_MIN_MS, RECORD_MAX_BYTES,
};
use model::record::{RecordType as Asked, RecordValue};

use super::case::Case;
use super::codec::{self, Family, Reply, Style};

/// The name that every input is read as an answer for.
const NAME: &str = "www.example.test";

/// An answer gives addresses of the name that was asked for and of the family that was asked for,
/// or none; or records of the type that was asked for, as they can be expected; and a name that can
/// be asked for is asked for as it is, but for the case of its letters, which an answer must
/// repeat. The first byte of an input chooses family or type, and letters.
pub(crate) fn message(data: &[u8]) {
    let Some((&control, bytes)) = data.split_first() else {
        return;
    };
    let asked = Asked::ALL[usize::from(control >> 3) % Asked::ALL.len()];
    let (family, kind) = match (control & 4, control & 1) {
        (0, 0) => (Family::V4, RecordType::A),
        (0, _) => (Family::V6, RecordType::AAAA),
        _ => (Family::Records(asked), RecordType::from(asked.number())),
    };
    let case = if control & 2 == 0 {
        Case::Lower
    } else {
        Case::Random(u64::from(control))
    };
    let said = codec::read(bytes, NAME, case, family);
    match said.as_ref().map(|said| &said.reply) {
        Some(Reply::Addresses { addresses, ttl_ms }) => {
            judge_addresses(bytes, addresses.as_slice(), *ttl_ms, kind);
        }
        Some(Reply::Records(values)) => judge_values(values, asked),
        Some(Reply::Empty { ttl_ms } | Reply::NoSuchName { ttl_ms }) => {
            assert!((DNS_NEGATIVE_TTL_MIN_MS..=DNS_NEGATIVE_TTL_MAX_MS).contains(ttl_ms));
        }
        _ => {}
    }
    if let Ok(answer) = Message::from_vec(bytes)
        && let (Some(question), Some(said)) = (answer.queries.first(), said)
        && answer.queries.len() == 1
    {
        let ours = query(NAME, case, family);
        let repeated = question.name().eq_ignore_root_case(ours.queries[0].name());
        assert_eq!(said.spelled, repeated || case == Case::Lower);
    }
    judge_query(bytes, case, family, kind);
}

/// A value of any answer is one line, and can be expected as it is shown.
fn judge_values(values: &[RecordValue], kind: Asked) {
    assert!(!values.is_empty());
    for value in values {
        let text = value.as_str();
        assert!(!text.contains(char::is_control) && text.trim() == text);
        if text.len() <= RECORD_MAX_BYTES {
            assert_eq!(RecordValue::parse(kind, text).as_ref(), Ok(value));
        }
    }
}

/// Reads the message a second time, without following anything in order.
fn judge_addresses(bytes: &[u8], addresses: &[IpAddr], ttl_ms: u64, kind: RecordType) {
    let message = Message::from_vec(bytes).expect("what gave addresses decodes");
    let metadata = &message.metadata;
    assert_eq!(metadata.message_type, MessageType::Response);
    assert!(metadata.response_code == ResponseCode::NoError && !metadata.truncation);
    let question = &message.queries[0];
    assert_eq!(
        (question.query_type(), question.query_class()),
        (kind, DNSClass::IN)
    );
    assert!(labels(question.name()).eq(NAME.split('.').map(str::to_owned)));

    let owners = owners(&message, question.name());
    let mut least_s = u32::MAX;
    for address in addresses {
        let ttls = message.answers.iter().filter_map(|record| {
            let found = match &record.data {
                RData::A(a) if kind == RecordType::A => IpAddr::V4(a.0),
                RData::AAAA(aaaa) if kind == RecordType::AAAA => IpAddr::V6(aaaa.0),
                _ => return None,
            };
            let owned = owners.iter().any(|owner| record.name.eq_ignore_root(owner));
            (found == *address && owned).then_some(record.ttl)
        });
        least_s = least_s.min(ttls.max().expect("an address is of the name asked for"));
    }
    assert!((1..=DNS_ADDRESSES_MAX).contains(&addresses.len()));
    let longest_ms = (u64::from(least_s) * 1_000).clamp(DNS_TTL_MIN_MS, DNS_TTL_MAX_MS);
    assert!((DNS_TTL_MIN_MS..=longest_ms).contains(&ttl_ms));
}

/// The names that `asked` is called, by at most eight CNAMEs.
fn owners<'a>(message: &'a Message, asked: &'a Name) -> Vec<&'a Name> {
    let mut owners = vec![asked];
    for _ in 0..DNS_CNAME_MAX {
        let more = message
            .answers
            .iter()
            .filter_map(|record| match &record.data {
                RData::CNAME(target)
                    if owners.iter().any(|owner| record.name.eq_ignore_root(owner)) =>
                {
                    Some(&target.0)
                }
                _ => None,
            });
        let new: Vec<&Name> = more.filter(|name| !owners.contains(name)).collect();
        owners.extend(new);
    }
    owners
}

/// The input as a name to ask for.
fn judge_query(bytes: &[u8], case: Case, family: Family, kind: RecordType) {
    let Ok(name) = std::str::from_utf8(bytes) else {
        return;
    };
    if !codec::is_askable(name) {
        return;
    }
    let message = query(name, case, family);
    assert_eq!(message.metadata.id, 0x1234);
    assert_eq!(message.queries.len(), 1);
    assert_eq!(message.queries[0].query_type(), kind);
    let wanted = name.split('.').map(str::to_ascii_lowercase);
    assert!(
        labels(message.queries[0].name()).eq(wanted),
        "asked for another name"
    );
}

fn query(name: &str, case: Case, family: Family) -> Message {
    let mut query = Vec::new();
    codec::encode(name, Style { case, edns: true }, family, 0x1234, &mut query);
    assert_eq!(
        codec::read(&query, name, case, family),
        None,
        "a query is no answer"
    );
    Message::from_vec(&query).expect("our queries decode")
}

fn labels(name: &Name) -> impl Iterator<Item = String> + '_ {
    name.iter()
        .map(|label| String::from_utf8_lossy(label).to_ascii_lowercase())
}
