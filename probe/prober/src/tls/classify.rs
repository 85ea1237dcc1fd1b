//! From a typed rustls error to a failure class.

use model::FailureClass;
use rustls::{AlertDescription, CertificateError, Error};

/// The class of a handshake (or record) that failed with `error`.
pub(super) fn class_of(error: &Error) -> FailureClass {
    match error {
        Error::InvalidCertificate(reason) => class_of_certificate(reason),
        Error::NoCertificatesPresented => FailureClass::TlsUntrusted,
        // What a server without a version or suite in common says. Which of the two it is can
        // only be told by a second connection.
        Error::AlertReceived(
            AlertDescription::HandshakeFailure | AlertDescription::ProtocolVersion,
        ) => FailureClass::TlsHandshake,
        Error::AlertReceived(_) => FailureClass::TlsAlert,
        Error::FailedToGetRandomBytes | Error::FailedToGetCurrentTime => {
            FailureClass::LocalPressure
        }
        _ => FailureClass::TlsHandshake,
    }
}

fn class_of_certificate(reason: &CertificateError) -> FailureClass {
    match reason {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            FailureClass::TlsExpired
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            FailureClass::TlsNotYetValid
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            FailureClass::TlsName
        }
        _ => FailureClass::TlsUntrusted,
    }
}

#[cfg(test)]
mod tests {
    use rustls::{InvalidMessage, PeerIncompatible};

    use super::*;

    #[test]
    fn errors_have_the_class_of_who_is_to_blame() {
        use FailureClass as C;
        let certificate = Error::InvalidCertificate;
        for (error, class) in [
            (certificate(CertificateError::Expired), C::TlsExpired),
            (
                certificate(CertificateError::NotValidYet),
                C::TlsNotYetValid,
            ),
            (certificate(CertificateError::NotValidForName), C::TlsName),
            (
                certificate(CertificateError::UnknownIssuer),
                C::TlsUntrusted,
            ),
            (certificate(CertificateError::BadEncoding), C::TlsUntrusted),
            (certificate(CertificateError::Revoked), C::TlsUntrusted),
            (Error::NoCertificatesPresented, C::TlsUntrusted),
            (
                Error::AlertReceived(AlertDescription::HandshakeFailure),
                C::TlsHandshake,
            ),
            (
                Error::AlertReceived(AlertDescription::ProtocolVersion),
                C::TlsHandshake,
            ),
            (
                Error::AlertReceived(AlertDescription::UnrecognisedName),
                C::TlsAlert,
            ),
            (
                Error::AlertReceived(AlertDescription::NoApplicationProtocol),
                C::TlsAlert,
            ),
            (
                Error::InvalidMessage(InvalidMessage::InvalidContentType),
                C::TlsHandshake,
            ),
            (
                Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13),
                C::TlsHandshake,
            ),
            (Error::DecryptError, C::TlsHandshake),
            (Error::FailedToGetRandomBytes, C::LocalPressure),
        ] {
            assert_eq!(class_of(&error), class, "{error:?}");
        }
    }
}
