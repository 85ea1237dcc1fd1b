//! TLS to the server: verified, only encrypted, or none.

use store::{Store, StoreError};

use super::{Mysql, url};
use crate::fixture::Backend;
use rig::mariadb;

fn address(backend: &Mysql, options: &str) -> store::StoreUrl {
    let address = mariadb::shared().address("secure", &backend.name);
    url(&format!("{address}?{options}"))
}

/// A user whom the server lets in over TLS alone.
fn allow_secure(backend: &Mysql) {
    mariadb::shared().sql(&format!(
        "CREATE USER IF NOT EXISTS secure@'%' IDENTIFIED BY 'pa:ss@word' REQUIRE SSL;
         GRANT ALL ON `{}`.* TO secure@'%';",
        backend.name
    ));
}

#[tokio::test]
async fn a_server_with_a_certificate_of_the_named_authority_is_trusted() {
    let backend = Mysql::fresh();
    allow_secure(&backend);
    let authority = mariadb::shared().ca_file();
    let options = format!("tls=verify&tls_ca={}", authority.display());
    let store = Store::open(&address(&backend, &options))
        .await
        .expect("trusted");
    assert_eq!(store.counts().await.expect("counts").targets, 0);
}

#[tokio::test]
async fn an_unknown_authority_is_refused_unless_nobody_asks() {
    let backend = Mysql::fresh();
    allow_secure(&backend);
    let error = Store::open(&address(&backend, "tls=verify"))
        .await
        .expect_err("untrusted");
    let sentence = error.to_string();
    assert!(matches!(error, StoreError::Tls { .. }), "{sentence}");
    assert!(sentence.contains("tls_ca=FILE"), "{sentence}");
    let encrypted = Store::open(&address(&backend, "tls=required")).await;
    encrypted.expect("encrypted, whoever it is");
    let plain = Store::open(&address(&backend, "tls=off")).await;
    let error = plain.expect_err("the server wants TLS of this user");
    assert!(matches!(error, StoreError::LoginRefused { .. }), "{error}");
}

#[tokio::test]
async fn a_missing_file_of_the_authority_is_told_as_that() {
    let backend = Mysql::fresh();
    let missing = address(&backend, "tls=verify&tls_ca=/nowhere/ca.pem");
    let error = Store::open(&missing).await.expect_err("no file");
    let sentence = error.to_string();
    assert!(matches!(error, StoreError::Tls { .. }), "{sentence}");
    assert!(sentence.contains("tls_ca cannot be read"), "{sentence}");
}

#[tokio::test]
async fn a_socket_needs_no_tls() {
    let backend = Mysql::fresh();
    let socket = mariadb::shared().socket();
    let options = format!("socket={}", socket.display());
    let direct = mariadb::shared().address("ringwatch", &backend.name);
    let store = Store::open(&url(&format!("{direct}?{options}"))).await;
    assert_eq!(
        store.expect("opens").counts().await.expect("counts").jobs,
        0
    );
}
