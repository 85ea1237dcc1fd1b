//! What all attempts of one core have in common, built once per core: request fields, TLS
//! settings, the guard.

use crate::error::ProberError;
use crate::guard::Guard;
use crate::http1::request::CommonFields;
use crate::tls::TlsSettings;

/// The user agent of a node whose configuration names none.
pub const DEFAULT_USER_AGENT: &str = concat!("ringwatch/", env!("CARGO_PKG_VERSION"));

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

/// Settings of a core's [`Shared`]; plain data, to be sent to the core's thread.
#[derive(Clone, Debug)]
pub struct SharedConfig {
    /// Value of the `User-Agent` field: 1 to 256 printable ASCII characters.
    pub user_agent: String,
    /// Trust anchors for https.
    pub roots: Roots,
    /// Addresses that may be connected to.
    pub guard: Guard,
}

impl Default for SharedConfig {
    fn default() -> Self {
        Self {
            user_agent: DEFAULT_USER_AGENT.to_owned(),
            roots: Roots::default(),
            guard: Guard::default(),
        }
    }
}

/// One per core, borrowed by every attempt.
#[derive(Debug)]
pub struct Shared {
    pub(crate) fields: CommonFields,
    pub(crate) tls: TlsSettings,
    pub(crate) guard: Guard,
}

impl Shared {
    /// Builds the settings of a core that makes a full TLS handshake in every check.
    ///
    /// # Errors
    /// A [`ProberError`] that names the setting which cannot be used.
    pub fn new(config: SharedConfig) -> Result<Self, ProberError> {
        Self::resuming(config, 0)
    }

    /// As [`Shared::new`], with a store of at most `sessions` TLS sessions of this core that may
    /// be resumed; 0 = none.
    ///
    /// # Errors
    /// As [`Shared::new`].
    pub fn resuming(config: SharedConfig, sessions: usize) -> Result<Self, ProberError> {
        let SharedConfig {
            user_agent,
            roots,
            guard,
        } = config;
        let printable = user_agent.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        let length = user_agent.trim().len();
        if !printable || length == 0 || user_agent.len() > USER_AGENT_MAX_BYTES {
            return Err(ProberError::UserAgent { found: user_agent });
        }
        let tls = TlsSettings::new(&roots, sessions)?;
        Ok(Self {
            fields: CommonFields::new(user_agent.trim()),
            tls,
            guard,
        })
    }

    /// Public keys of certificate issuers that this core keeps parsed.
    pub fn issuer_keys(&self) -> usize {
        self.tls.issuer_keys()
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
