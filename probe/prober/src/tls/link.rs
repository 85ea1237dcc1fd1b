//! One TLS connection: rustls' buffered API as a sans-IO machine. Boxed by the attempt, since
//! plain checks must not pay for its size.

use std::borrow::Cow;
use std::io::{BufRead, Write};

use model::FailureClass;
use model::evidence::TlsSeen;
use model::limits::TLS_SECOND_LOOK_MAX_BYTES;
use model::outcome::flags;
use model::time::UnixMs;
use model::url::Scheme;
use rustls::client::ClientConnection;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{AlertDescription, Error, HandshakeKind, PeerIncompatible};

use super::chain::{self, Validity};
use super::classify::class_of;
use super::fingerprint::Fingerprint;
use super::second_look::{Finding, Refusal};
use super::server_hello::sniff_server_hello;
use super::{TlsSettings, legacy_hello, sentence};
use crate::attempt::{AttemptSpec, HostRef};

/// A connection that is to be, or is, secured for one server name.
#[derive(Debug)]
pub(crate) struct TlsLink {
    /// `None` when the host cannot stand in a certificate.
    name: Option<ServerName<'static>>,
    /// Host and port: what is remembered is remembered of them.
    place: Fingerprint,
    /// The handshake is all that is asked for: it is always a full one, and offers no protocol.
    is_bare: bool,
    connection: Option<ClientConnection>,
    /// Whether a byte has come from the server.
    heard: bool,
    /// What has come besides what was decrypted: handshake, tickets, framing.
    hidden_bytes: usize,
    session: Session,
    /// A second connection that looks why the first one was refused.
    look: Option<Look>,
    /// The chain that was refused, leaf first.
    refused: Vec<CertificateDer<'static>>,
    /// The flag of the outcome that says that the chain of this handshake was good by memory.
    spared: u16,
    validity: Option<Validity>,
    fault: Option<Error>,
    /// The remote has said `close_notify`.
    closed: bool,
}

/// The link is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TlsFault {
    pub(crate) class: FailureClass,
    /// The server refused our hello: a second look may tell why.
    pub(crate) refusal: Option<Refusal>,
}

/// What became of what is remembered of an earlier handshake with the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Session {
    /// The handshake is a full one.
    None,
    /// The hello offers it.
    Offered,
    /// The handshake that offered it failed with this class; a full one is to follow.
    Refused(FailureClass),
}

/// A second look.
#[derive(Debug)]
struct Look {
    refusal: Refusal,
    /// What the server has answered, up to [`TLS_SECOND_LOOK_MAX_BYTES`].
    answer: Vec<u8>,
    finding: Option<Finding>,
}

impl TlsLink {
    /// The link of a check that is secured; `None` for the others.
    pub(crate) fn of(spec: &AttemptSpec<'_>) -> Option<Box<Self>> {
        let is_bare = spec.scheme == Scheme::Tls;
        let is_secured = spec.scheme.is_secured();
        is_secured.then(|| Self::new(spec.host, spec.port, is_bare))
    }

    fn new(host: HostRef<'_>, port: u16, is_bare: bool) -> Box<Self> {
        let name = match host {
            HostRef::Name(name) => ServerName::try_from(name).ok().map(|name| name.to_owned()),
            HostRef::Address(address) => Some(ServerName::IpAddress(address.into())),
        };
        let text = match host {
            HostRef::Name(name) => Cow::Borrowed(name),
            HostRef::Address(address) => Cow::Owned(address.to_string()),
        };
        let place = Fingerprint::of([text.as_bytes(), &port.to_be_bytes()]);
        Box::new(Self {
            name,
            place,
            is_bare,
            connection: None,
            heard: false,
            hidden_bytes: 0,
            session: Session::None,
            look: None,
            refused: Vec::new(),
            spared: 0,
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
        settings.attend(self.place, now);
        let Some(name) = self.name.clone() else {
            return Err(TlsFault {
                class: FailureClass::TlsName,
                refusal: None,
            });
        };
        let config = if self.is_bare {
            &settings.bare
        } else {
            &settings.config
        };
        let mut connection =
            ClientConnection::new(config.clone(), name).map_err(|error| self.fault(error))?;
        // A request with 32 long headers is above rustls' default limit of 64 KiB.
        connection.set_buffer_limit(None);
        connection
            .writer()
            .write_all(request)
            .expect("the limit is off: all of it is taken");
        self.connection = Some(connection);
        (self.heard, self.closed, self.fault) = (false, false, None);
        self.spared = 0;
        self.hidden_bytes = 0;
        self.session = if settings.sessions.has_offered() {
            Session::Offered
        } else {
            Session::None
        };
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
        settings.attend(self.place, now);
        self.heard = true;
        let Some(connection) = self.connection.as_mut() else {
            *bytes = &[];
            return Ok(());
        };
        // A slice does not fail; rustls' own buffers are emptied after every piece.
        let Ok(read) = connection.read_tls(bytes) else {
            return Err(self.fault(Error::General("the record buffer is full".to_owned())));
        };
        self.hidden_bytes += read;
        let processed = connection.process_new_packets();
        // At once: before the next bytes of this handshake another one may have its chain judged.
        if settings.verifier.take_remembered() {
            self.spared = flags::TLS_CHAIN_CACHED;
        }
        match processed {
            Ok(state) => {
                self.closed = state.peer_has_closed();
                let decrypted = state.plaintext_bytes_to_read();
                self.hidden_bytes = self.hidden_bytes.saturating_sub(decrypted);
                settings.sessions.settle(|| self.session_bytes());
                Ok(())
            }
            Err(error) => {
                settings.sessions.distrust();
                let refused = settings.verifier.take_refused();
                if !refused.is_empty() {
                    self.validity = chain::validity(&refused, None);
                    self.refused = refused;
                }
                Err(self.fault(error))
            }
        }
    }

    /// What a session of this connection holds at most: all that came, and the chain, which does
    /// not come again where an earlier session is resumed. Where one ticket ends and the next one
    /// begins cannot be told: one record may have both.
    fn session_bytes(&self) -> usize {
        let connection = self.connection.as_ref();
        let resumed =
            connection.filter(|link| link.handshake_kind() == Some(HandshakeKind::Resumed));
        let chain = resumed.and_then(|link| link.peer_certificates());
        let chain_bytes: usize = chain.unwrap_or_default().iter().map(|der| der.len()).sum();
        self.hidden_bytes + chain_bytes
    }

    /// Notes the chain of a handshake that has just succeeded; the flags of the outcome that say
    /// what it was spared.
    pub(crate) fn established(&mut self, settings: &TlsSettings, now: UnixMs) -> u16 {
        let Some(connection) = &self.connection else {
            return 0;
        };
        let chain = connection.peer_certificates().unwrap_or_default();
        self.validity = chain::validity(chain, Some((now.0 / 1_000) as i64));
        settings.second_looks.forget(&self.place);
        if connection.handshake_kind() == Some(HandshakeKind::Resumed) {
            return flags::TLS_RESUMED;
        }
        if let Some(validity) = self.validity.filter(|_| !self.is_bare) {
            settings.sessions.note_full(validity.not_after);
        }
        self.spared
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

    /// What went wrong, as a sentence; what a second look found says more than the refusal.
    pub(crate) fn fault_text(&self) -> Option<String> {
        let refused = self.fault.as_ref().map(sentence::of);
        match self.finding() {
            Some(finding) => sentence::of_finding(finding).or(refused),
            None => refused,
        }
    }

    /// Details for evidence; `None` when the handshake never started.
    pub(crate) fn seen(&self) -> Option<TlsSeen> {
        if let Some((version, cipher)) = self.finding().and_then(Finding::chosen) {
            return Some(TlsSeen {
                version: version.to_owned(),
                cipher,
                ..TlsSeen::default()
            });
        }
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
        let refusal = self.refusal(&error);
        self.fault = Some(error);
        TlsFault { class, refusal }
    }

    /// An alert 40 or 70, or an old hello of its own, that is the first word of the server.
    fn refusal(&self, error: &Error) -> Option<Refusal> {
        let refusal = match *error {
            Error::AlertReceived(
                alert @ (AlertDescription::HandshakeFailure | AlertDescription::ProtocolVersion),
            ) => Refusal::Alert(u8::from(alert)),
            Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13) => {
                Refusal::OldHello
            }
            _ => return None,
        };
        let version = self.connection.as_ref()?.protocol_version();
        version.is_none().then_some(refusal)
    }
}

/// A session that the server refuses.
impl TlsLink {
    /// Whether a handshake that fails now may fail for the session that it offers: the server has
    /// not turned to a full one, and it is not its certificate that is refused.
    pub(crate) fn suspects_session(&self) -> bool {
        let kind = self
            .connection
            .as_ref()
            .and_then(|link| link.handshake_kind());
        self.session == Session::Offered
            && kind != Some(HandshakeKind::Full)
            && self.fault.as_ref().is_none_or(|fault| match fault {
                Error::InvalidCertificate(_) => false,
                fault => class_of(fault) != FailureClass::LocalPressure,
            })
    }

    /// Forgets the session; the handshake that is to follow is a full one.
    pub(crate) fn refuse_session(
        &mut self,
        settings: &TlsSettings,
        class: FailureClass,
        now: UnixMs,
    ) {
        settings.attend(self.place, now);
        settings.sessions.rest();
        self.connection = None;
        self.session = Session::Refused(class);
    }

    /// What the handshake with the session failed with, while the full one has not begun.
    pub(crate) fn refused_session(&self) -> Option<FailureClass> {
        match self.session {
            Session::Refused(class) => Some(class),
            Session::None | Session::Offered => None,
        }
    }

    /// A handshake is given up: the next one is not to stand on what this one offered.
    pub(crate) fn forget_session(&mut self, settings: &TlsSettings, now: UnixMs) {
        settings.attend(self.place, now);
        settings.sessions.distrust();
    }
}

/// The second look.
impl TlsLink {
    /// Whether the server has said nothing at all.
    pub(crate) fn is_unheard(&self) -> bool {
        !self.heard
    }

    /// Whether a second look is under way.
    pub(crate) fn is_looking(&self) -> bool {
        self.look
            .as_ref()
            .is_some_and(|look| look.finding.is_none())
    }

    /// Begins a second look and writes its hello to `out`, unless one of the last 24 h tells.
    pub(crate) fn look_again(
        &mut self,
        settings: &TlsSettings,
        refusal: Refusal,
        out: &mut Vec<u8>,
        now: UnixMs,
    ) -> Option<Finding> {
        settings.attend(self.place, now);
        settings.sessions.distrust();
        let finding = settings
            .second_looks
            .known(&self.place, refusal, now.0 / 1_000);
        self.look = Some(Look {
            refusal,
            answer: Vec::new(),
            finding,
        });
        if finding.is_none() {
            let name = match &self.name {
                Some(ServerName::DnsName(name)) => Some(name.as_ref()),
                _ => None,
            };
            out.clear();
            legacy_hello::write(name, out);
        }
        finding
    }

    /// Takes in what the server says to the second look; `None` = not enough yet.
    pub(crate) fn hear_look(
        &mut self,
        settings: &TlsSettings,
        bytes: &[u8],
        now: UnixMs,
    ) -> Option<Finding> {
        let look = self.look.as_mut()?;
        let room = TLS_SECOND_LOOK_MAX_BYTES - look.answer.len();
        look.answer
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
        let seen = sniff_server_hello(&look.answer);
        let mut finding = Finding::of(seen, |suite| settings.has_suite(suite));
        if look.answer.len() == TLS_SECOND_LOOK_MAX_BYTES {
            finding = finding.or(Some(Finding::Refused));
        }
        if let Some(finding) = finding {
            self.conclude(settings, finding, now);
        }
        finding
    }

    /// The server closes instead of an answer to the second look.
    pub(crate) fn refuse_look(&mut self, settings: &TlsSettings, now: UnixMs) {
        self.conclude(settings, Finding::Refused, now);
    }

    fn conclude(&mut self, settings: &TlsSettings, finding: Finding, now: UnixMs) {
        let Some(look) = &mut self.look else { return };
        look.finding = Some(finding);
        let now_s = now.0 / 1_000;
        settings
            .second_looks
            .remember(self.place, look.refusal, finding, now_s);
    }

    fn finding(&self) -> Option<Finding> {
        self.look.as_ref()?.finding
    }
}
