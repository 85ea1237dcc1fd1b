//! The certificate verifier: webpki's verdict, unchanged, plus a memory of the chains that it
//! found good, plus a copy of the chain that it refused, which rustls itself drops.
//!
//! Only the verdict on a chain is remembered, for the name that it was given for; the roots are
//! those of this verifier. The signature of the handshake, which proves that the server has the
//! key, is verified every time. A refused chain is never remembered.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::limits::TLS_CHAIN_GOOD_S;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

use super::chain;
use super::fingerprint::Fingerprint;
use super::lru::Lru;

/// One per core. The mutex is never contended: only the core's thread comes here; the signature of
/// `ServerCertVerifier` (`&self`, `Sync`) forces it.
#[derive(Debug)]
pub(super) struct RecordingVerifier {
    webpki: Arc<WebPkiServerVerifier>,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    /// The chain that was refused last, until it is taken.
    refused: Vec<CertificateDer<'static>>,
    /// Whether the last chain was good by memory, until it is taken.
    remembered: bool,
    good: Lru<Fingerprint, Good>,
}

/// When a chain counts as verified, in seconds since the Unix epoch.
#[derive(Clone, Copy, Debug)]
struct Good {
    from: u64,
    /// Not included.
    until: u64,
}

impl RecordingVerifier {
    /// With a memory of at most `chains_max` chains; 0 = none.
    pub(super) fn new(webpki: Arc<WebPkiServerVerifier>, chains_max: usize) -> Self {
        let seen = Seen {
            refused: Vec::new(),
            remembered: false,
            good: Lru::new(chains_max),
        };
        Self {
            webpki,
            seen: Mutex::new(seen),
        }
    }

    /// The chain that was refused last, leaf first; empty when none was since the last call.
    pub(super) fn take_refused(&self) -> Vec<CertificateDer<'static>> {
        std::mem::take(&mut self.seen().refused)
    }

    /// Whether a chain was good by memory since the last call.
    pub(super) fn take_remembered(&self) -> bool {
        std::mem::take(&mut self.seen().remembered)
    }

    /// Chains that are remembered.
    pub(super) fn len(&self) -> usize {
        self.seen().good.len()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn is_good(&mut self, key: &Fingerprint, now_s: u64) -> bool {
        let good = self.good.get(key);
        good.is_some_and(|good| (good.from..good.until).contains(&now_s))
    }

    /// Remembers a chain for an hour, but never past the end of any of its certificates, needed or
    /// not. One whose dates cannot all be read is verified every time.
    fn remember<'a>(
        &mut self,
        key: Fingerprint,
        chain: impl Iterator<Item = &'a CertificateDer<'a>>,
        now_s: u64,
    ) {
        let Some(validity) = chain::validity_of_all(chain) else {
            return;
        };
        let not_after = u64::try_from(validity.not_after).unwrap_or(0);
        let until = not_after.min(now_s + TLS_CHAIN_GOOD_S);
        if until > now_s {
            self.good.insert(key, Good { from: now_s, until });
        }
    }
}

fn fingerprint(
    name: &ServerName<'_>,
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> Fingerprint {
    let name = name.to_str();
    let chain = std::iter::once(end_entity).chain(intermediates);
    let chain = chain.map(AsRef::as_ref);
    Fingerprint::of(std::iter::once(name.as_bytes()).chain(chain))
}

impl ServerCertVerifier for RecordingVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let key = fingerprint(server_name, end_entity, intermediates);
        let now_s = now.as_secs();
        let mut seen = self.seen();
        seen.remembered = seen.is_good(&key, now_s);
        if seen.remembered {
            return Ok(ServerCertVerified::assertion());
        }
        let verdict = self.webpki.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        let chain = std::iter::once(end_entity).chain(intermediates);
        match &verdict {
            Ok(_) => seen.remember(key, chain, now_s),
            Err(_) => seen.refused = chain.map(|der| der.clone().into_owned()).collect(),
        }
        verdict
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}
