//! Answers DNS queries for the zone from their bytes. Pure: the fate of a site is asked of the
//! caller.
//!
//! Queries of the plain shape are answered from their bytes; everything else goes through the
//! codec.

mod places;
mod plain;

use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::faults::FaultKind;
use crate::sites::ZONE;
use crate::world::SiteDns;
use places::{Place, apex, link_name, links_of, place_of};
use plain::PlainQuery;

/// Length of the header of a message.
const HEADER_BYTES: usize = 12;
/// Largest UDP payload that is offered by EDNS.
const PAYLOAD_BYTES: u16 = 1_232;
/// TTL of what is neither an address nor negative, in seconds.
const ZONE_TTL_S: u32 = 60;

/// All nodes of the link (RFC 4291 §2.7.1): an address, and none that a TCP connection can go to.
const NOWHERE: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// What the zone needs to know of its sites.
pub(crate) trait Zone {
    /// The site that a first label means.
    fn site(&self, label: &[u8]) -> Option<u32>;
    /// The address of a site.
    fn address(&self, site: u32) -> Ipv4Addr;
    /// The IPv6 address of a site, if it has one.
    fn address6(&self, site: u32) -> Option<Ipv6Addr>;
    /// What DNS says of a site now.
    fn dns(&self, site: u32) -> SiteDns;
    /// An address of the site is given out.
    fn given_out(&self, site: u32);
}

/// What to do with a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Send what was written; the response code is for the counters.
    Send(u8),
    /// The same, but only after so many ms.
    SendLater(u8, u32),
    /// Stay silent: a fault, or bytes that are no query.
    Drop,
}

/// What a query came over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// Writes the answer to `query` into `out`, which is cleared first.
pub(crate) fn answer(
    query: &[u8],
    transport: Transport,
    zone: &impl Zone,
    out: &mut Vec<u8>,
) -> Reply {
    out.clear();
    if let Some(plain) = PlainQuery::read(query, zone) {
        let dns = zone.dns(plain.site);
        if dns.fault.is_none() {
            plain.answer(query, zone.address(plain.site), dns.ttl_s, out);
            zone.given_out(plain.site);
            return Reply::Send(0);
        }
    }
    general(query, transport, zone, out)
}

/// Every other query, through the codec.
fn general(query: &[u8], transport: Transport, zone: &impl Zone, out: &mut Vec<u8>) -> Reply {
    let Ok(request) = Message::from_vec(query) else {
        return malformed(query, out);
    };
    if request.metadata.message_type != MessageType::Query {
        return Reply::Drop;
    }
    let mut response = Message::response(request.metadata.id, request.metadata.op_code);
    response.metadata.recursion_desired = request.metadata.recursion_desired;
    response.add_queries(request.queries.iter().cloned());
    if request.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(PAYLOAD_BYTES);
        response.set_edns(edns);
    }
    let mut fault = None;
    let code = match (request.metadata.op_code, &request.queries[..]) {
        (OpCode::Query, [question]) => {
            fault = fault_of(question, transport, zone);
            if fault == Some(FaultKind::DnsTimeout) {
                return Reply::Drop;
            }
            fill(question, fault, zone, &mut response)
        }
        (OpCode::Query, _) => ResponseCode::FormErr,
        _ => ResponseCode::NotImp,
    };
    response.metadata.response_code = code;
    let Ok(mut bytes) = response.to_vec() else {
        return malformed(query, out);
    };
    if fault == Some(FaultKind::DnsMalformed) {
        bytes.truncate(bytes.len() - 1);
    }
    out.extend_from_slice(&bytes);
    match fault {
        Some(FaultKind::DnsSlow(delay_ms)) => Reply::SendLater(code.low(), delay_ms),
        _ => Reply::Send(code.low()),
    }
}

/// What is broken of the site that `question` is for.
fn fault_of(question: &Query, transport: Transport, zone: &impl Zone) -> Option<FaultKind> {
    let (Place::Site(site) | Place::Alias(site, _)) = place_of(question, zone) else {
        return None;
    };
    // What does not fit over UDP fits over TCP.
    let fits = |fault: &FaultKind| *fault != FaultKind::DnsTruncated || transport == Transport::Udp;
    zone.dns(site).fault.filter(fits)
}

/// FORMERR for something that has at least the header of a query.
fn malformed(query: &[u8], out: &mut Vec<u8>) -> Reply {
    match query {
        [id_high, id_low, flags, _, ..] if query.len() >= HEADER_BYTES && flags & 0x80 == 0 => {
            out.extend_from_slice(&[*id_high, *id_low, 0x80 | (flags & 0x79), 1]);
            out.extend_from_slice(&[0; 8]);
            Reply::Send(1)
        }
        _ => Reply::Drop,
    }
}

/// Adds the records for `question`, as they are when `fault` breaks its site.
fn fill(
    question: &Query,
    fault: Option<FaultKind>,
    zone: &impl Zone,
    response: &mut Message,
) -> ResponseCode {
    let place = place_of(question, zone);
    response.metadata.authoritative = !matches!(place, Place::Elsewhere);
    match place {
        Place::Elsewhere => ResponseCode::Refused,
        Place::Apex => {
            let soa = soa(ZONE_TTL_S);
            match question.query_type {
                RecordType::SOA | RecordType::ANY => response.add_answer(soa),
                _ => response.add_authority(soa),
            };
            ResponseCode::NoError
        }
        Place::Nowhere => {
            response.add_authority(soa(ZONE_TTL_S));
            ResponseCode::NXDomain
        }
        Place::Alias(_, link) if link > links_of(fault) => {
            response.add_authority(soa(ZONE_TTL_S));
            ResponseCode::NXDomain
        }
        Place::Alias(site, link) => fill_site(question, (site, link), fault, zone, response),
        Place::Site(site) => fill_site(question, (site, 0), fault, zone, response),
    }
}

/// Of the name that is `link` links behind that of `site`.
fn fill_site(
    question: &Query,
    (site, link): (u32, u8),
    fault: Option<FaultKind>,
    zone: &impl Zone,
    response: &mut Message,
) -> ResponseCode {
    let dns = zone.dns(site);
    let negative = |response: &mut Message, code| {
        response.add_authority(soa(dns.negative_ttl_s));
        code
    };
    match fault {
        Some(FaultKind::DnsServfail) => return ResponseCode::ServFail,
        Some(FaultKind::DnsAServfail) if question.query_type == RecordType::A => {
            return ResponseCode::ServFail;
        }
        Some(FaultKind::DnsNxdomain) => return negative(response, ResponseCode::NXDomain),
        Some(FaultKind::DnsEmpty) => return negative(response, ResponseCode::NoError),
        Some(FaultKind::DnsCnameNxdomain) => {
            let target = Name::from_ascii(format!("gone.{ZONE}.")).expect("the name is valid");
            let alias = RData::CNAME(CNAME(target));
            response.add_answer(Record::from_rdata(question.name.clone(), dns.ttl_s, alias));
            // RFC 6604 §3: the code is that of the end of the chain.
            return negative(response, ResponseCode::NXDomain);
        }
        Some(FaultKind::DnsTruncated) => {
            response.metadata.truncation = true;
            return ResponseCode::NoError;
        }
        _ => {}
    }
    let mut name = question.name.clone();
    for link in link + 1..=links_of(fault) {
        let alias = link_name(site, link);
        let data = RData::CNAME(CNAME(alias.clone()));
        response.add_answer(Record::from_rdata(name, dns.ttl_s, data));
        name = alias;
    }
    let address6 = match fault {
        Some(FaultKind::DnsAServfail) => Some(NOWHERE),
        _ => zone.address6(site),
    };
    let address = match question.query_type {
        RecordType::A | RecordType::ANY => Some(RData::A(A(zone.address(site)))),
        RecordType::AAAA => address6.map(|address| RData::AAAA(AAAA(address))),
        _ => None,
    };
    let Some(address) = address else {
        return negative(response, ResponseCode::NoError);
    };
    response.add_answer(Record::from_rdata(name, dns.ttl_s, address));
    zone.given_out(site);
    ResponseCode::NoError
}

fn soa(minimum_s: u32) -> Record {
    let mname = Name::from_ascii(format!("ns.{ZONE}.")).expect("the name is valid");
    let rname = Name::from_ascii(format!("hostmaster.{ZONE}.")).expect("the name is valid");
    let data = SOA::new(mname, rname, 1, 3_600, 600, 86_400, minimum_s);
    // RFC 2308 §5: a negative answer lives for min(TTL of the SOA, its minimum).
    Record::from_rdata(apex(), minimum_s, RData::SOA(data))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use model::limits::DNS_CNAME_MAX;
    use proptest::prelude::*;

    use super::*;
    use crate::sites::Sites;

    struct TestZone {
        fault: Option<FaultKind>,
        address6: Option<Ipv6Addr>,
        given_out: Cell<u32>,
    }

    const SITES: Sites = Sites {
        count: 100,
        interval_s: 10,
        https_every: 0,
        addresses: 256,
    };

    impl Zone for TestZone {
        fn site(&self, label: &[u8]) -> Option<u32> {
            SITES.parse_label(label)
        }
        fn address(&self, site: u32) -> Ipv4Addr {
            SITES.address(site)
        }
        fn address6(&self, _site: u32) -> Option<Ipv6Addr> {
            self.address6
        }
        fn dns(&self, _site: u32) -> SiteDns {
            SiteDns {
                fault: self.fault,
                ttl_s: 3_600,
                negative_ttl_s: 5,
            }
        }
        fn given_out(&self, _site: u32) {
            self.given_out.set(self.given_out.get() + 1);
        }
    }

    fn zone(fault: Option<FaultKind>) -> TestZone {
        TestZone {
            fault,
            address6: None,
            given_out: Cell::new(0),
        }
    }

    fn query(name: &str, query_type: RecordType, edns: bool) -> Vec<u8> {
        let mut message = Message::new(0xbeef, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(
            Name::from_ascii(name).expect("a name"),
            query_type,
        ));
        if edns {
            let mut edns = Edns::new();
            edns.set_max_payload(1_400);
            message.set_edns(edns);
        }
        message.to_vec().expect("a query")
    }

    fn ask(name: &str, query_type: RecordType, fault: Option<FaultKind>) -> Option<Message> {
        let mut out = Vec::new();
        let query = query(name, query_type, true);
        match answer(&query, Transport::Udp, &zone(fault), &mut out) {
            Reply::Send(code) | Reply::SendLater(code, _) => {
                let message = Message::from_vec(&out).expect("a valid answer");
                assert_eq!(message.metadata.response_code.low(), code);
                assert_eq!(message.metadata.id, 0xbeef);
                assert_eq!(message.metadata.message_type, MessageType::Response);
                Some(message)
            }
            Reply::Drop => None,
        }
    }

    #[test]
    fn a_plain_query_is_answered_as_the_codec_would() {
        for (name, edns) in [
            ("s-0000042.farm.test.", false),
            ("S-0000042.fArM.TeSt.", true),
        ] {
            let query = query(name, RecordType::A, edns);
            let (mut fast, mut slow) = (Vec::new(), Vec::new());
            assert!(
                PlainQuery::read(&query, &zone(None)).is_some(),
                "{name} takes the fast path"
            );
            assert_eq!(
                answer(&query, Transport::Udp, &zone(None), &mut fast),
                Reply::Send(0)
            );
            assert_eq!(
                general(&query, Transport::Udp, &zone(None), &mut slow),
                Reply::Send(0)
            );
            let (fast_message, slow) = (
                Message::from_vec(&fast).expect("valid"),
                Message::from_vec(&slow).expect("valid"),
            );
            assert_eq!(fast_message, slow);
            assert!(
                fast.windows(9).any(|part| part == &name.as_bytes()[..9]),
                "0x20 is kept"
            );
        }
    }

    #[test]
    fn an_address_given_out_is_reported() {
        let zone = zone(None);
        let mut out = Vec::new();
        answer(
            &query("s-0000042.farm.test.", RecordType::A, false),
            Transport::Udp,
            &zone,
            &mut out,
        );
        assert_eq!(zone.given_out.get(), 1);
    }

    #[test]
    fn aaaa_is_empty_with_a_soa() {
        let message = ask("s-0000042.farm.test.", RecordType::AAAA, None).expect("an answer");
        assert_eq!(message.metadata.response_code, ResponseCode::NoError);
        assert!(message.answers.is_empty() && message.metadata.authoritative);
        let [soa] = &message.authorities[..] else {
            panic!("one SOA")
        };
        assert_eq!(soa.ttl, 5);
    }

    #[test]
    fn aaaa_is_the_address_of_ipv6_where_there_is_one() {
        let zone = TestZone {
            address6: Some(Ipv6Addr::LOCALHOST),
            ..zone(None)
        };
        let mut out = Vec::new();
        let query = query("s-0000042.farm.test.", RecordType::AAAA, true);
        assert_eq!(
            answer(&query, Transport::Udp, &zone, &mut out),
            Reply::Send(0)
        );
        let message = Message::from_vec(&out).expect("valid");
        let [record] = &message.answers[..] else {
            panic!("one record")
        };
        assert_eq!(record.ttl, 3_600);
        assert_eq!(record.data, RData::AAAA(AAAA(Ipv6Addr::LOCALHOST)));
        assert_eq!(zone.given_out.get(), 1);
    }

    #[test]
    fn a_chain_of_aliases_leads_to_the_address_from_each_of_its_names() {
        for (fault, links) in [
            (FaultKind::DnsCnameChain, DNS_CNAME_MAX),
            (FaultKind::DnsCnameLong, DNS_CNAME_MAX + 1),
        ] {
            let mut name = Name::from_ascii("s-0000042.farm.test.").expect("a name");
            for left in (0..=links).rev() {
                let text = name.to_ascii();
                let message = ask(&text, RecordType::A, Some(fault)).expect("an answer");
                assert_eq!(message.metadata.response_code, ResponseCode::NoError);
                let (last, aliases) = message.answers.split_last().expect("an address");
                assert_eq!(aliases.len(), left, "{text}");
                assert_eq!(last.data, RData::A(A(SITES.address(42))));
                let mut owner = name.clone();
                for alias in aliases {
                    assert_eq!(alias.name, owner);
                    let RData::CNAME(target) = &alias.data else {
                        panic!("an alias")
                    };
                    owner = target.0.clone();
                }
                assert_eq!(last.name, owner);
                if let Some(RData::CNAME(target)) = aliases.first().map(|alias| &alias.data) {
                    name = target.0.clone();
                }
            }
        }
        // Without the fault, and behind its end, the aliases are not there.
        for (name, fault) in [
            ("link-1.s-0000042.farm.test.", None),
            (
                "link-9.s-0000042.farm.test.",
                Some(FaultKind::DnsCnameChain),
            ),
            (
                "link-0.s-0000042.farm.test.",
                Some(FaultKind::DnsCnameChain),
            ),
            (
                "link-10.s-0000042.farm.test.",
                Some(FaultKind::DnsCnameLong),
            ),
        ] {
            let message = ask(name, RecordType::A, fault).expect("an answer");
            assert_eq!(
                message.metadata.response_code,
                ResponseCode::NXDomain,
                "{name}"
            );
        }
    }

    #[test]
    fn ipv4_fails_where_ipv6_has_an_address_of_nobody() {
        let answer = |kind| {
            ask("s-0000042.farm.test.", kind, Some(FaultKind::DnsAServfail)).expect("an answer")
        };
        let v4 = answer(RecordType::A);
        assert_eq!(v4.metadata.response_code, ResponseCode::ServFail);
        let v6 = answer(RecordType::AAAA);
        assert_eq!(v6.answers[0].data, RData::AAAA(AAAA(NOWHERE)));
    }

    #[test]
    fn names_outside_the_zone_are_refused_and_unknown_ones_do_not_exist() {
        let code = |name| {
            ask(name, RecordType::A, None)
                .expect("an answer")
                .metadata
                .response_code
        };
        assert_eq!(code("example.com."), ResponseCode::Refused);
        assert_eq!(code("test."), ResponseCode::Refused);
        assert_eq!(code("www.farm.test."), ResponseCode::NXDomain);
        assert_eq!(code("s-0000100.farm.test."), ResponseCode::NXDomain);
        assert_eq!(code("a.s-0000042.farm.test."), ResponseCode::NXDomain);
        assert_eq!(code("farm.test."), ResponseCode::NoError);
    }

    #[test]
    fn faults_are_seen_by_both_record_types() {
        for query_type in [RecordType::A, RecordType::AAAA] {
            let answer = |fault| ask("s-0000042.farm.test.", query_type, Some(fault));
            let nxdomain = answer(FaultKind::DnsNxdomain).expect("an answer");
            assert_eq!(nxdomain.metadata.response_code, ResponseCode::NXDomain);
            assert_eq!(nxdomain.authorities.len(), 1);
            let servfail = answer(FaultKind::DnsServfail).expect("an answer");
            assert_eq!(servfail.metadata.response_code, ResponseCode::ServFail);
            assert!(answer(FaultKind::DnsTimeout).is_none());
        }
    }

    #[test]
    fn an_alias_of_nothing_and_a_name_without_an_address() {
        let answer = |fault| ask("s-0000042.farm.test.", RecordType::A, Some(fault));
        let alias = answer(FaultKind::DnsCnameNxdomain).expect("an answer");
        assert_eq!(alias.metadata.response_code, ResponseCode::NXDomain);
        assert_eq!((alias.answers.len(), alias.authorities.len()), (1, 1));
        let RData::CNAME(target) = &alias.answers[0].data else {
            panic!("a CNAME")
        };
        let gone = ask(&target.0.to_ascii(), RecordType::A, None).expect("an answer");
        assert_eq!(gone.metadata.response_code, ResponseCode::NXDomain);
        let empty = answer(FaultKind::DnsEmpty).expect("an answer");
        assert_eq!(empty.metadata.response_code, ResponseCode::NoError);
        assert_eq!((empty.answers.len(), empty.authorities.len()), (0, 1));
    }

    #[test]
    fn what_is_cut_over_udp_is_whole_over_tcp() {
        let query = query("s-0000042.farm.test.", RecordType::A, true);
        let zone = zone(Some(FaultKind::DnsTruncated));
        for (transport, answers) in [(Transport::Udp, 0), (Transport::Tcp, 1)] {
            let mut out = Vec::new();
            assert_eq!(answer(&query, transport, &zone, &mut out), Reply::Send(0));
            let message = Message::from_vec(&out).expect("valid");
            let cut = transport == Transport::Udp;
            assert_eq!(
                (message.metadata.truncation, message.answers.len()),
                (cut, answers)
            );
        }
    }

    #[test]
    fn a_malformed_answer_keeps_its_id_and_does_not_parse() {
        for edns in [false, true] {
            let query = query("s-0000042.farm.test.", RecordType::A, edns);
            let zone = zone(Some(FaultKind::DnsMalformed));
            let mut out = Vec::new();
            assert_eq!(
                answer(&query, Transport::Udp, &zone, &mut out),
                Reply::Send(0)
            );
            assert_eq!(out[..2], query[..2]);
            assert!(Message::from_vec(&out).is_err());
        }
    }

    #[test]
    fn a_slow_answer_is_the_whole_answer_later() {
        let query = query("s-0000042.farm.test.", RecordType::A, true);
        let (mut slow, mut well) = (Vec::new(), Vec::new());
        let fault = zone(Some(FaultKind::DnsSlow(700)));
        let reply = answer(&query, Transport::Udp, &fault, &mut slow);
        assert_eq!(reply, Reply::SendLater(0, 700));
        answer(&query, Transport::Udp, &zone(None), &mut well);
        let whole = |bytes: &[u8]| Message::from_vec(bytes).expect("valid");
        assert_eq!(whole(&slow), whole(&well));
    }

    #[test]
    fn what_is_no_question_is_refused_by_its_code() {
        let mut out = Vec::new();
        let mut update = query("s-0000042.farm.test.", RecordType::A, false);
        update[2] |= 5 << 3;
        assert!(matches!(
            answer(&update, Transport::Udp, &zone(None), &mut out),
            Reply::Send(1 | 4)
        ));
        let mut response = query("s-0000042.farm.test.", RecordType::A, false);
        response[2] |= 0x80;
        let mut said = |bytes: &[u8]| answer(bytes, Transport::Udp, &zone(None), &mut out);
        assert_eq!(said(&response), Reply::Drop);
        let cut = &query("s-0000042.farm.test.", RecordType::A, false)[..20];
        assert_eq!(said(cut), Reply::Send(1));
        assert_eq!(said(b"short"), Reply::Drop);
    }

    proptest! {
        #[test]
        fn random_bytes_get_a_valid_answer_or_none(
            bytes in prop::collection::vec(any::<u8>(), 0..120)
        ) {
            let mut out = Vec::new();
            if let Reply::Send(_) = answer(&bytes, Transport::Udp, &zone(None), &mut out) {
                prop_assert_eq!(&out[..2], &bytes[..2]);
                prop_assert!(Message::from_vec(&out).is_ok());
            }
        }

        #[test]
        fn a_garbled_query_gets_a_valid_answer_or_none(
            at in 0..60_usize, with in any::<u8>(), edns in any::<bool>()
        ) {
            let mut bytes = query("s-0000042.farm.test.", RecordType::A, edns);
            let at = at % bytes.len();
            bytes[at] = with;
            let mut out = Vec::new();
            if let Reply::Send(_) = answer(&bytes, Transport::Udp, &zone(None), &mut out) {
                prop_assert!(Message::from_vec(&out).is_ok());
            }
        }
    }
}
