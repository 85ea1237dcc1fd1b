//! Queries to bytes and bytes to replies, on hickory-proto.
//!
//! Everything that comes from outside is judged here: whose answer it is, whether it can be read,
//! and what it says of the name. It knows neither sockets nor time.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{self, DNSClass, Name, RData, Record};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder};
use model::limits::{
    DNS_ADDRESSES_MAX, DNS_CNAME_MAX, DNS_EDNS_BYTES, DNS_NEGATIVE_TTL_MAX_MS,
    DNS_NEGATIVE_TTL_MIN_MS, DNS_TTL_MAX_MS, DNS_TTL_MIN_MS,
};
use model::record::{RecordType, RecordValue};

use super::answer::Addresses;
use super::case::{Case, NAME_MAX_BYTES};
use super::rdata;

/// Bytes of a DNS header.
const HEADER_BYTES: usize = 12;

/// What is asked of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// A records.
    V4,
    /// AAAA records.
    V6,
    /// Records of this type, whatever they say.
    Records(RecordType),
}

/// What a datagram with the id of our query says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// The name has addresses, at least one.
    Addresses { addresses: Addresses, ttl_ms: u64 },
    /// The name has records of the type that was asked for, at least one.
    Records(Vec<RecordValue>),
    /// The name exists, without an address of this family.
    Empty { ttl_ms: u64 },
    /// NXDOMAIN.
    NoSuchName { ttl_ms: u64 },
    /// The upstream failed or refused.
    Failed { rcode: u16 },
    /// Cut short (TC): what is there must not be used (RFC 2181 §9).
    Truncated,
    /// It cannot be read or followed.
    Malformed,
}

impl Reply {
    /// Whether the name exists.
    pub(super) fn knows_name(&self) -> bool {
        matches!(
            self,
            Self::Addresses { .. } | Self::Records(_) | Self::Empty { .. }
        )
    }
}

/// What a message says to our question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) reply: Reply,
    /// It repeats the question in the case in which we wrote it, or repeats none.
    pub(super) spelled: bool,
}

impl Said {
    fn unseen(reply: Reply) -> Self {
        Self {
            reply,
            spelled: true,
        }
    }
}

/// Whether `name` can stand in a query: labels of 1 to 63 bytes, 253 in all.
pub(super) fn is_askable(name: &str) -> bool {
    name.len() <= NAME_MAX_BYTES && name.split('.').all(|label| (1..=63).contains(&label.len()))
}

/// The id of a message.
pub(super) fn id_of(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?]))
}

/// How a query is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Style {
    pub(super) case: Case,
    /// With an OPT record (RFC 6891).
    pub(super) edns: bool,
}

/// Writes a query for an askable `name` into the empty `out`.
pub(super) fn encode(name: &str, style: Style, family: Family, id: u16, out: &mut Vec<u8>) {
    const INVARIANT: &str = "an askable name encodes";
    let mut place = [0; NAME_MAX_BYTES];
    let labels = style
        .case
        .spell(name, &mut place)
        .split(|byte| *byte == b'.');
    let name = Name::from_labels(labels).expect(INVARIANT);
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, family.record_type()));
    if style.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(DNS_EDNS_BYTES).set_version(0);
        message.set_edns(edns);
    }
    message.emit(&mut BinEncoder::new(out)).expect(INVARIANT);
}

/// Reads the answer to our question; `None` when it answers another one, or is no answer at all.
pub(super) fn read(bytes: &[u8], name: &str, case: Case, family: Family) -> Option<Said> {
    let header = Header::of(bytes)?;
    if header.questions > 1 {
        // Refused before decoding: the decoder makes room for as many as the header claims.
        return Some(Said::unseen(Reply::Malformed));
    }
    let Ok(message) = Message::from_vec(bytes) else {
        let reply = if header.truncated {
            Reply::Truncated
        } else {
            Reply::Malformed
        };
        return Some(Said::unseen(reply));
    };
    let rcode = message.metadata.response_code;
    let Some(question) = message.queries.first() else {
        // Servers that could not read the query, or did not want to, may leave it out.
        let failed = rcode == ResponseCode::ServFail || is_refusal(rcode.into());
        let rcode = rcode.into();
        return failed.then(|| Said::unseen(Reply::Failed { rcode }));
    };
    let ours = question.query_type() == family.record_type()
        && question.query_class() == DNSClass::IN
        && is_named(
            question.name(),
            name.as_bytes(),
            <[u8]>::eq_ignore_ascii_case,
        );
    ours.then(|| Said {
        reply: judge(&message, question.name(), family),
        spelled: is_spelled(question.name(), name, case),
    })
}

/// What can be told without decoding.
struct Header {
    questions: u16,
    truncated: bool,
}

impl Header {
    /// `None` unless it is a response to a standard query.
    fn of(bytes: &[u8]) -> Option<Self> {
        let header = bytes.get(..HEADER_BYTES)?;
        let is_response = header[2] & 0x80 != 0 && header[2] & 0x78 == 0;
        is_response.then(|| Self {
            questions: u16::from_be_bytes([header[4], header[5]]),
            truncated: header[2] & 0x02 != 0,
        })
    }
}

impl Family {
    fn record_type(self) -> rr::RecordType {
        match self {
            Self::V4 => rr::RecordType::A,
            Self::V6 => rr::RecordType::AAAA,
            Self::Records(kind) => rr::RecordType::from(kind.number()),
        }
    }
}

/// Whether an upstream with this answer says nothing of the name: it did not understand the
/// question, cannot answer it or does not want to.
pub(super) fn is_refusal(rcode: u16) -> bool {
    use ResponseCode as R;
    let codes = [R::FormErr, R::NotImp, R::Refused];
    codes.into_iter().any(|code| rcode == code.into())
}

/// Whether it may be the OPT record that the upstream does not understand (RFC 6891, section 7).
pub(super) fn may_mean_edns(rcode: u16) -> bool {
    use ResponseCode as R;
    let codes = [R::FormErr, R::NotImp];
    codes.into_iter().any(|code| rcode == code.into())
}

/// Whether the labels of `name` are those of the dotted `text`.
fn is_named(name: &Name, text: &[u8], is_same: impl Fn(&[u8], &[u8]) -> bool) -> bool {
    let mut labels = text.split(|byte| *byte == b'.');
    name.iter()
        .all(|label| labels.next().is_some_and(|other| is_same(label, other)))
        && labels.next().is_none()
}

fn is_spelled(asked: &Name, name: &str, case: Case) -> bool {
    let mut place = [0; NAME_MAX_BYTES];
    case == Case::Lower || is_named(asked, case.spell(name, &mut place), |a, b| a == b)
}

fn judge(message: &Message, asked: &Name, family: Family) -> Reply {
    match message.metadata.response_code {
        ResponseCode::NXDomain => Reply::NoSuchName {
            ttl_ms: negative_ttl_ms(message),
        },
        ResponseCode::NoError if message.metadata.truncation => Reply::Truncated,
        ResponseCode::NoError => follow(message, asked, family),
        rcode => Reply::Failed {
            rcode: rcode.into(),
        },
    }
}

/// Follows the CNAMEs inside the answer, at most eight, to the addresses.
fn follow(message: &Message, asked: &Name, family: Family) -> Reply {
    let (mut owner, mut chain_s) = (asked, u32::MAX);
    for _ in 0..=DNS_CNAME_MAX {
        let records = message
            .answers
            .iter()
            .filter(|record| record.dns_class == DNSClass::IN && record.name.eq_ignore_root(owner));
        if let Family::Records(kind) = family {
            let values = records
                .clone()
                .filter_map(|record| rdata::value(record, kind));
            let values: Vec<RecordValue> = values.collect();
            if !values.is_empty() {
                return Reply::Records(values);
            }
        }
        let found = records
            .clone()
            .filter_map(|record| Some((address(record, family)?, record)));
        if let Some(least_s) = found.clone().map(|(_, record)| record.ttl).min() {
            let ttl_ms = u64::from(least_s.min(chain_s)) * 1_000;
            let found = found.map(|(address, _)| address);
            let from = first_place(found.clone().count(), message.metadata.id);
            return Reply::Addresses {
                addresses: found.clone().skip(from).chain(found.take(from)).collect(),
                ttl_ms: ttl_ms.clamp(DNS_TTL_MIN_MS, DNS_TTL_MAX_MS),
            };
        }
        let Some((target, ttl)) = records.clone().find_map(cname) else {
            return Reply::Empty {
                ttl_ms: negative_ttl_ms(message),
            };
        };
        (owner, chain_s) = (target, chain_s.min(ttl));
    }
    Reply::Malformed
}

/// With which of so many addresses the list begins: of more than there is room for, each answer
/// gives others, by the random id of its query.
fn first_place(addresses: usize, id: u16) -> usize {
    if addresses > DNS_ADDRESSES_MAX {
        usize::from(id) % addresses
    } else {
        0
    }
}

fn address(record: &Record, family: Family) -> Option<IpAddr> {
    match (&record.data, family) {
        (RData::A(a), Family::V4) => Some(IpAddr::V4(a.0)),
        (RData::AAAA(aaaa), Family::V6) => Some(IpAddr::V6(aaaa.0)),
        _ => None,
    }
}

fn cname(record: &Record) -> Option<(&Name, u32)> {
    match &record.data {
        RData::CNAME(target) => Some((&target.0, record.ttl)),
        _ => None,
    }
}

/// RFC 2308 §5: the lesser of the SOA's TTL and its minimum, clamped; without a SOA, the shortest.
fn negative_ttl_ms(message: &Message) -> u64 {
    let soa = message
        .authorities
        .iter()
        .find_map(|record| match &record.data {
            RData::SOA(soa) => Some(soa.minimum.min(record.ttl)),
            _ => None,
        });
    (u64::from(soa.unwrap_or(0)) * 1_000).clamp(DNS_NEGATIVE_TTL_MIN_MS, DNS_NEGATIVE_TTL_MAX_MS)
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::rdata::{A, AAAA, CNAME, SOA};
    use proptest::prelude::*;

    use super::*;

    const NAME: &str = "www.example.test";

    fn name(text: &str) -> Name {
        Name::from_labels(text.split('.').map(str::as_bytes)).expect("a valid name")
    }

    fn answer(records: Vec<(&str, u32, RData)>) -> Message {
        let mut message = Message::response(7, OpCode::Query);
        message.add_query(Query::query(name(NAME), rr::RecordType::A));
        let records = records
            .into_iter()
            .map(|(owner, ttl, data)| Record::from_rdata(name(owner), ttl, data));
        message.add_answers(records);
        message
    }

    fn reply(message: &Message) -> Option<Reply> {
        read_v4(&message.to_vec().expect("it encodes"), NAME)
    }

    fn read_v4(bytes: &[u8], name: &str) -> Option<Reply> {
        read(bytes, name, Case::Lower, Family::V4).map(|said| said.reply)
    }

    fn a(last: u8) -> RData {
        RData::A(A::new(192, 0, 2, last))
    }

    fn style(case: Case) -> Style {
        Style { case, edns: true }
    }

    fn alias(n: usize) -> String {
        if n == 0 {
            NAME.to_owned()
        } else {
            format!("c{n}.example.test")
        }
    }

    /// `links` CNAMEs and one address behind them.
    fn chain(links: usize) -> Message {
        let mut message = answer(vec![]);
        for n in 0..links {
            let target = RData::CNAME(CNAME(name(&alias(n + 1))));
            message.add_answer(Record::from_rdata(name(&alias(n)), 100, target));
        }
        message.add_answer(Record::from_rdata(name(&alias(links)), 200, a(1)));
        message
    }

    fn one(ttl_ms: u64) -> Reply {
        let addresses = std::iter::once(IpAddr::from([192, 0, 2, 1])).collect();
        Reply::Addresses { addresses, ttl_ms }
    }

    #[test]
    fn a_query_asks_for_the_name_with_recursion_and_edns() {
        let mut bytes = Vec::new();
        encode(NAME, style(Case::Lower), Family::V6, 0x1234, &mut bytes);
        let message = Message::from_vec(&bytes).expect("it decodes");
        assert_eq!(id_of(&bytes), Some(0x1234));
        assert!(message.metadata.recursion_desired);
        assert_eq!(
            message.queries,
            vec![Query::query(name(NAME), rr::RecordType::AAAA)]
        );
        assert_eq!(message.max_payload(), 1_232);
        let plain = Style {
            case: Case::Lower,
            edns: false,
        };
        let mut bytes = Vec::new();
        encode(NAME, plain, Family::V6, 0x1234, &mut bytes);
        let message = Message::from_vec(&bytes).expect("it decodes");
        assert_eq!(message.edns, None);
    }

    #[test]
    fn ttls_are_clamped_to_half_a_minute_and_an_hour() {
        for (ttl, ms) in [(0, 30_000), (31, 31_000), (u32::MAX, 3_600_000)] {
            assert_eq!(reply(&answer(vec![(NAME, ttl, a(1))])), Some(one(ms)));
        }
    }

    #[test]
    fn eight_cnames_are_followed_and_the_ninth_is_too_many() {
        assert_eq!(
            reply(&chain(8)),
            Some(one(100_000)),
            "the least TTL of the chain holds"
        );
        assert_eq!(reply(&chain(9)), Some(Reply::Malformed));
        let to_itself = RData::CNAME(CNAME(name(NAME)));
        assert_eq!(
            reply(&answer(vec![(NAME, 60, to_itself)])),
            Some(Reply::Malformed)
        );
    }

    #[test]
    fn an_address_of_another_name_or_family_is_not_ours() {
        let empty = Some(Reply::Empty { ttl_ms: 5_000 });
        assert_eq!(
            reply(&answer(vec![("other.example.test", 60, a(1))])),
            empty
        );
        let v6 = RData::AAAA(AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
        assert_eq!(reply(&answer(vec![(NAME, 60, v6)])), empty);
    }

    #[test]
    fn the_soa_says_how_long_a_failure_is_remembered() {
        for (ttl, minimum, ms) in [(1, 60, 5_000), (60, 20, 20_000), (900, 900, 60_000)] {
            let mut message = answer(vec![]);
            message.metadata.response_code = ResponseCode::NXDomain;
            let soa = SOA::new(name("ns.test"), name("admin.test"), 1, 1, 1, 1, minimum);
            message.add_authority(Record::from_rdata(
                name("example.test"),
                ttl,
                RData::SOA(soa),
            ));
            assert_eq!(reply(&message), Some(Reply::NoSuchName { ttl_ms: ms }));
        }
    }

    #[test]
    fn what_is_not_an_answer_to_our_question_is_not_ours() {
        let good = answer(vec![(NAME, 60, a(1))]);
        let bytes = good.to_vec().expect("it encodes");
        assert_eq!(read_v4(&bytes, "www.example.tess"), None);
        assert_eq!(read_v4(&bytes, "example.test"), None);
        assert_eq!(read_v4(&bytes, "x.www.example.test"), None);
        assert_eq!(read(&bytes, NAME, Case::Lower, Family::V6), None);
        assert!(read_v4(&bytes, "www.example.TEST").is_some());
        let mut query = good.clone();
        query.metadata.message_type = MessageType::Query;
        assert_eq!(reply(&query), None);
        assert_eq!(read_v4(&bytes[..11], NAME), None);
    }

    #[test]
    fn refusals_truncation_and_noise_are_told_apart() {
        let mut refused = answer(vec![]);
        refused.metadata.response_code = ResponseCode::Refused;
        assert_eq!(reply(&refused), Some(Reply::Failed { rcode: 5 }));
        refused.queries.clear();
        assert_eq!(
            reply(&refused),
            Some(Reply::Failed { rcode: 5 }),
            "without the question"
        );
        let mut cut = answer(vec![(NAME, 60, a(1))]);
        cut.metadata.truncation = true;
        assert_eq!(reply(&cut), Some(Reply::Truncated));
        let mut bytes = answer(vec![(NAME, 60, a(1))]).to_vec().expect("it encodes");
        bytes.truncate(bytes.len() - 1);
        assert_eq!(read_v4(&bytes, NAME), Some(Reply::Malformed));
        bytes[4..6].copy_from_slice(&u16::MAX.to_be_bytes());
        assert_eq!(read_v4(&bytes, NAME), Some(Reply::Malformed));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = (id_of(&bytes), read_v4(&bytes, NAME));
        }

        #[test]
        fn damaged_answers_never_panic_and_never_give_more_than_eight_addresses(
            links in 0usize..12,
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = chain(links).to_vec().expect("it encodes");
            for (at, value) in damage {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            bytes.truncate(cut.index(bytes.len() + 1));
            if let Some(Reply::Addresses { addresses, ttl_ms }) = read_v4(&bytes, NAME) {
                prop_assert!((1..=8).contains(&addresses.len()));
                prop_assert!((DNS_TTL_MIN_MS..=DNS_TTL_MAX_MS).contains(&ttl_ms));
            }
        }

        #[test]
        fn every_askable_name_encodes_and_only_its_own_spelling_is_ours(
            name in "[a-z0-9_-]{0,70}(\\.[a-z0-9]{0,64}){0,6}",
            seed in any::<u64>(),
        ) {
            let case = Case::Random(seed);
            if is_askable(&name) {
                let mut bytes = Vec::new();
                encode(&name, style(case), Family::V4, 1, &mut bytes);
                let message = Message::from_vec(&bytes).expect("it decodes");
                let asked = message.queries[0].name();
                prop_assert!(is_named(asked, name.as_bytes(), <[u8]>::eq_ignore_ascii_case));
                prop_assert!(is_spelled(asked, &name, case));
                let lower = asked.to_lowercase();
                let differs = !asked.eq_ignore_root_case(&lower);
                prop_assert_eq!(is_spelled(&lower, &name, case), !differs);
            }
        }
    }
}
