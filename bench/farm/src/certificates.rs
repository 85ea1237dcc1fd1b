//! Mints the certificates of a run: a CA, the chain that healthy sites show, and the broken ones.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize, date_time_ymd,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use crate::sites::ZONE;

/// What a healthy site shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ChainKind {
    /// Leaf and one intermediate, ECDSA P-256.
    Ecdsa,
    /// Leaf and two intermediates, RSA 2048.
    Rsa3,
}

/// Everything minted.
#[derive(Debug)]
pub(crate) struct Certificates {
    /// The root, for the trust store of the node.
    pub(crate) ca_pem: String,
    pub(crate) healthy: Arc<CertifiedKey>,
    /// Signed by the same issuer, but expired.
    pub(crate) expired: Arc<CertifiedKey>,
    pub(crate) self_signed: Arc<CertifiedKey>,
}

/// Mints everything of a run.
///
/// # Errors
/// When the crypto library refuses to make a key or a signature.
pub(crate) fn mint(kind: ChainKind, provider: &CryptoProvider) -> Result<Certificates> {
    let root = CertifiedIssuer::self_signed(authority("ringwatch farm root"), key(kind)?)
        .context("cannot mint the root certificate")?;
    let intermediate = |name, issuer: &CertifiedIssuer<'_, KeyPair>| -> Result<_> {
        CertifiedIssuer::signed_by(authority(name), key(kind)?, issuer)
            .context("cannot mint an intermediate certificate")
    };
    let first = intermediate("ringwatch farm intermediate 1", &root)?;
    let mut above = vec![first.der().clone()];
    let issuer = match kind {
        ChainKind::Ecdsa => first,
        ChainKind::Rsa3 => {
            let second = intermediate("ringwatch farm intermediate 2", &first)?;
            above.insert(0, second.der().clone());
            second
        }
    };
    let leaf_key = key(kind)?;
    let signed = |params: CertificateParams| -> Result<_> {
        let leaf = params
            .signed_by(&leaf_key, &issuer)
            .context("cannot mint a leaf")?;
        let chain = [vec![leaf.der().clone()], above.clone()].concat();
        certified(chain, &leaf_key, provider)
    };
    let mut expired = leaf()?;
    expired.not_before = date_time_ymd(2020, 1, 1);
    expired.not_after = date_time_ymd(2021, 1, 1);
    let own = leaf()?
        .self_signed(&leaf_key)
        .context("cannot mint a self-signed leaf")?;
    Ok(Certificates {
        ca_pem: root.pem(),
        healthy: signed(leaf()?)?,
        expired: signed(expired)?,
        self_signed: certified(vec![own.der().clone()], &leaf_key, provider)?,
    })
}

fn key(kind: ChainKind) -> Result<KeyPair> {
    match kind {
        ChainKind::Ecdsa => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
        ChainKind::Rsa3 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
    }
    .context("cannot generate a key")
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn leaf() -> Result<CertificateParams> {
    let mut params = CertificateParams::new(vec![format!("*.{ZONE}")])
        .context("the wildcard name of the zone was refused")?;
    params
        .distinguished_name
        .push(DnType::CommonName, format!("*.{ZONE}"));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: &KeyPair,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>> {
    let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let signer = provider
        .key_provider
        .load_private_key(der)
        .context("the TLS provider refused a key that was just made")?;
    Ok(Arc::new(CertifiedKey::new(chain, signer)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_have_the_promised_length() {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        for (kind, length) in [(ChainKind::Ecdsa, 2), (ChainKind::Rsa3, 3)] {
            let minted = mint(kind, &provider).expect("minted");
            assert_eq!(minted.healthy.cert.len(), length);
            assert_eq!(minted.expired.cert.len(), length);
            assert_eq!(minted.self_signed.cert.len(), 1);
            assert!(minted.ca_pem.starts_with("-----BEGIN CERTIFICATE-----"));
        }
    }
}
