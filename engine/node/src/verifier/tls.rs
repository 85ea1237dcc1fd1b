//! TLS between a node and its verifiers: certificates and trust from files. It must not know what
//! is said inside; checks of targets have a TLS of their own.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::exit::bad_input;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn read(path: &Path, what: &str) -> anyhow::Result<Vec<u8>> {
    match fs::read(path) {
        Ok(bytes) => Ok(bytes),
        Err(error) => bad_input(format!(
            "{}: {what} cannot be read ({error}): check the path and its rights",
            path.display()
        )),
    }
}

fn certificates(path: &Path, what: &str) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let text = read(path, what)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        _ => bad_input(format!(
            "{}: {what} has no certificate: PEM is accepted",
            path.display()
        )),
    }
}

/// For who is asked: the chain in `cert` and the key in `key`.
///
/// # Errors
/// When a file cannot be read, or holds something else.
pub(super) fn server(cert: &Path, key: &Path) -> anyhow::Result<Arc<ServerConfig>> {
    let chain = certificates(cert, "verifier.tls_cert")?;
    let text = read(key, "verifier.tls_key")?;
    let Ok(secret) = PrivateKeyDer::from_pem_slice(&text) else {
        let path = key.display();
        return bad_input(format!(
            "{path}: verifier.tls_key has no private key: PEM is accepted"
        ));
    };
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, secret);
    match config {
        Ok(config) => Ok(Arc::new(config)),
        Err(error) => bad_input(format!(
            "{} and {} do not belong together ({error})",
            cert.display(),
            key.display()
        )),
    }
}

/// For who asks: trusts the certificates in `ca_file`, or those that browsers trust.
///
/// # Errors
/// When the file cannot be read, or holds something else.
pub(super) fn client(ca_file: Option<&Path>) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let all = certificates(path, "verifiers.ca_file")?;
            roots.add_parsable_certificates(all);
            if roots.is_empty() {
                return bad_input(format!(
                    "{}: verifiers.ca_file has no usable certificate",
                    path.display()
                ));
            }
        }
    }
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
