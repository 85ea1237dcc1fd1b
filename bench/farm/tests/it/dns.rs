//! DNS over UDP and TCP.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, TcpStream, UdpSocket};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::AAAA;
use hickory_proto::rr::{Name, RData, RecordType};

use crate::running::{ANSWER, Farm, PATIENCE, fault, request, shells};

fn query(name: &str, query_type: RecordType) -> Vec<u8> {
    let mut message = Message::new(77, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(
        Name::from_ascii(name).expect("a name"),
        query_type,
    ));
    message.to_vec().expect("a query")
}

fn socket(farm: &Farm, patience: Duration) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    socket.connect(farm.address("dns")).expect("connected");
    socket.set_read_timeout(Some(patience)).expect("a timeout");
    socket
}

fn next(socket: &UdpSocket) -> Option<Message> {
    let mut answer = [0; 1_500];
    let length = socket.recv(&mut answer).ok()?;
    Some(Message::from_vec(&answer[..length]).expect("a message"))
}

/// The answer to a question that must have one.
fn ask(farm: &Farm, name: &str, query_type: RecordType) -> Message {
    let socket = socket(farm, ANSWER);
    socket.send(&query(name, query_type)).expect("sent");
    next(&socket).expect("an answer")
}

/// Whether the question has no answer.
fn is_silent(farm: &Farm, name: &str) -> bool {
    let socket = socket(farm, PATIENCE);
    socket.send(&query(name, RecordType::A)).expect("sent");
    next(&socket).is_none()
}

fn code(message: &Message) -> ResponseCode {
    message.metadata.response_code
}

#[test]
fn a_site_has_its_own_loopback_address_and_the_ttl_that_was_asked_for() {
    for shell in shells() {
        let farm = Farm::start(shell, "", &["--dns-ttl-s", "120", "--addresses", "50"]);
        let address = |site: u32| {
            let name = format!("s-{site:07}.farm.test.");
            let answer = ask(&farm, &name, RecordType::A);
            let [record] = &answer.answers[..] else {
                panic!("one record")
            };
            assert_eq!(record.ttl, 120);
            match record.data {
                RData::A(address) => address.0,
                _ => panic!("an address"),
            }
        };
        assert_eq!(address(0), Ipv4Addr::new(127, 1, 0, 0));
        assert_eq!(address(49), Ipv4Addr::new(127, 1, 0, 49));
        assert_eq!(address(50), address(0));
    }
}

#[test]
fn what_is_not_there_is_said_so() {
    for shell in shells() {
        let farm = Farm::start(shell, "", &[]);
        let aaaa = ask(&farm, "s-0000001.farm.test.", RecordType::AAAA);
        assert_eq!(
            (code(&aaaa), aaaa.answers.len()),
            (ResponseCode::NoError, 0)
        );
        assert_eq!(aaaa.authorities.len(), 1);
        let foreign = ask(&farm, "example.com.", RecordType::A);
        assert_eq!(code(&foreign), ResponseCode::Refused);
        let absent = ask(&farm, "s-0000100.farm.test.", RecordType::A);
        assert_eq!(code(&absent), ResponseCode::NXDomain);
    }
}

#[test]
fn every_dns_fault_is_seen() {
    let scenario = fault("kind = 'dns_nxdomain', first_site = 1")
        + &fault("kind = 'dns_servfail', first_site = 2")
        + &fault("kind = 'dns_timeout', first_site = 3");
    for shell in shells() {
        let farm = Farm::start(shell, &scenario, &[]);
        let before = ask(&farm, "s-0000001.farm.test.", RecordType::A);
        assert_eq!(
            (code(&before), before.answers[0].ttl),
            (ResponseCode::NoError, 5)
        );
        assert_eq!(farm.control("POST", "/scenario/start").0, 200);
        let nxdomain = ask(&farm, "s-0000001.farm.test.", RecordType::A);
        assert_eq!(code(&nxdomain), ResponseCode::NXDomain);
        assert_eq!(nxdomain.authorities[0].ttl, 5);
        let servfail = ask(&farm, "s-0000002.farm.test.", RecordType::A);
        assert_eq!(code(&servfail), ResponseCode::ServFail);
        assert!(is_silent(&farm, "s-0000003.farm.test."));
        let well = ask(&farm, "s-0000004.farm.test.", RecordType::A);
        assert_eq!(code(&well), ResponseCode::NoError);
    }
}

#[test]
fn a_name_server_that_is_silenced_answers_nobody_until_it_may_again_and_tells_no_fault() {
    for shell in shells() {
        let farm = Farm::start(shell, "", &[]);
        assert_eq!(farm.control("POST", "/dns/silence").0, 204);
        assert!(is_silent(&farm, "s-0000001.farm.test."));
        assert_eq!(farm.control("POST", "/dns/answer").0, 204);
        let again = ask(&farm, "s-0000001.farm.test.", RecordType::A);
        assert_eq!(code(&again), ResponseCode::NoError);
        assert_eq!(farm.control("GET", "/truth"), (200, String::new()));
    }
}

#[test]
fn answers_are_empty_cut_slow_and_malformed_as_promised() {
    let scenario = fault("kind = 'dns_empty', first_site = 1")
        + &fault("kind = 'dns_cname_nxdomain', first_site = 2")
        + &fault("kind = 'dns_truncated', first_site = 3")
        + &fault("kind = 'dns_slow', delay_ms = 3000, first_site = 4")
        + &fault("kind = 'dns_malformed', first_site = 5");
    for shell in shells() {
        let farm = Farm::with(shell, &scenario);
        let of = |site: u32| ask(&farm, &format!("s-{site:07}.farm.test."), RecordType::A);
        let empty = of(1);
        assert_eq!(
            (code(&empty), empty.answers.len()),
            (ResponseCode::NoError, 0)
        );
        let alias = of(2);
        assert_eq!(
            (code(&alias), alias.answers.len()),
            (ResponseCode::NXDomain, 1)
        );
        let cut = of(3);
        assert!(cut.metadata.truncation && cut.answers.is_empty());

        // The slow one is overtaken by one that was asked later.
        let socket = socket(&farm, ANSWER);
        for site in [4, 6] {
            let name = format!("s-{site:07}.farm.test.");
            socket.send(&query(&name, RecordType::A)).expect("sent");
        }
        let names = [(); 2].map(|()| {
            let answer = next(&socket).expect("an answer");
            answer.queries[0].name().to_ascii()
        });
        assert_eq!(names, ["s-0000006.farm.test.", "s-0000004.farm.test."]);
        let malformed = query("s-0000005.farm.test.", RecordType::A);
        socket.send(&malformed).expect("sent");
        let mut answer = [0; 1_500];
        let length = socket.recv(&mut answer).expect("an answer");
        assert_eq!(answer[..2], malformed[..2]);
        assert!(Message::from_vec(&answer[..length]).is_err());
    }
}

#[test]
fn tcp_answers_several_queries_in_any_pieces() {
    let scenario = fault("kind = 'dns_timeout', first_site = 3");
    for shell in shells() {
        let farm = Farm::with(shell, &scenario);
        let mut stream = TcpStream::connect(farm.address("dns")).expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        let mut bytes = Vec::new();
        for name in [
            "s-0000001.farm.test.",
            "s-0000003.farm.test.",
            "nobody.farm.test.",
        ] {
            let query = query(name, RecordType::A);
            bytes.extend_from_slice(&u16::try_from(query.len()).expect("short").to_be_bytes());
            bytes.extend_from_slice(&query);
        }
        for piece in bytes.chunks(7) {
            stream.write_all(piece).expect("sent");
        }
        let mut codes = Vec::new();
        for _ in 0..2 {
            let mut length = [0; 2];
            stream.read_exact(&mut length).expect("a length");
            let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut answer).expect("an answer");
            codes.push(code(&Message::from_vec(&answer).expect("a message")));
        }
        assert_eq!(codes, [ResponseCode::NoError, ResponseCode::NXDomain]);
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let nothing = stream.read(&mut [0; 1]).expect_err("site 3 is silent");
        assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
    }
}

#[test]
fn aliases_lead_to_the_address_and_ipv4_alone_can_fail() {
    let scenario = fault("kind = 'dns_cname_chain', first_site = 1")
        + &fault("kind = 'dns_cname_long', first_site = 2")
        + &fault("kind = 'dns_a_servfail', first_site = 3");
    for shell in shells() {
        let farm = Farm::with(shell, &scenario);
        let of = |site: u32, kind| ask(&farm, &format!("s-{site:07}.farm.test."), kind);
        let records = [1, 2].map(|site| of(site, RecordType::A).answers.len());
        assert_eq!(records, [9, 10], "eight aliases, and one too many");
        let link = ask(&farm, "link-8.s-0000001.farm.test.", RecordType::A);
        assert!(matches!(link.answers[..], [ref it] if matches!(it.data, RData::A(_))));
        assert_eq!(code(&of(3, RecordType::A)), ResponseCode::ServFail);
        let v6 = of(3, RecordType::AAAA);
        assert!(matches!(v6.answers[..], [ref it] if matches!(it.data, RData::AAAA(_))));
    }
}

#[test]
fn aaaa_is_loopback_where_the_farm_serves_it() {
    if std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        eprintln!("this machine has no IPv6: it is not tested");
        return;
    }
    let gated = fault("kind = 'refuse', first_site = 2");
    for shell in shells() {
        let farm = Farm::start(shell, &gated, &["--ipv6"]);
        let of = |site: u32| {
            let name = format!("s-{site:07}.farm.test.");
            ask(&farm, &name, RecordType::AAAA)
        };
        let [record] = &of(1).answers[..] else {
            panic!("one record")
        };
        assert_eq!(record.data, RData::AAAA(AAAA(Ipv6Addr::LOCALHOST)));
        assert!(of(2).answers.is_empty(), "its port is on IPv4 alone");
        let address = (Ipv6Addr::LOCALHOST, farm.port("http_port"));
        let mut stream = TcpStream::connect(address).expect("it listens there");
        stream
            .write_all(request("GET", 1).as_bytes())
            .expect("sent");
        let mut page = String::new();
        stream.read_to_string(&mut page).expect("a page");
        assert!(page.starts_with("HTTP/1.1 200 OK"), "{page}");
    }
}
