//! Reads the version and the cipher suite out of a `ServerHello`, and nothing else, from whatever a
//! server sends to a legacy hello. A pure function of the bytes gathered so far: the same answer
//! for any split of them, and no memory of its own.
//!
//! ```text
//! record  = type 1 · version 2 · length 2 · fragment              RFC 5246 §6.2.1
//! message = type 1 · length 3 · version 2 · random 32 · id 1+n · suite 2 · …     §7.4.1.3
//! ```

/// What the first bytes of a server say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerHelloSeen {
    /// Nothing yet; more bytes may tell.
    Partial,
    /// A `ServerHello`.
    Hello {
        /// The version on the wire: 0x0300 (SSL 3.0) to 0x0303 (TLS 1.2).
        version: u16,
        /// The suite that the server chose, by its IANA number.
        suite: u16,
    },
    /// An alert that ends the connection, by its IANA number.
    Alert(u8),
    /// Something that is not TLS, or not an answer to a legacy hello.
    Other,
}

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const WARNING: u8 = 1;
const CLOSE_NOTIFY: u8 = 0;
const SERVER_HELLO: u8 = 2;
/// Largest fragment of a plaintext record.
const FRAGMENT_MAX: usize = 1 << 14;
/// Message header, version, random, length of the session id.
const BEFORE_ID: usize = 4 + 2 + 32 + 1;
/// Longest session id.
const ID_MAX: usize = 32;
/// All that is needed of the message.
const NEEDED_MAX: usize = BEFORE_ID + ID_MAX + 2;

/// Looks at `bytes`, everything that a server has sent so far. Warnings before the hello, such as
/// `unrecognized_name`, are passed over.
pub fn sniff_server_hello(bytes: &[u8]) -> ServerHelloSeen {
    let mut message = Message::default();
    let mut rest = bytes;
    loop {
        let (kind, fragment, length, after) = match record(rest) {
            Record::Partial => return ServerHelloSeen::Partial,
            Record::Other => return ServerHelloSeen::Other,
            Record::Is {
                kind,
                fragment,
                length,
                after,
            } => (kind, fragment, length, after),
        };
        let seen = match kind {
            // A message may be cut into records, but another record may not come in between.
            ALERT if message.len == 0 => alert(fragment, length),
            HANDSHAKE => {
                message.take(fragment);
                message.read()
            }
            _ => ServerHelloSeen::Other,
        };
        if seen != ServerHelloSeen::Partial || fragment.len() < length {
            return seen;
        }
        rest = after;
    }
}

enum Record<'a> {
    Partial,
    Other,
    Is {
        kind: u8,
        /// What has arrived of it.
        fragment: &'a [u8],
        /// Its whole length.
        length: usize,
        after: &'a [u8],
    },
}

/// The first record of `bytes`. What cannot become one is told at the first wrong byte.
fn record(bytes: &[u8]) -> Record<'_> {
    let kind = bytes.first().copied().unwrap_or(HANDSHAKE);
    let major = bytes.get(1).copied().unwrap_or(3);
    if !matches!(kind, ALERT | HANDSHAKE) || major != 3 {
        return Record::Other;
    }
    let Some((header, rest)) = bytes.split_at_checked(5) else {
        return Record::Partial;
    };
    let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
    if length == 0 || length > FRAGMENT_MAX {
        return Record::Other;
    }
    let (fragment, after) = rest.split_at(length.min(rest.len()));
    Record::Is {
        kind,
        fragment,
        length,
        after,
    }
}

fn alert(fragment: &[u8], length: usize) -> ServerHelloSeen {
    match *fragment {
        _ if length != 2 => ServerHelloSeen::Other,
        [WARNING, kind] if kind != CLOSE_NOTIFY => ServerHelloSeen::Partial,
        [_, kind] => ServerHelloSeen::Alert(kind),
        _ => ServerHelloSeen::Partial,
    }
}

/// The beginning of the handshake message, put together from its records.
struct Message {
    bytes: [u8; NEEDED_MAX],
    len: usize,
}

impl Default for Message {
    fn default() -> Self {
        Self {
            bytes: [0; NEEDED_MAX],
            len: 0,
        }
    }
}

impl Message {
    fn take(&mut self, fragment: &[u8]) {
        let count = fragment.len().min(NEEDED_MAX - self.len);
        self.bytes[self.len..self.len + count].copy_from_slice(&fragment[..count]);
        self.len += count;
    }

    fn read(&self) -> ServerHelloSeen {
        let bytes = &self.bytes[..self.len];
        let at = |index: usize| bytes.get(index).copied();
        let length = at(3).map(|low| u32::from_be_bytes([0, bytes[1], bytes[2], low]) as usize);
        let id = at(BEFORE_ID - 1).map(usize::from);
        let least = BEFORE_ID - 4 + id.unwrap_or(0) + 2 + 1;
        if at(0).is_some_and(|kind| kind != SERVER_HELLO)
            || length.is_some_and(|length| length < least)
            || id.is_some_and(|id| id > ID_MAX)
        {
            return ServerHelloSeen::Other;
        }
        let (Some(major), Some(minor)) = (at(4), at(5)) else {
            return ServerHelloSeen::Partial;
        };
        let version = u16::from_be_bytes([major, minor]);
        // 1.3 may only be chosen by an extension that a legacy hello does not have.
        if !(0x0300..=0x0303).contains(&version) {
            return ServerHelloSeen::Other;
        }
        let suite = id.and_then(|id| bytes.get(BEFORE_ID + id..BEFORE_ID + id + 2));
        match suite {
            Some(&[high, low]) => ServerHelloSeen::Hello {
                version,
                suite: u16::from_be_bytes([high, low]),
            },
            _ => ServerHelloSeen::Partial,
        }
    }
}

#[cfg(test)]
mod tests {
    use model::limits::TLS_SECOND_LOOK_MAX_BYTES;
    use proptest::prelude::*;

    use super::*;

    fn message(version: u16, suite: u16, id: usize) -> Vec<u8> {
        let mut body = version.to_be_bytes().to_vec();
        body.extend([7; 32]);
        body.push(id as u8);
        body.extend(std::iter::repeat_n(9, id));
        body.extend(suite.to_be_bytes());
        body.push(0);
        let mut message = vec![SERVER_HELLO, 0, 0, body.len() as u8];
        message.extend(body);
        message
    }

    fn records(kind: u8, bytes: &[u8], most: usize) -> Vec<u8> {
        let mut out = Vec::new();
        for piece in bytes.chunks(most) {
            out.extend([kind, 3, 1]);
            out.extend((piece.len() as u16).to_be_bytes());
            out.extend(piece);
        }
        out
    }

    /// What is said when `bytes` come one by one, from the first word that is not `Partial` on.
    fn byte_by_byte(bytes: &[u8]) -> ServerHelloSeen {
        let mut seen = ServerHelloSeen::Partial;
        for len in 0..=bytes.len() {
            let now = sniff_server_hello(&bytes[..len]);
            if seen != ServerHelloSeen::Partial {
                assert_eq!(now, seen, "it said so after fewer bytes: {bytes:02x?}");
            }
            seen = now;
        }
        seen
    }

    #[test]
    fn a_hello_is_read_whatever_its_records_and_its_session_id() {
        for version in [0x0300, 0x0301, 0x0302, 0x0303] {
            for id in [0, 1, 32] {
                for most in [1, 2, 5, 38, 1_000] {
                    let message = message(version, 0xc013, id);
                    let mut bytes = records(HANDSHAKE, &message, most);
                    assert!(bytes.len() <= TLS_SECOND_LOOK_MAX_BYTES);
                    let hello = ServerHelloSeen::Hello {
                        version,
                        suite: 0xc013,
                    };
                    assert_eq!(byte_by_byte(&bytes), hello, "{version:04x} {id} {most}");
                    // What follows in the same record or the next one is not looked at.
                    bytes.extend(b"anything");
                    assert_eq!(byte_by_byte(&bytes), hello);
                }
            }
        }
    }

    #[test]
    fn a_warning_is_passed_over_and_another_alert_is_told() {
        let warning = records(ALERT, &[WARNING, 112], 9);
        let hello = records(HANDSHAKE, &message(0x0302, 0x002f, 32), 99);
        let both = [warning.clone(), hello].concat();
        assert_eq!(
            byte_by_byte(&both),
            ServerHelloSeen::Hello {
                version: 0x0302,
                suite: 0x002f
            }
        );
        for (alert, seen) in [
            (vec![2, 40], ServerHelloSeen::Alert(40)),
            (vec![2, 112], ServerHelloSeen::Alert(112)),
            (vec![WARNING, CLOSE_NOTIFY], ServerHelloSeen::Alert(0)),
            (vec![WARNING, 112], ServerHelloSeen::Partial),
            (vec![2, 40, 0], ServerHelloSeen::Other),
        ] {
            let bytes = [warning.clone(), records(ALERT, &alert, 9)].concat();
            assert_eq!(byte_by_byte(&bytes), seen, "{alert:?}");
        }
    }

    #[test]
    fn what_is_no_answer_to_a_legacy_hello_is_told_apart() {
        let hello = |version| records(HANDSHAKE, &message(version, 0xc013, 0), 99);
        let mut long_id = message(0x0303, 0xc013, 32);
        long_id[BEFORE_ID - 1] = 33;
        let mut too_short = message(0x0303, 0xc013, 0);
        too_short[3] = 37;
        let mut other_message = message(0x0303, 0xc013, 0);
        other_message[0] = 11;
        let between = [
            records(HANDSHAKE, &message(0x0303, 0xc013, 0)[..9], 9),
            records(ALERT, &[WARNING, 112], 9),
        ];
        for bytes in [
            b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            b"SSH-2.0-x\r\n".to_vec(),
            hello(0x0304),
            hello(0x0203),
            records(HANDSHAKE, &long_id, 99),
            records(HANDSHAKE, &too_short, 99),
            records(HANDSHAKE, &other_message, 99),
            records(23, &[1], 9),
            vec![HANDSHAKE, 3, 1, 0, 0],
            vec![HANDSHAKE, 3, 1, 0x40, 1],
            vec![HANDSHAKE, 2, 1],
            between.concat(),
        ] {
            assert_eq!(byte_by_byte(&bytes), ServerHelloSeen::Other, "{bytes:02x?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_a_word_once_said_stays(
            bytes in prop::collection::vec(prop_oneof![
                any::<u8>(), Just(HANDSHAKE), Just(ALERT), Just(3_u8), Just(2_u8), Just(0_u8),
            ], 0..200),
        ) {
            byte_by_byte(&bytes);
        }
    }
}
