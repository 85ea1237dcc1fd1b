//! Real servers of today and of long ago: `openssl s_server` in all its ages, on both drivers.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use model::FailureClass;
use model::outcome::flags;
use rcgen::{CertificateParams, KeyPair};

use super::peers::{SITE, Tls, authority};
use super::real::RealRig;
use super::{check, drivers};

/// What OpenSSL 3 speaks only when its security level is lowered.
const OLD: &str = "ALL:@SECLEVEL=0";

/// One `openssl s_server` that answers every GET with a page; stopped when dropped.
struct Server {
    child: Child,
    port: u16,
    /// It would end if nobody held the other end.
    _says: BufReader<ChildStdout>,
}

impl Server {
    fn start(folder: &Path, args: &[&str]) -> Self {
        Self::start_at(folder, 0, args)
    }

    /// On this port; 0: any free one.
    fn start_at(folder: &Path, port: u16, args: &[&str]) -> Self {
        let mut child = Command::new("openssl")
            .args(["s_server", "-www", "-accept", &format!("127.0.0.1:{port}")])
            .args(["-cert", "cert.pem", "-key", "key.pem"])
            .args(args)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl is missing: `cargo xtask test` installs it or says how");
        let mut says = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        let port = loop {
            line.clear();
            let read = says.read_line(&mut line).expect("readable");
            assert!(read > 0, "openssl ended at once: {args:?}");
            // It tells the port that it was not given.
            match line.trim().strip_prefix("ACCEPT") {
                Some("") if port != 0 => break port,
                Some(at) => {
                    break at
                        .trim_start_matches(" 127.0.0.1:")
                        .parse()
                        .expect("a port");
                }
                None => {}
            }
        };
        Self {
            child,
            port,
            _says: says,
        }
    }

    fn url(&self) -> String {
        format!("https://{SITE}:{}/", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes a certificate for [`SITE`] with an RSA key, which old suites need; who trusts it.
pub(super) fn certificate(folder: &Path) -> Tls {
    let (ca_pem, issuer) = authority();
    let key = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("a key");
    let params = CertificateParams::new(vec![SITE.to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");
    std::fs::write(folder.join("cert.pem"), certificate.pem()).expect("written");
    std::fs::write(folder.join("key.pem"), key.serialize_pem()).expect("written");
    Tls {
        ca_pem,
        ..Tls::new()
    }
}

/// A core on each driver that is to be had here.
fn on_each_driver(tls: &Tls, conforms: impl Fn(&mut RealRig)) {
    for driver in drivers() {
        let mut rig = RealRig::new(driver, tls).expect("the kernel gives out this driver");
        conforms(&mut rig);
        super::Rig::stop(rig);
    }
}

#[test]
fn servers_of_every_age_have_their_class() {
    use FailureClass as C;
    let folder = tempfile::tempdir().expect("a folder");
    let tls = certificate(folder.path());
    let servers: Vec<(Server, Option<C>, &str)> = [
        (&["-tls1_3"][..], None, ""),
        (&["-tls1_2"], None, ""),
        (
            &["-tls1_1", "-cipher", OLD],
            Some(C::TlsDeprecated),
            "TLSv1.1",
        ),
        (
            &["-tls1", "-cipher", OLD],
            Some(C::TlsDeprecated),
            "TLSv1.0",
        ),
        (
            &["-tls1_2", "-cipher", "ECDHE-RSA-AES128-SHA"],
            Some(C::TlsUnsupported),
            "TLSv1.2",
        ),
        (
            &["-tls1_2", "-cipher", "AES256-SHA256"],
            Some(C::TlsUnsupported),
            "TLSv1.2",
        ),
        // It has suites of ours, but no key exchange.
        (&["-groups", "P-521"], Some(C::TlsHandshake), ""),
    ]
    .into_iter()
    .map(|(args, class, version)| (Server::start(folder.path(), args), class, version))
    .collect();
    on_each_driver(&tls, |rig| {
        // The second time the finding is remembered.
        for _ in 0..2 {
            for (server, class, version) in &servers {
                let report = check(rig, &server.url(), 5_000);
                let (outcome, evidence) = (report.outcome, report.evidence);
                assert_eq!(outcome.failure(), *class, "{evidence:?}");
                let [_, connect, tls, ttfb, ..] = outcome.phases.values();
                assert!(connect.is_some() && tls.is_some());
                assert_eq!(ttfb.is_some(), class.is_none(), "{:?}", outcome.phases);
                if !version.is_empty() {
                    let seen = evidence.tls.expect("TLS");
                    assert_eq!(seen.version, *version);
                    assert!(evidence.text.contains("the server speaks TLSv1"));
                }
            }
        }
        assert_eq!(rig.core.stats.snapshot().tls_second_looks, 5);
    });
}

#[test]
fn sessions_of_a_real_server_are_resumed_and_its_chain_is_verified_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let tls = certificate(folder.path());
    let servers = ["-tls1_3", "-tls1_2"].map(|age| Server::start(folder.path(), &[age]));
    on_each_driver(&tls, |rig| {
        let mut told = Vec::new();
        for server in &servers {
            for _ in 0..3 {
                let outcome = check(rig, &server.url(), 5_000).outcome;
                assert_eq!(outcome.failure(), None);
                assert!(outcome.not_after_days > 0);
                told.push(outcome.flags & (flags::TLS_RESUMED | flags::TLS_CHAIN_CACHED));
            }
        }
        let (resumed, cached) = (flags::TLS_RESUMED, flags::TLS_CHAIN_CACHED);
        // The other port has the same name and chain, but sessions of its own.
        assert_eq!(told, [0, resumed, resumed, cached, resumed, resumed]);
    });
}

#[test]
fn a_server_that_was_restarted_turns_to_a_full_handshake_by_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let tls = certificate(folder.path());
    on_each_driver(&tls, |rig| {
        for age in ["-tls1_3", "-tls1_2"] {
            let server = Server::start(folder.path(), &[age]);
            let (url, port) = (server.url(), server.port);
            let told = |rig: &mut RealRig| {
                let outcome = check(rig, &url, 5_000).outcome;
                assert_eq!(outcome.failure(), None, "{age}");
                outcome.flags & (flags::TLS_RESUMED | flags::TLS_SESSION_REFUSED)
            };
            assert_eq!([told(rig), told(rig)], [0, flags::TLS_RESUMED]);
            drop(server);
            // Its keys for tickets are new ones.
            let _server = Server::start_at(folder.path(), port, &[age]);
            assert_eq!([told(rig), told(rig)], [0, flags::TLS_RESUMED], "{age}");
        }
    });
}
