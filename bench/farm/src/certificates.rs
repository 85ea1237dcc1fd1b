//! Mints the certificates of a run: a CA, the chain that healthy sites show, and the broken ones.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize, date_time_ymd,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use crate::faults::FaultKind;
use crate::sites::ZONE;

/// How long the certificate of an expiring site is still good.
const EXPIRING: Duration = Duration::from_hours(5 * 24);

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
    /// Signed by the same issuer, but wrong in time or in name.
    expired: Arc<CertifiedKey>,
    expiring: Arc<CertifiedKey>,
    not_yet_valid: Arc<CertifiedKey>,
    wrong_name: Arc<CertifiedKey>,
    /// The healthy leaf without its intermediates.
    incomplete: Arc<CertifiedKey>,
    self_signed: Arc<CertifiedKey>,
}

impl Certificates {
    /// What a site shows that suffers `fault`.
    pub(crate) fn shown(&self, fault: Option<FaultKind>) -> &Arc<CertifiedKey> {
        match fault {
            Some(FaultKind::TlsExpired) => &self.expired,
            Some(FaultKind::TlsExpiring) => &self.expiring,
            Some(FaultKind::TlsNotYetValid) => &self.not_yet_valid,
            Some(FaultKind::TlsWrongName) => &self.wrong_name,
            Some(FaultKind::TlsIncompleteChain) => &self.incomplete,
            Some(FaultKind::TlsSelfSigned) => &self.self_signed,
            _ => &self.healthy,
        }
    }
}

/// Mints everything of a run that begins at `unix_ms`.
///
/// # Errors
/// When the crypto library refuses to make a key or a signature.
pub(crate) fn mint(
    kind: ChainKind,
    provider: &CryptoProvider,
    unix_ms: u64,
) -> Result<Certificates> {
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
    let signed = |params: CertificateParams, above: &[CertificateDer<'static>]| -> Result<_> {
        let leaf = params
            .signed_by(&leaf_key, &issuer)
            .context("cannot mint a leaf")?;
        let chain = std::iter::once(leaf.der()).chain(above).cloned();
        certified(chain.collect(), &leaf_key, provider)
    };
    let own = leaf(ZONE)?
        .self_signed(&leaf_key)
        .context("cannot mint a self-signed leaf")?;
    let today = date_time_ymd(1970, 1, 1) + Duration::from_millis(unix_ms);
    let mut expiring = leaf(ZONE)?;
    expiring.not_after = today + EXPIRING;
    Ok(Certificates {
        ca_pem: root.pem(),
        healthy: signed(leaf(ZONE)?, &above)?,
        expired: signed(good_in(2020)?, &above)?,
        expiring: signed(expiring, &above)?,
        not_yet_valid: signed(good_in(2090)?, &above)?,
        wrong_name: signed(leaf("elsewhere.test")?, &above)?,
        incomplete: signed(leaf(ZONE)?, &[])?,
        self_signed: certified(vec![own.der().clone()], &leaf_key, provider)?,
    })
}

/// A leaf that is good in this year alone.
fn good_in(year: i32) -> Result<CertificateParams> {
    let mut params = leaf(ZONE)?;
    params.not_before = date_time_ymd(year, 1, 1);
    params.not_after = date_time_ymd(year + 1, 1, 1);
    Ok(params)
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

/// A leaf for every name of `zone`.
fn leaf(zone: &str) -> Result<CertificateParams> {
    let name = format!("*.{zone}");
    let mut params = CertificateParams::new(vec![name.clone()])
        .with_context(|| format!("the wildcard name of {zone} was refused"))?;
    params.distinguished_name.push(DnType::CommonName, name);
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
            let minted = mint(kind, &provider, 1_700_000_000_000).expect("minted");
            for (fault, length) in [
                (None, length),
                (Some(FaultKind::TlsExpired), length),
                (Some(FaultKind::TlsExpiring), length),
                (Some(FaultKind::TlsNotYetValid), length),
                (Some(FaultKind::TlsWrongName), length),
                (Some(FaultKind::TlsIncompleteChain), 1),
                (Some(FaultKind::TlsSelfSigned), 1),
            ] {
                assert_eq!(minted.shown(fault).cert.len(), length, "{fault:?}");
            }
            assert!(minted.ca_pem.starts_with("-----BEGIN CERTIFICATE-----"));
        }
    }
}
