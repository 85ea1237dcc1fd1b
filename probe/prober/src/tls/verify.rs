//! The certificate verifier: webpki's verdict, unchanged, plus a copy of the chain that it
//! refused, which rustls itself drops.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

/// One per core. The mutex is never contended: only the core's thread comes here, and only after
/// a refusal; the signature of `ServerCertVerifier` (`&self`, `Sync`) forces it.
#[derive(Debug)]
pub(super) struct RecordingVerifier {
    webpki: Arc<WebPkiServerVerifier>,
    refused: Mutex<Vec<CertificateDer<'static>>>,
}

impl RecordingVerifier {
    pub(super) fn new(webpki: Arc<WebPkiServerVerifier>) -> Self {
        Self {
            webpki,
            refused: Mutex::default(),
        }
    }

    /// The chain that was refused last, leaf first; empty when none was since the last call.
    pub(super) fn take_refused(&self) -> Vec<CertificateDer<'static>> {
        std::mem::take(&mut self.refused.lock().unwrap_or_else(PoisonError::into_inner))
    }
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
        self.webpki
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            .inspect_err(|_| {
                let chain = std::iter::once(end_entity).chain(intermediates);
                let chain = chain.map(|der| der.clone().into_owned()).collect();
                *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = chain;
            })
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
