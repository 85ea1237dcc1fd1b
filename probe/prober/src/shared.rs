//! What all attempts of one core have in common, built once per core: request fields, TLS
//! settings, the guard, the memory of decoders.

use model::limits::{
    DECODERS_MAX_BYTES, TLS_CHAINS_MAX, TLS_FULL_EVERY_DEFAULT_S, TLS_SESSIONS_MAX,
    TLS_SESSIONS_MAX_BYTES,
};

use crate::error::ProberError;
use crate::guard::Guard;
use crate::http1::coding::budget::Budget;
use crate::http1::request::CommonFields;
use crate::tls::TlsSettings;

/// The user agent of a node whose configuration names none: `ringwatch/<version> (+url)`, with the
/// home page of the workspace.
pub const DEFAULT_USER_AGENT: &str = concat!(
    "ringwatch/",
    env!("CARGO_PKG_VERSION"),
    " (+",
    env!("CARGO_PKG_HOMEPAGE"),
    ")"
);

/// Longest user agent, in bytes.
const USER_AGENT_MAX_BYTES: usize = 256;

/// Which certificate authorities are trusted.
#[derive(Clone, Debug, Default)]
pub enum Roots {
    /// The Mozilla list that is compiled in.
    #[default]
    WebPki,
    /// The certificates of this PEM text, and no others.
    Pem(Vec<u8>),
}

/// What TLS may remember from one check to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsPolicy {
    /// A session may be resumed this long after the last full handshake with its name, in
    /// seconds; 0 = every handshake is a full one.
    pub full_every_s: u32,
    /// Names whose sessions are kept per core; 0 = none.
    pub sessions_max: usize,
    /// What those sessions may hold per core, in bytes.
    pub sessions_max_bytes: usize,
    /// Verified chains that are remembered per core; 0 = none.
    pub chains_max: usize,
}

impl Default for TlsPolicy {
    fn default() -> Self {
        Self {
            full_every_s: TLS_FULL_EVERY_DEFAULT_S,
            sessions_max: TLS_SESSIONS_MAX,
            sessions_max_bytes: TLS_SESSIONS_MAX_BYTES,
            chains_max: TLS_CHAINS_MAX,
        }
    }
}

/// Settings of a core's [`Shared`]; plain data, to be sent to the core's thread.
#[derive(Clone, Debug)]
pub struct SharedConfig {
    /// Value of the `User-Agent` field: 1 to 256 printable ASCII characters.
    pub user_agent: String,
    /// Trust anchors for https.
    pub roots: Roots,
    /// What TLS may remember.
    pub tls: TlsPolicy,
    /// Addresses that may be connected to.
    pub guard: Guard,
    /// Connections of cleartext HTTP may carry more than one request, see `Command::Keep`.
    pub reuse: bool,
}

impl SharedConfig {
    /// Whether [`Shared::new`] can use these settings. It leaves nothing behind: what a `Shared`
    /// is made of lives in part as long as the process.
    ///
    /// # Errors
    /// As [`Shared::new`].
    pub fn check(&self) -> Result<(), ProberError> {
        check_user_agent(&self.user_agent)?;
        TlsSettings::check(&self.roots)
    }
}

fn check_user_agent(user_agent: &str) -> Result<(), ProberError> {
    let is_printable = user_agent.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let is_blank = user_agent.trim().is_empty();
    if !is_printable || is_blank || user_agent.len() > USER_AGENT_MAX_BYTES {
        let found = user_agent.to_owned();
        return Err(ProberError::UserAgent { found });
    }
    Ok(())
}

impl Default for SharedConfig {
    fn default() -> Self {
        Self {
            user_agent: DEFAULT_USER_AGENT.to_owned(),
            roots: Roots::default(),
            tls: TlsPolicy::default(),
            guard: Guard::default(),
            reuse: false,
        }
    }
}

/// One per core, borrowed by every attempt. It stays on the core's thread.
#[derive(Debug)]
pub struct Shared {
    pub(crate) fields: CommonFields,
    pub(crate) tls: TlsSettings,
    pub(crate) guard: Guard,
    pub(crate) decoders: Budget,
    pub(crate) reuse: bool,
}

impl Shared {
    /// Builds the settings of a core.
    ///
    /// # Errors
    /// A [`ProberError`] that names the setting which cannot be used.
    pub fn new(config: SharedConfig) -> Result<Self, ProberError> {
        let SharedConfig {
            user_agent,
            roots,
            tls,
            guard,
            reuse,
        } = config;
        check_user_agent(&user_agent)?;
        let tls = TlsSettings::new(&roots, tls)?;
        Ok(Self {
            fields: CommonFields::new(user_agent.trim(), reuse),
            tls,
            guard,
            decoders: Budget::new(DECODERS_MAX_BYTES),
            reuse,
        })
    }

    /// Memory that decoders of bodies hold now, in bytes.
    pub fn decoder_bytes(&self) -> usize {
        self.decoders.used_bytes()
    }

    /// Public keys of certificate issuers that this core keeps parsed.
    pub fn issuer_keys(&self) -> usize {
        self.tls.issuer_keys()
    }

    /// Signatures on certificates of issuers that this core need not compute again.
    pub fn issuer_signatures(&self) -> usize {
        self.tls.issuer_signatures()
    }

    /// Certificate chains that this core remembers as verified.
    pub fn tls_chains(&self) -> usize {
        self.tls.chains()
    }

    /// Names (with their port) whose TLS sessions this core keeps.
    pub fn tls_sessions(&self) -> usize {
        self.tls.sessions()
    }

    /// Memory of those sessions, in bytes: as many as came with them, and no fewer.
    pub fn tls_session_bytes(&self) -> usize {
        self.tls.session_bytes()
    }

    /// Findings of second looks that this core remembers.
    pub fn tls_second_looks(&self) -> usize {
        self.tls.second_looks()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_agent(agent: &str) -> Result<Shared, ProberError> {
        Shared::new(SharedConfig {
            user_agent: agent.to_owned(),
            ..SharedConfig::default()
        })
    }

    #[test]
    fn the_default_user_agent_says_program_version_and_where_to_ask() {
        let version = env!("CARGO_PKG_VERSION");
        let expected = format!("ringwatch/{version} (+https://ringwatch.example/)");
        assert_eq!(DEFAULT_USER_AGENT, expected);
        assert!(Shared::new(SharedConfig::default()).is_ok());
    }

    #[test]
    fn a_user_agent_that_would_break_the_request_is_refused() {
        assert!(with_agent("ringwatch/1 (+https://example.com)").is_ok());
        for bad in ["", "  ", "a\r\nB: c", "é", &"x".repeat(257)] {
            assert!(
                matches!(with_agent(bad), Err(ProberError::UserAgent { .. })),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn a_ca_bundle_without_a_ca_is_refused() {
        let with = |pem: &str| {
            let roots = Roots::Pem(pem.as_bytes().to_vec());
            Shared::new(SharedConfig {
                roots,
                ..SharedConfig::default()
            })
        };
        assert!(matches!(with(""), Err(ProberError::NoRoots { ignored: 0 })));
        let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(
            with(junk),
            Err(ProberError::NoRoots { ignored: 1 })
        ));
        let cut = "-----BEGIN CERTIFICATE-----\nAAAA\n";
        assert!(matches!(with(cut), Err(ProberError::Pem(_))));
    }
}
