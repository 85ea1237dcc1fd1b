//! Fuzz body of the second look: what a server sends to a legacy hello.

use super::server_hello::{ServerHelloSeen, sniff_server_hello};

/// What is said of the first bytes is never taken back, and a hello is what stands in them.
pub(crate) fn server_hello(data: &[u8]) {
    let mut seen = ServerHelloSeen::Partial;
    for end in 0..=data.len() {
        let now = sniff_server_hello(&data[..end]);
        assert!(
            seen == ServerHelloSeen::Partial || now == seen,
            "taken back"
        );
        seen = now;
    }
    match seen {
        ServerHelloSeen::Hello { version, suite } => {
            assert!((0x0300..=0x0303).contains(&version));
            assert_eq!(read_plainly(data), Some((version, suite)));
        }
        ServerHelloSeen::Alert(kind) => {
            let is_it =
                |bytes: &[u8]| bytes[..2] == [21, 3] && bytes[3..5] == [0, 2] && bytes[6] == kind;
            assert!(data.windows(7).any(is_it), "no server sent that alert");
        }
        ServerHelloSeen::Partial | ServerHelloSeen::Other => {}
    }
}

/// Version and suite of the message in all handshake records, by their places in it.
fn read_plainly(mut bytes: &[u8]) -> Option<(u16, u16)> {
    let mut message = Vec::new();
    while let Some((header, rest)) = bytes.split_at_checked(5) {
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        let (fragment, after) = rest.split_at(length.min(rest.len()));
        if header[0] == 22 {
            message.extend_from_slice(fragment);
        }
        bytes = after;
    }
    let word = |at: usize| {
        Some(u16::from_be_bytes([
            *message.get(at)?,
            *message.get(at + 1)?,
        ]))
    };
    let id = usize::from(*message.get(38)?);
    Some((word(4)?, word(39 + id)?))
}
