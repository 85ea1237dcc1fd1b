//! An authority of a test's own, and what it signs for a server on 127.0.0.1.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

/// Writes `ca.pem`, and for the address 127.0.0.1 `cert.pem` with `key.pem` into `folder`; and
/// `expired.pem`, of the same key, which was good until the end of 2020.
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
    let mut of_leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("an address");
    let sign = |params: &CertificateParams| {
        let signed = params.signed_by(&leaf_key, &issuer);
        signed.expect("a certificate").pem()
    };
    let leaf = sign(&of_leaf);
    of_leaf.not_before = date_time_ymd(2020, 1, 1);
    of_leaf.not_after = date_time_ymd(2021, 1, 1);
    for (name, text) in [
        ("ca.pem", certificate.pem()),
        ("cert.pem", leaf),
        ("expired.pem", sign(&of_leaf)),
        ("key.pem", leaf_key.serialize_pem()),
    ] {
        std::fs::write(folder.join(name), text).expect("written");
    }
}
