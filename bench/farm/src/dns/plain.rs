//! The plain query: one A question for a site, with or without EDNS, answered by copying the
//! question. It knows no faults.

use std::net::Ipv4Addr;

use super::{HEADER_BYTES, PAYLOAD_BYTES, Zone};
use crate::sites::LABEL_BYTES;

/// Length of the question for a site: labels of 9, 4 and 4 bytes, the root, type and class.
const QUESTION_BYTES: usize = 1 + LABEL_BYTES + 5 + 5 + 1 + 4;
/// Length of an OPT record without options.
const OPT_BYTES: usize = 11;

/// One A question for a site, in the shape that resolvers send.
pub(super) struct PlainQuery {
    pub(super) site: u32,
    edns: bool,
}

impl PlainQuery {
    pub(super) fn read(query: &[u8], zone: &impl Zone) -> Option<Self> {
        let question_end = HEADER_BYTES + QUESTION_BYTES;
        let (header, rest) = query.split_at_checked(HEADER_BYTES)?;
        let (question, additional) = rest.split_at_checked(question_end - HEADER_BYTES)?;
        // Query, opcode 0, not truncated; one question, no answer, no authority.
        if header[2] & 0xfa != 0 || header[4..10] != [0, 1, 0, 0, 0, 0] || header[10] != 0 {
            return None;
        }
        let edns = match (header[11], additional) {
            (0, []) => false,
            // The root, OPT, any payload size, no extended code, version 0, any flags, any options.
            (1, [0, 0, 41, _, _, 0, 0, _, _, high, low, options @ ..])
                if options.len() == usize::from(u16::from_be_bytes([*high, *low])) =>
            {
                true
            }
            _ => return None,
        };
        let (label, rest) = question[1..].split_at(LABEL_BYTES);
        let in_zone = question[0] == LABEL_BYTES as u8
            && rest[..11].eq_ignore_ascii_case(b"\x04farm\x04test\0")
            && rest[11..] == [0, 1, 0, 1];
        let site = in_zone.then(|| zone.site(label))??;
        Some(Self { site, edns })
    }

    pub(super) fn answer(&self, query: &[u8], address: Ipv4Addr, ttl_s: u32, out: &mut Vec<u8>) {
        let recursion_desired = query[2] & 1;
        out.extend_from_slice(&query[..2]);
        // A response, authoritative; one question, one answer.
        let additionals = u8::from(self.edns);
        out.extend_from_slice(&[
            0x84 | recursion_desired,
            0,
            0,
            1,
            0,
            1,
            0,
            0,
            0,
            additionals,
        ]);
        out.extend_from_slice(&query[HEADER_BYTES..HEADER_BYTES + QUESTION_BYTES]);
        // The name is a pointer to the question (RFC 1035 §4.1.4).
        out.extend_from_slice(&[0xc0, HEADER_BYTES as u8, 0, 1, 0, 1]);
        out.extend_from_slice(&ttl_s.to_be_bytes());
        out.extend_from_slice(&[0, 4]);
        out.extend_from_slice(&address.octets());
        if self.edns {
            let [high, low] = PAYLOAD_BYTES.to_be_bytes();
            let opt: [u8; OPT_BYTES] = [0, 0, 41, high, low, 0, 0, 0, 0, 0, 0];
            out.extend_from_slice(&opt);
        }
    }
}
