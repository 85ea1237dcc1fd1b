//! What went wrong with TLS, as a sentence for people that says who is to blame. The words of the
//! TLS library stay inside: they help nobody who runs a web server.

use rustls::{
    AlertDescription, CertRevocationListError, CertificateError, Error, InvalidMessage,
    PeerIncompatible,
};

use super::chain;
use super::second_look::Finding;

/// Names that a certificate has and that are shown.
const NAMES_SHOWN: usize = 3;

/// The sentence for `error`.
pub(super) fn of(error: &Error) -> String {
    let fixed = match error {
        Error::AlertReceived(alert) => return of_alert(*alert),
        Error::InvalidCertificate(reason) => return of_certificate(reason),
        Error::PeerIncompatible(reason) => of_incompatibility(reason),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the server's answer is not TLS; does the port speak something else, such as plain \
             HTTP?"
        }
        Error::NoCertificatesPresented => "the server sent no certificate",
        Error::NoApplicationProtocol => "the server does not offer HTTP/1.1 over TLS",
        Error::DecryptError => "the server sent a record that does not decrypt",
        Error::PeerSentOversizedRecord => "the server sent a record above the size that TLS allows",
        Error::InvalidCertRevocationList(CertRevocationListError::BadSignature) => {
            "the revocation list of the server's authority is not signed properly"
        }
        Error::FailedToGetCurrentTime | Error::FailedToGetRandomBytes => {
            "this node has no random numbers or no time for TLS; nothing is said of the server"
        }
        _ => "the server broke the TLS protocol during the handshake or after it",
    };
    fixed.to_owned()
}

/// The sentence for what a second look found; `None` when it found no more than the first one.
pub(super) fn of_finding(finding: Finding) -> Option<String> {
    let (version, suite) = finding.chosen()?;
    Some(match finding {
        Finding::Deprecated { .. } => format!(
            "the server speaks {version} at most, which browsers refuse; enable TLS 1.2 or 1.3 on \
             it"
        ),
        _ => format!(
            "the server speaks {version} only with cipher suites that clients give up; it chose \
             {suite}; enable ECDHE with AES-GCM or ChaCha20 on it"
        ),
    })
}

fn of_alert(alert: AlertDescription) -> String {
    let number = u8::from(alert);
    let meaning = match alert {
        AlertDescription::HandshakeFailure => {
            "handshake_failure: it found no version, suite or key exchange in common, or wants a \
             client certificate"
        }
        AlertDescription::ProtocolVersion => {
            "protocol_version: it speaks neither TLS 1.2 nor TLS 1.3 with this client"
        }
        AlertDescription::UnrecognisedName => "unrecognized_name: it does not know this host name",
        AlertDescription::NoApplicationProtocol => {
            "no_application_protocol: it does not offer HTTP/1.1"
        }
        AlertDescription::CertificateRequired => {
            "certificate_required: it wants a client certificate"
        }
        AlertDescription::BadCertificate => "bad_certificate: it wants a client certificate",
        AlertDescription::AccessDenied => "access_denied: it does not let this client in",
        AlertDescription::InternalError => "internal_error: it has trouble of its own",
        AlertDescription::InsufficientSecurity => {
            "insufficient_security: it wants stronger ciphers than TLS 1.2 and 1.3 usually use"
        }
        AlertDescription::DecodeError => "decode_error: it could not read what it was sent",
        AlertDescription::DecryptError => "decrypt_error: a check of its own failed",
        AlertDescription::UnexpectedMessage => "unexpected_message: it expected something else",
        AlertDescription::IllegalParameter => "illegal_parameter: it did not like an option",
        AlertDescription::MissingExtension => "missing_extension: it needs an option more",
        AlertDescription::UserCanceled => "user_canceled: it gave up",
        _ => return format!("the server ended the connection with TLS alert {number}"),
    };
    format!("the server ended the connection with TLS alert {number}, {meaning}")
}

fn of_incompatibility(reason: &PeerIncompatible) -> &'static str {
    match reason {
        PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
        | PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled => {
            "the server chose a version of TLS other than 1.2 and 1.3"
        }
        PeerIncompatible::NoCipherSuitesInCommon => {
            "the server has no cipher suite in common with this client"
        }
        PeerIncompatible::NoKxGroupsInCommon | PeerIncompatible::NoEcPointFormatsInCommon => {
            "the server has no key exchange in common with this client (X25519, P-256 or P-384)"
        }
        PeerIncompatible::NoSignatureSchemesInCommon => {
            "the server's key cannot sign in a way that this client accepts"
        }
        _ => "the server speaks TLS in a way that this client does not",
    }
}

fn of_certificate(reason: &CertificateError) -> String {
    let fixed = match reason {
        CertificateError::ExpiredContext { not_after, .. } => {
            let date = chain::date(not_after.as_secs() as i64);
            return format!("a certificate of the server expired on {date}");
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            let date = chain::date(not_before.as_secs() as i64);
            return format!("a certificate of the server is not valid before {date}");
        }
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => return of_name(&expected.to_str(), presented),
        CertificateError::Other(other) => of_rule(&other.to_string()),
        CertificateError::Expired => "a certificate of the server has expired",
        CertificateError::NotValidYet => "a certificate of the server is not valid yet",
        CertificateError::NotValidForName => {
            "the server's certificate is for other names than this host"
        }
        CertificateError::UnknownIssuer => {
            "the server's certificate does not lead to a trusted authority: it is self-signed, \
             the server leaves out an intermediate certificate, or its root is not among those \
             that are trusted here"
        }
        CertificateError::BadEncoding => "a certificate of the server does not parse",
        CertificateError::BadSignature => {
            "a signature in the server's chain or handshake does not fit its key"
        }
        CertificateError::Revoked => "a certificate of the server was revoked",
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "the server's certificate was not issued for servers"
        }
        CertificateError::UnhandledCriticalExtension => {
            "a certificate of the server has a critical extension that clients do not know"
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "a certificate of the server is signed in a way that is no longer trusted, such as \
             with SHA-1"
        }
        _ => "a certificate of the server cannot be trusted",
    };
    fixed.to_owned()
}

fn of_name(expected: &str, presented: &[String]) -> String {
    if presented.is_empty() {
        return format!("the server's certificate is not for {expected}: it has no host name");
    }
    let shown: Vec<&str> = presented
        .iter()
        .take(NAMES_SHOWN)
        .map(|one| bare(one))
        .collect();
    let others = presented.len() - shown.len();
    let others = if others > 0 {
        format!(" and {others} more")
    } else {
        String::new()
    };
    let shown = shown.join(", ");
    format!("the server's certificate is not for {expected} but for {shown}{others}")
}

/// The library shows a name as `DnsName("e.test")`.
fn bare(name: &str) -> &str {
    name.split('"').nth(1).unwrap_or(name)
}

/// Rules that have no error of their own in the library's interface, by its inner word.
fn of_rule(word: &str) -> &'static str {
    match word {
        "CaUsedAsEndEntity" => {
            "the server shows the certificate of an authority as its own, as self-signed test \
             certificates often do"
        }
        "EndEntityUsedAsCa" => {
            "the server's chain has a certificate signed by one that is not an authority's"
        }
        "NameConstraintViolation" => {
            "the server's authority may not issue certificates for this host name"
        }
        "PathLenConstraintViolated" | "MaximumPathDepthExceeded" => {
            "the server's chain is longer than one of its authorities allows"
        }
        "UnsupportedCertVersion" => "a certificate of the server is not of X.509 version 3",
        "MaximumPathBuildCallsExceeded"
        | "MaximumSignatureChecksExceeded"
        | "MaximumNameConstraintComparisonsExceeded" => {
            "the server's chain takes more work to verify than a client does"
        }
        "SignatureAlgorithmMismatch" => {
            "a certificate of the server says two different things of how it is signed"
        }
        _ => "a certificate of the server breaks a rule of X.509 that clients enforce",
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::{ServerName, UnixTime};
    use rustls::{OtherError, PeerMisbehaved};

    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
    }

    /// An error of the library that is known by its word alone.
    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Word(&'static str);

    fn other(word: &'static str) -> Error {
        let inner = OtherError(std::sync::Arc::new(Word(word)));
        Error::InvalidCertificate(CertificateError::Other(inner))
    }

    fn certificate(error: CertificateError) -> Error {
        Error::InvalidCertificate(error)
    }

    fn wrong_name(presented: &[&str]) -> Error {
        certificate(CertificateError::NotValidForNameContext {
            expected: ServerName::try_from("e.test").expect("a name"),
            presented: presented.iter().map(|&one| one.to_owned()).collect(),
        })
    }

    #[test]
    fn each_sentence_says_what_a_person_needs() {
        let (time, past) = (at(1_767_225_600), at(1_704_067_200));
        let not_after = past;
        for (error, words) in [
            (
                certificate(CertificateError::ExpiredContext { time, not_after }),
                "a certificate of the server expired on 2024-01-01",
            ),
            (
                wrong_name(&["DnsName(\"a.test\")", "DnsName(\"b.test\")"]),
                "the server's certificate is not for e.test but for a.test, b.test",
            ),
            (
                wrong_name(&["a", "b", "c", "d", "e"]),
                "the server's certificate is not for e.test but for a, b, c and 2 more",
            ),
            (wrong_name(&[]), "it has no host name"),
            (other("CaUsedAsEndEntity"), "certificate of an authority"),
            (other("SomethingNew"), "breaks a rule of X.509"),
            (
                Error::AlertReceived(AlertDescription::HandshakeFailure),
                "TLS alert 40, handshake_failure: ",
            ),
            (
                Error::AlertReceived(AlertDescription::Unknown(99)),
                "TLS alert 99",
            ),
            (
                Error::InvalidMessage(InvalidMessage::InvalidContentType),
                "not TLS",
            ),
            (Error::FailedToGetRandomBytes, "this node"),
        ] {
            let sentence = of(&error);
            assert!(sentence.contains(words), "{sentence}");
        }
    }

    #[test]
    fn no_sentence_leaks_the_words_of_the_library() {
        let errors = [
            other("CaUsedAsEndEntity"),
            other("RequiredEkuNotFoundContext(x)"),
            certificate(CertificateError::UnknownIssuer),
            certificate(CertificateError::BadEncoding),
            certificate(CertificateError::UnhandledCriticalExtension),
            certificate(CertificateError::InvalidPurpose),
            Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13),
            Error::PeerIncompatible(PeerIncompatible::NullCompressionRequired),
            Error::PeerMisbehaved(PeerMisbehaved::InvalidKeyShare),
            Error::InvalidMessage(InvalidMessage::InvalidContentType),
            Error::General("x".to_owned()),
            Error::DecryptError,
        ];
        for error in errors {
            let sentence = of(&error);
            let blames = sentence.starts_with("the server") || sentence.starts_with("a ");
            assert!(blames, "{sentence}");
            let inner_capital = |word: &str| {
                let rest = word.get(1..).unwrap_or_default();
                let mixed = rest.contains(char::is_uppercase) && rest.contains(char::is_lowercase);
                mixed || word.contains('(') && word.contains(')')
            };
            let leaked = sentence.split(' ').find(|word| inner_capital(word));
            assert_eq!(leaked, None, "{sentence}");
        }
    }
}
