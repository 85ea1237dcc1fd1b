//! TLS as a client: one rustls configuration per core, and one link per connection. Bytes in,
//! bytes out; the time is whatever `now` was told last.
//!
//! Only this module and its children name rustls.

mod chain;
mod classify;
mod fingerprint;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod issuers;
mod key_share;
mod legacy_hello;
mod link;
mod lru;
mod second_look;
mod sentence;
pub(crate) mod server_hello;
mod sessions;
mod verify;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use model::time::UnixMs;
use rustls::client::{ClientConfig, Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::time_provider::TimeProvider;
use rustls::{RootCertStore, SupportedCipherSuite};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::error::ProberError;
use crate::shared::{Roots, TlsPolicy};

use fingerprint::Fingerprint;
use issuers::Issuers;
use key_share::KeyShares;
pub(crate) use link::{TlsFault, TlsLink};
pub(crate) use second_look::Refusal;
use second_look::SecondLooks;
use sessions::Sessions;
use verify::RecordingVerifier;

/// TLS settings of one core. Building them costs milliseconds, using them costs an `Arc` count.
#[derive(Debug)]
pub(crate) struct TlsSettings {
    config: Arc<ClientConfig>,
    /// Of checks that end with the handshake.
    bare: Arc<ClientConfig>,
    clock: Arc<FedClock>,
    verifier: Arc<RecordingVerifier>,
    issuers: Issuers,
    sessions: Arc<Sessions>,
    second_looks: SecondLooks,
}

/// The wall clock as rustls sees it: the second that an attempt was told last.
#[derive(Debug, Default)]
struct FedClock(AtomicU64);

impl FedClock {
    fn feed(&self, now: UnixMs) {
        // ORDERING: written and read by the one thread of the core; the atomic is only there
        // because rustls asks for `Sync`.
        self.0.store(now.0 / 1_000, Ordering::Relaxed);
    }

    fn seconds(&self) -> u64 {
        // ORDERING: see `feed`.
        self.0.load(Ordering::Relaxed)
    }
}

impl TimeProvider for FedClock {
    fn current_time(&self) -> Option<UnixTime> {
        let since_epoch = std::time::Duration::from_secs(self.seconds());
        Some(UnixTime::since_unix_epoch(since_epoch))
    }
}

impl TlsSettings {
    pub(crate) fn new(roots: &Roots, policy: TlsPolicy) -> Result<Self, ProberError> {
        let clock = Arc::new(FedClock::default());
        let provider = Arc::new(CryptoProvider {
            kx_groups: vec![
                KeyShares::on(Arc::clone(&clock)),
                aws_lc_rs::kx_group::SECP256R1,
                aws_lc_rs::kx_group::SECP384R1,
            ],
            cipher_suites: suites(),
            ..aws_lc_rs::default_provider()
        });
        let roots = Arc::new(root_store(roots)?);
        let (algorithms, issuers) =
            issuers::remembering(provider.signature_verification_algorithms);
        let of_chains = Arc::new(CryptoProvider {
            signature_verification_algorithms: algorithms,
            ..provider.as_ref().clone()
        });
        let webpki = WebPkiServerVerifier::builder_with_provider(roots, of_chains).build()?;
        let verifier = Arc::new(RecordingVerifier::new(webpki, policy.chains_max));
        let sessions = Arc::new(Sessions::new(clock.clone(), policy));
        let mut config = ClientConfig::builder_with_details(provider, clock.clone())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone())
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        let bare = Arc::new(config.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        if policy.full_every_s > 0 && policy.sessions_max > 0 {
            config.resumption = Resumption::store(sessions.clone());
        }
        Ok(Self {
            config: Arc::new(config),
            bare,
            clock,
            verifier,
            issuers,
            sessions,
            second_looks: SecondLooks::new(),
        })
    }

    /// Whether `roots` can be trusted; leaves nothing behind.
    pub(crate) fn check(roots: &Roots) -> Result<(), ProberError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let roots = Arc::new(root_store(roots)?);
        WebPkiServerVerifier::builder_with_provider(roots, provider).build()?;
        Ok(())
    }

    /// Public keys of issuers that are kept parsed.
    pub(crate) fn issuer_keys(&self) -> usize {
        self.issuers.keys()
    }

    /// Signatures on certificates of issuers that are known to be good.
    pub(crate) fn issuer_signatures(&self) -> usize {
        self.issuers.signatures()
    }

    /// Verified chains that are remembered.
    pub(crate) fn chains(&self) -> usize {
        self.verifier.len()
    }

    /// Names whose sessions are kept.
    pub(crate) fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Memory of those sessions, in bytes.
    pub(crate) fn session_bytes(&self) -> usize {
        self.sessions.bytes()
    }

    /// Findings of second looks that are remembered.
    pub(crate) fn second_looks(&self) -> usize {
        self.second_looks.len()
    }

    /// Tells rustls the time, and its store of sessions whose link is at work.
    fn attend(&self, place: Fingerprint, now: UnixMs) {
        self.clock.feed(now);
        self.sessions.attend(place);
    }

    /// Whether TLS 1.2 with the suite of this IANA number is ours.
    fn has_suite(&self, number: u16) -> bool {
        let mut suites = self.config.crypto_provider().cipher_suites.iter();
        suites.any(|suite| u16::from(suite.suite()) == number)
    }
}

/// The default's suites, those with SHA-256 before those with SHA-384: nothing that a check says
/// is a secret, and the key schedule of a handshake is hashing.
fn suites() -> Vec<SupportedCipherSuite> {
    let mut suites = aws_lc_rs::default_provider().cipher_suites;
    let is_long = |suite: &SupportedCipherSuite| {
        let hash = match suite {
            SupportedCipherSuite::Tls12(suite) => suite.common.hash_provider,
            SupportedCipherSuite::Tls13(suite) => suite.common.hash_provider,
        };
        hash.output_len() > 32
    };
    suites.sort_by_key(is_long);
    suites
}

fn root_store(roots: &Roots) -> Result<RootCertStore, ProberError> {
    let mut store = RootCertStore::empty();
    match roots {
        Roots::WebPki => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Roots::Pem(text) => {
            let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
            let certificates = certificates.map_err(ProberError::Pem)?;
            let (added, ignored) = store.add_parsable_certificates(certificates);
            if added == 0 {
                return Err(ProberError::NoRoots { ignored });
            }
        }
    }
    Ok(store)
}
