//! Whether the resolvers do what probing needs of them: answers to plain questions, EDNS, TCP.
//! It asks as a probe core does, and knows nothing of how the prober reads answers.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use super::Finding;
use crate::config::{Config, upstreams};

/// How long a resolver may take for each answer.
const LIMIT: Duration = Duration::from_secs(2);

/// A question for the address of the root (RFC 1035, section 4.1): id, recursion desired, one
/// question and so many other records; the root name, A, IN. It has none, which every resolver can
/// say.
const QUESTION: [u8; 17] = [0x52, 0x57, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1];
/// An OPT record of 1,232 bytes (RFC 6891, section 6.1.2).
const OPT: [u8; 11] = [0, 0, 41, 4, 0xd0, 0, 0, 0, 0, 0, 0];
/// Where a message says how many additional records it has.
const ADDITIONAL: usize = 11;

const NOERROR: u8 = 0;
const FORMERR: u8 = 1;
const NXDOMAIN: u8 = 3;
const NOTIMP: u8 = 4;

/// What each of the resolvers of `config` can do.
pub(super) fn resolvers(config: &Config) -> Vec<Finding> {
    let servers = match upstreams::find(&config.dns) {
        Ok(servers) => servers,
        Err(error) => {
            let advice = "give a resolver with --dns or the key dns";
            return vec![Finding::fail("dns", format!("{error:#}"), advice)];
        }
    };
    servers.into_iter().map(resolver).collect()
}

fn resolver(server: SocketAddr) -> Finding {
    let (code, edns) = match by_datagram(server) {
        Ok(answer) => answer,
        Err(error) => {
            let found = format!("{server} does not answer ({error})");
            return Finding::warn("dns", found, "check the address, or take it out of dns");
        }
    };
    if !is_answer(code) {
        let found = format!(
            "{server} does not resolve for this host: it says {}",
            said(code)
        );
        let advice = "let it answer recursive questions of this host, or take it out of dns";
        return Finding::warn("dns", found, advice);
    }
    let by_stream = ask_by_stream(server, &question(edns));
    let trouble = match by_stream {
        Ok(code) if is_answer(code) => None,
        Ok(code) => Some(format!("it says {}", said(code))),
        Err(error) => Some(error.to_string()),
    };
    if let Some(trouble) = trouble {
        let found = format!("{server} answers over UDP and not over TCP ({trouble})");
        let advice = "open TCP port 53 to it: names with long answers fail without";
        return Finding::warn("dns", found, advice);
    }
    let edns = if edns { "" } else { ", without EDNS" };
    Finding::ok("dns", format!("{server} answers{edns}"))
}

/// The code of its answer, and whether the question had EDNS: as a core does it, the second
/// question has none where the first one is not understood.
fn by_datagram(server: SocketAddr) -> Result<(u8, bool)> {
    let code = ask_by_datagram(server, &question(true))?;
    if [FORMERR, NOTIMP].contains(&code) {
        return Ok((ask_by_datagram(server, &question(false))?, false));
    }
    Ok((code, true))
}

fn question(edns: bool) -> Vec<u8> {
    let mut question = QUESTION.to_vec();
    if edns {
        question[ADDITIONAL] = 1;
        question.extend_from_slice(&OPT);
    }
    question
}

fn ask_by_datagram(server: SocketAddr, question: &[u8]) -> Result<u8> {
    let any: SocketAddr = if server.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(LIMIT))?;
    socket.connect(server)?;
    socket.send(question)?;
    let mut answer = [0; 1_500];
    let length = socket.recv(&mut answer).map_err(plainly)?;
    code(&answer[..length])
}

fn ask_by_stream(server: SocketAddr, question: &[u8]) -> Result<u8> {
    let mut stream = TcpStream::connect_timeout(&server, LIMIT).map_err(plainly)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    let length = question.len() as u16;
    stream.write_all(&[&length.to_be_bytes(), question].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length).map_err(plainly)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).map_err(plainly)?;
    code(&answer)
}

/// A time limit of a socket is over with "Resource temporarily unavailable".
fn plainly(error: Error) -> Error {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::other("nothing came in 2 s"),
        _ => error,
    }
}

/// The response code of the answer to our question.
fn code(answer: &[u8]) -> Result<u8> {
    let is_answer = answer.len() >= 12 && answer[..2] == QUESTION[..2] && answer[2] & 0x80 != 0;
    let code = is_answer.then(|| answer[3] & 0x0f);
    code.ok_or_else(|| Error::other("it answered something that is not DNS"))
}

fn is_answer(code: u8) -> bool {
    [NOERROR, NXDOMAIN].contains(&code)
}

fn said(code: u8) -> String {
    let name = match code {
        FORMERR => "FORMERR",
        2 => "SERVFAIL",
        NOTIMP => "NOTIMP",
        5 => "REFUSED",
        other => return format!("code {other}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    use super::*;
    use crate::doctor::Grade;

    const REFUSED: u8 = 5;

    /// How a scripted resolver answers.
    #[derive(Clone, Copy)]
    struct Says {
        with_edns: u8,
        without: u8,
        by_stream: bool,
    }

    const WELL: Says = Says {
        with_edns: NOERROR,
        without: NOERROR,
        by_stream: true,
    };

    fn answer(question: &[u8], says: Says) -> Vec<u8> {
        let mut answer = question.to_vec();
        let code = if question[ADDITIONAL] == 1 {
            says.with_edns
        } else {
            says.without
        };
        (answer[2], answer[3]) = (answer[2] | 0x80, code);
        answer
    }

    /// Answers so many datagrams, and one stream if it does so at all.
    fn serve(says: Says, datagrams: usize) -> (SocketAddr, JoinHandle<()>) {
        // The same port of UDP may be somebody else's.
        let bind = || {
            let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
            let address = listener.local_addr().expect("address");
            Some((UdpSocket::bind(address).ok()?, listener, address))
        };
        let mut bound = std::iter::repeat_with(bind).flatten();
        let (socket, listener, address) = bound.next().expect("it has no end");
        let serving = std::thread::spawn(move || {
            let mut question = [0; 512];
            for _ in 0..datagrams {
                let (length, from) = socket.recv_from(&mut question).expect("a question");
                let answer = answer(&question[..length], says);
                socket.send_to(&answer, from).expect("sent");
            }
            if says.by_stream {
                let (mut stream, _) = listener.accept().expect("a connection");
                let length = stream.read(&mut question).expect("a question");
                let answer = answer(&question[2..length], says);
                let length = answer.len() as u16;
                let framed = [&length.to_be_bytes()[..], &answer].concat();
                stream.write_all(&framed).expect("sent");
            }
        });
        (address, serving)
    }

    fn finding(says: Says, datagrams: usize) -> (Grade, String) {
        let (address, serving) = serve(says, datagrams);
        let finding = resolver(address);
        serving.join().expect("the server does not panic");
        (
            finding.grade,
            finding.found.replace(&address.to_string(), "it"),
        )
    }

    #[test]
    fn a_resolver_that_answers_is_well_with_edns_and_without() {
        assert_eq!(finding(WELL, 1), (Grade::Ok, "it answers".to_owned()));
        let old = Says {
            with_edns: FORMERR,
            ..WELL
        };
        let found = (Grade::Ok, "it answers, without EDNS".to_owned());
        assert_eq!(finding(old, 2), found);
    }

    #[test]
    fn a_resolver_that_refuses_or_fails_does_not_resolve_for_us() {
        for (code, datagrams, word) in [
            (REFUSED, 1, "REFUSED"),
            (2, 1, "SERVFAIL"),
            (NOTIMP, 2, "NOTIMP"),
            (9, 1, "code 9"),
        ] {
            let says = Says {
                with_edns: code,
                without: code,
                by_stream: false,
            };
            let (grade, found) = finding(says, datagrams);
            let wanted = format!("it does not resolve for this host: it says {word}");
            assert_eq!((grade, found), (Grade::Warn, wanted));
        }
    }

    #[test]
    fn a_resolver_without_tcp_is_a_warning() {
        let deaf = Says {
            by_stream: false,
            ..WELL
        };
        let (grade, found) = finding(deaf, 1);
        assert_eq!(grade, Grade::Warn);
        assert!(found.contains("not over TCP"), "{found}");
    }

    #[test]
    fn what_is_no_answer_is_not_taken_for_one() {
        let question = question(true);
        assert!(code(&question).is_err(), "the question itself");
        let mut other = answer(&question, WELL);
        other[0] ^= 1;
        assert!(code(&other).is_err() && code(&other[..11]).is_err());
    }
}
