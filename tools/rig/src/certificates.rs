//! An authority of a test's own, and what it signs for a server on 127.0.0.1.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// Writes `ca.pem`, and `cert.pem` with `key.pem` for the address 127.0.0.1, into `folder`.
///
/// # Panics
/// When they cannot be written.
pub fn write(folder: &Path) {
    let mut authority = CertificateParams::new(Vec::new()).expect("no names");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let certificate = authority.self_signed(&key).expect("a certificate");
    let issuer = Issuer::new(authority, key);
    let leaf_key = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()])
        .expect("an address")
        .signed_by(&leaf_key, &issuer)
        .expect("a certificate");
    for (name, text) in [
        ("ca.pem", certificate.pem()),
        ("cert.pem", leaf.pem()),
        ("key.pem", leaf_key.serialize_pem()),
    ] {
        std::fs::write(folder.join(name), text).expect("written");
    }
}
