//! Parses a request head as far as the farm needs it: method and site. Pure; any split of the
//! input ends in the same answer.

use crate::broken::HOP_PATH;
use crate::scenario::Method;
use crate::sites::Sites;

/// Longest request head that is read, in bytes.
pub(crate) const HEAD_MAX_BYTES: usize = 64 * 1024;
/// Most header fields of a request.
const HEADERS_MAX: usize = 64;

/// What the bytes so far are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// The head is not complete.
    Partial,
    /// A request that the farm can answer; `hop` is where a chain of redirects has led, 0 at its
    /// beginning.
    Request { method: Method, site: u32, hop: u8 },
    /// A request for a host that is no site of this farm.
    UnknownHost(Method),
    /// A request with a method that the farm does not serve.
    BadMethod,
    /// No HTTP/1.x request.
    Malformed,
}

/// Reads the head in `bytes`.
pub(crate) fn parse(bytes: &[u8], sites: &Sites) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Err(_) => return Parsed::Malformed,
        Ok(httparse::Status::Partial) if bytes.len() >= HEAD_MAX_BYTES => {
            return Parsed::Malformed;
        }
        Ok(httparse::Status::Partial) => return Parsed::Partial,
        Ok(httparse::Status::Complete(_)) => {}
    }
    let method = match request.method {
        Some("GET") => Method::Get,
        Some("HEAD") => Method::Head,
        _ => return Parsed::BadMethod,
    };
    let mut hosts = request.headers.iter().filter(|field| is_host(field.name));
    // RFC 9112 §3.2: a request without a Host field, or with two, is answered with 400.
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Parsed::Malformed;
    };
    match sites.parse_host(host.value) {
        Some(site) => Parsed::Request {
            method,
            site,
            hop: hop(request.path.unwrap_or_default()),
        },
        None => Parsed::UnknownHost(method),
    }
}

/// The number behind [`HOP_PATH`]; every other path is the beginning.
fn hop(path: &str) -> u8 {
    let number = path.strip_prefix(HOP_PATH);
    number.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

fn is_host(name: &str) -> bool {
    name.eq_ignore_ascii_case("host")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SITES: Sites = Sites {
        count: 1_000,
        interval_s: 10,
        https_every: 0,
        addresses: 256,
    };

    const GET: &[u8] =
        b"GET /a?b HTTP/1.1\r\nUser-Agent: x\r\nhOsT: s-0000007.farm.test:81\r\n\r\n";

    #[test]
    fn a_request_names_its_site() {
        assert_eq!(
            parse(GET, &SITES),
            Parsed::Request {
                method: Method::Get,
                site: 7,
                hop: 0
            }
        );
        let head = b"HEAD / HTTP/1.1\r\nHost: s-0000999.farm.test\r\n\r\n";
        assert_eq!(
            parse(head, &SITES),
            Parsed::Request {
                method: Method::Head,
                site: 999,
                hop: 0
            }
        );
    }

    #[test]
    fn a_path_says_how_far_a_chain_of_redirects_has_led() {
        for (path, expected) in [("/", 0), ("/hop/1", 1), ("/hop/15", 15), ("/hop/x", 0)] {
            let head = format!("GET {path} HTTP/1.1\r\nHost: s-0000001.farm.test\r\n\r\n");
            let parsed = parse(head.as_bytes(), &SITES);
            assert!(
                matches!(parsed, Parsed::Request { hop, .. } if hop == expected),
                "{path}: {parsed:?}"
            );
        }
    }

    #[test]
    fn what_is_no_request_is_told_apart() {
        let cases: [(&[u8], Parsed); 7] = [
            (
                b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
                Parsed::UnknownHost(Method::Get),
            ),
            (
                b"GET / HTTP/1.1\r\nHost: s-0001000.farm.test\r\n\r\n",
                Parsed::UnknownHost(Method::Get),
            ),
            (
                b"POST / HTTP/1.1\r\nHost: s-0000001.farm.test\r\n\r\n",
                Parsed::BadMethod,
            ),
            (b"GET / HTTP/1.1\r\n\r\n", Parsed::Malformed),
            (
                b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
                Parsed::Malformed,
            ),
            (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", Parsed::Malformed),
            (b"\x16\x03\x01\x02", Parsed::Malformed),
        ];
        for (bytes, expected) in cases {
            assert_eq!(parse(bytes, &SITES), expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn an_endless_head_is_refused_at_the_limit() {
        let mut bytes = b"GET / HTTP/1.1\r\nX: ".to_vec();
        bytes.resize(HEAD_MAX_BYTES - 1, b'a');
        assert_eq!(parse(&bytes, &SITES), Parsed::Partial);
        bytes.push(b'a');
        assert_eq!(parse(&bytes, &SITES), Parsed::Malformed);
    }

    proptest! {
        #[test]
        fn any_split_of_a_request_is_partial_until_it_is_whole(cut in 0..GET.len()) {
            prop_assert_eq!(parse(&GET[..cut], &SITES), Parsed::Partial);
        }

        #[test]
        fn a_verdict_never_changes_when_more_bytes_come(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            cut in 0..200_usize,
        ) {
            let early = parse(&bytes[..cut.min(bytes.len())], &SITES);
            if early != Parsed::Partial {
                prop_assert_eq!(parse(&bytes, &SITES), early);
            }
        }

        #[test]
        fn garbled_requests_never_panic(at in 0..GET.len(), with in any::<u8>()) {
            let mut bytes = GET.to_vec();
            bytes[at] = with;
            let first = parse(&bytes, &SITES);
            prop_assert_eq!(first, parse(&bytes, &SITES));
        }
    }
}
