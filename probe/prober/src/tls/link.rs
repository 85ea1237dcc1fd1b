//! One TLS connection: rustls' buffered API as a sans-IO machine. Boxed by the attempt, since
//! plain checks must not pay for its size.

use std::io::{BufRead, Write};

use model::FailureClass;
use model::evidence::TlsSeen;
use model::time::UnixMs;
use rustls::client::ClientConnection;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{Error, HandshakeKind};

use super::TlsSettings;
use super::chain::{self, Validity};
use super::classify::class_of;
use crate::attempt::HostRef;

/// A connection that is to be, or is, secured for one server name.
#[derive(Debug)]
pub(crate) struct TlsLink {
    /// `None` when the host cannot stand in a certificate.
    name: Option<ServerName<'static>>,
    connection: Option<ClientConnection>,
    /// The chain that was refused, leaf first.
    refused: Vec<CertificateDer<'static>>,
    validity: Option<Validity>,
    fault: Option<Error>,
    /// The remote has said `close_notify`.
    closed: bool,
}

/// The link is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TlsFault {
    pub(crate) class: FailureClass,
}

impl TlsLink {
    pub(crate) fn new(host: HostRef<'_>) -> Box<Self> {
        let name = match host {
            HostRef::Name(name) => ServerName::try_from(name).ok().map(|name| name.to_owned()),
            HostRef::Address(address) => Some(ServerName::IpAddress(address.into())),
        };
        Box::new(Self {
            name,
            connection: None,
            refused: Vec::new(),
            validity: None,
            fault: None,
            closed: false,
        })
    }

    /// Starts the handshake; `request` follows it as soon as it may.
    ///
    /// # Errors
    /// A [`TlsFault`] when the host has no form that a certificate could name.
    pub(crate) fn open(
        &mut self,
        settings: &TlsSettings,
        request: &[u8],
        now: UnixMs,
    ) -> Result<(), TlsFault> {
        settings.feed(now);
        let Some(name) = self.name.clone() else {
            return Err(TlsFault {
                class: FailureClass::TlsName,
            });
        };
        let mut connection = ClientConnection::new(settings.config.clone(), name)
            .map_err(|error| self.fault(error))?;
        // A request with 32 long headers is above rustls' default limit of 64 KiB.
        connection.set_buffer_limit(None);
        connection
            .writer()
            .write_all(request)
            .expect("the limit is off: all of it is taken");
        self.connection = Some(connection);
        self.closed = false;
        Ok(())
    }

    /// Whether the handshake was started.
    pub(crate) fn is_open(&self) -> bool {
        self.connection.is_some()
    }

    /// Appends what is to be sent to `out`.
    pub(crate) fn write(&mut self, out: &mut Vec<u8>) {
        while let Some(connection) = self.connection.as_mut().filter(|link| link.wants_write()) {
            connection
                .write_tls(out)
                .expect("writing to a Vec does not fail");
        }
    }

    pub(crate) fn wants_write(&self) -> bool {
        self.connection
            .as_ref()
            .is_some_and(|connection| connection.wants_write())
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.connection
            .as_ref()
            .is_none_or(|connection| connection.is_handshaking())
    }

    /// Takes a piece off the front of `bytes`. What it decrypts to is then in
    /// [`TlsLink::plaintext`], also when an error follows it.
    ///
    /// # Errors
    /// A [`TlsFault`]: a refused certificate, an alert, a broken record.
    pub(crate) fn receive(
        &mut self,
        settings: &TlsSettings,
        bytes: &mut &[u8],
        now: UnixMs,
    ) -> Result<(), TlsFault> {
        settings.feed(now);
        let Some(connection) = self.connection.as_mut() else {
            *bytes = &[];
            return Ok(());
        };
        // A slice does not fail; rustls' own buffers are emptied after every piece.
        if connection.read_tls(bytes).is_err() {
            return Err(self.fault(Error::General("the record buffer is full".to_owned())));
        }
        match connection.process_new_packets() {
            Ok(state) => {
                self.closed = state.peer_has_closed();
                Ok(())
            }
            Err(error) => {
                let refused = settings.verifier.take_refused();
                if !refused.is_empty() {
                    self.validity = chain::validity(&refused, None);
                    self.refused = refused;
                }
                Err(self.fault(error))
            }
        }
    }

    /// Notes the chain of a handshake that has just succeeded; whether it resumed a session.
    pub(crate) fn established(&mut self, now: UnixMs) -> bool {
        let Some(connection) = &self.connection else {
            return false;
        };
        let chain = connection.peer_certificates().unwrap_or_default();
        self.validity = chain::validity(chain, Some((now.0 / 1_000) as i64));
        connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The next piece of what was decrypted; empty when there is none.
    pub(crate) fn plaintext(&mut self) -> &[u8] {
        // An `Err` here says "nothing yet" or "closed", which the attempt learns by other means.
        let connection = self.connection.as_mut();
        connection
            .and_then(|link| link.reader().into_first_chunk().ok())
            .unwrap_or_default()
    }

    /// Drops `count` bytes of the piece.
    pub(crate) fn consume(&mut self, count: usize) {
        if let Some(connection) = &mut self.connection {
            connection.reader().consume(count);
        }
    }

    /// Whether the remote has said `close_notify`.
    pub(crate) fn peer_has_closed(&self) -> bool {
        self.closed
    }

    /// Days since the Unix epoch of the earliest `notAfter`; 0 when no chain was seen.
    pub(crate) fn not_after_days(&self) -> u16 {
        self.validity
            .map_or(0, |validity| chain::days(validity.not_after))
    }

    /// What went wrong, in rustls' words.
    pub(crate) fn fault_text(&self) -> Option<String> {
        self.fault.as_ref().map(Error::to_string)
    }

    /// Details for evidence; `None` when the handshake never started.
    pub(crate) fn seen(&self) -> Option<TlsSeen> {
        let connection = self.connection.as_ref()?;
        let version = connection
            .protocol_version()
            .and_then(|version| version.as_str());
        let suite = connection.negotiated_cipher_suite();
        // rustls marks the suites of 1.3 in their names; the IANA names do not.
        let cipher = suite.and_then(|suite| suite.suite().as_str());
        let verified = connection.peer_certificates().unwrap_or_default();
        let chain = if verified.is_empty() {
            &self.refused[..]
        } else {
            verified
        };
        Some(TlsSeen {
            version: version.unwrap_or_default().replace("TLSv1_", "TLSv1."),
            cipher: cipher.unwrap_or_default().replace("TLS13_", "TLS_"),
            subjects: chain::subjects(chain),
            not_after_unix_s: self.validity.map(|validity| validity.not_after),
            not_before_unix_s: self.validity.map(|validity| validity.not_before),
        })
    }

    fn fault(&mut self, error: Error) -> TlsFault {
        let class = class_of(&error);
        self.fault = Some(error);
        TlsFault { class }
    }
}
