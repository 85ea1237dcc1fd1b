//! The names of these tests say what they resolve to: `v4-2-1.v6-1.test` has the A records
//! 127.0.0.2 and 127.0.0.1 and the AAAA record `::1`.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The answer to a query, by RFC 1035 §4.1.
pub(super) fn answer(query: &[u8]) -> Vec<u8> {
    let (labels, end) = labels(query);
    let is_a = query[end..end + 2] == [0, 1];
    let kind = if is_a { "v4-" } else { "v6-" };
    let list = labels.iter().find_map(|label| label.strip_prefix(kind));
    let last: Vec<u8> = list.map_or_else(Vec::new, |list| {
        let numbers = list.split('-').map(str::parse);
        numbers.collect::<Result<_, _>>().expect("numbers")
    });
    let mut answer = query[..2].to_vec();
    answer.extend_from_slice(&[0x81, 0x80, 0, 1, 0, last.len() as u8, 0, 0, 0, 0]);
    answer.extend_from_slice(&query[12..end + 4]);
    for last in last {
        let address = if is_a {
            Ipv4Addr::new(127, 0, 0, last).octets().to_vec()
        } else {
            Ipv6Addr::from_bits(last.into()).octets().to_vec()
        };
        // A pointer to the name in the question, its type, IN, an hour.
        answer.extend_from_slice(&[0xc0, 12, 0, if is_a { 1 } else { 28 }, 0, 1, 0, 0, 14, 16]);
        answer.extend_from_slice(&(address.len() as u16).to_be_bytes());
        answer.extend_from_slice(&address);
    }
    answer
}

/// The labels of the question's name in lower case, and where its type begins.
fn labels(query: &[u8]) -> (Vec<String>, usize) {
    let (mut labels, mut at) = (Vec::new(), 12);
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        let label = String::from_utf8_lossy(&query[at + 1..end]);
        labels.push(label.to_ascii_lowercase());
        at = end;
    }
    (labels, at + 1)
}
