//! `ProberError`: what can be wrong with our own set-up. A failed check is never an error.

/// Why a [`Shared`](crate::Shared) could not be built. What another library said is the `source`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProberError {
    /// The CA bundle is not PEM.
    #[error("the CA bundle does not parse as PEM; give a file of CERTIFICATE blocks")]
    Pem(#[source] rustls_pki_types::pem::Error),
    /// The CA bundle has no certificate that can be a trust anchor.
    #[error(
        "the CA bundle has no usable certificate ({ignored} ignored); give at least one CA \
         certificate in PEM form"
    )]
    NoRoots {
        /// Certificates that cannot be trust anchors.
        ignored: usize,
    },
    /// The user agent cannot stand in a request head.
    #[error("the user agent {found:?} must be 1 to 256 printable ASCII characters")]
    UserAgent {
        /// What was given.
        found: String,
    },
    /// The TLS library refused our settings.
    #[error("the TLS library refused our settings")]
    Tls(#[from] rustls::Error),
    /// The TLS library refused the trust anchors.
    #[error("the TLS library refused the trust anchors")]
    Verifier(#[from] rustls::client::VerifierBuilderError),
}
