//! Fuzz bodies of the second look, what a server sends to a legacy hello, and of the certificates
//! that are read by hand.

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::chain;
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

/// Of a certificate, whatever its bytes, little is read and nothing panics; what another reader of
/// it accepts says the same here, as far as it is read here.
pub(crate) fn certificate(data: &[u8]) {
    let one = CertificateDer::from(data);
    let chain = [one.clone(), one];
    let read = chain::validity(&chain[..1], None);
    assert_eq!(chain::validity(&chain, None), read);
    assert_eq!(chain::validity_of_all(chain.iter()), read);
    if let Some(validity) = read {
        let followed = CertificateDer::from([data, data].concat());
        assert_eq!(chain::validity(&[followed], None), read);
        for at in [validity.not_before, validity.not_after] {
            // A year has four digits; a month and a day of 99 are read as they stand.
            assert!((10..=11).contains(&chain::date(at).len()), "{at}");
            assert!(chain::days(at) > 0);
        }
    }
    let subjects = chain::subjects(&chain[..1]);
    assert!(subjects.len() == 1 && subjects[0].len() <= 64 + 8 * data.len());
    // Its signed part, or any bytes in the place of one.
    let _ = chain::is_authority(data);
    let Ok((_, theirs)) = X509Certificate::from_der(data) else {
        return;
    };
    // They read more than we do: classes of tags and lengths that DER has not, parts of seconds.
    if let Some(validity) = read {
        let their = theirs.validity();
        assert_eq!(validity.not_before, their.not_before.timestamp());
        assert_eq!(validity.not_after, their.not_after.timestamp());
    }
    if let Ok(Some(constraints)) = theirs.basic_constraints() {
        let is_authority = chain::is_authority(theirs.tbs_certificate.as_ref());
        assert!(constraints.value.ca || !is_authority);
    }
}
