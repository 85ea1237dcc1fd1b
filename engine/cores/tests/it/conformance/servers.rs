//! Real web servers on loopback, each in every way in which it frames, codes and redirects: one
//! table of what they can do, and of what comes of every check, played on both drivers.
//!
//! What a server cannot be made to do stands in its table with the reason.

mod caddy;
mod cells;
mod haproxy;
mod lighttpd;
mod nginx;

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use model::inbox::{CoreCommand, OneShotReport};
use model::{FailureClass, Ticket};
use tempfile::TempDir;

use super::name_servers::Server;
use super::openssl::certificate;
use super::peers::Tls;
use super::real::RealRig;
use super::{Rig, TRIES, drivers, target_of};
use cells::{Cell, Seen, cells};

/// Starts on ports that may be taken meanwhile.
const STARTS: usize = 10;
/// Checks at a time.
const AT_ONCE: usize = 32;
/// Of the page that every server has: more than a read and a pipe take, and not compressible to
/// so little.
const PAGE_BYTES: usize = 300_000;
/// How the page ends.
const LAST_WORDS: &str = "the very last words";

/// Where a server listens.
#[derive(Clone, Copy, Debug)]
struct Ports {
    http: u16,
    https: u16,
    /// TLS 1.2 alone.
    tls12: u16,
    /// TLS 1.3 alone.
    tls13: u16,
}

impl Ports {
    /// Free ones; somebody else may take them before the server does.
    fn choose() -> Self {
        let listen = |()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let held = [(); 4].map(listen);
        let ports = held.map(|listener| listener.local_addr().expect("bound").port());
        let [http, https, tls12, tls13] = ports;
        Self {
            http,
            https,
            tls12,
            tls13,
        }
    }
}

/// How a body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length,
    Chunked,
    Close,
}

/// How a body is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Identity,
    Gzip,
}

/// A way to send the page, and the path where the server does it; or why it cannot.
type Way = (Framing, Coding, Result<&'static str, &'static str>);

/// A kind of server: how it is set up and started, and what it can do.
///
/// Besides its ways, each has `/by-method` (200 to GET, 204 to HEAD), `/empty` (204), `/down`
/// (503), no `/absent`, and the redirects (301) `/moved`, `/secure` and `/plain` to `/by-method`,
/// on the port it came to, on that of HTTPS and on that of HTTP, and `/loop` to itself.
struct Brand {
    name: &'static str,
    /// Writes its configuration into the folder with the pages and certificates.
    configure: fn(&Path, Ports),
    /// Runs in the foreground and says on stderr what it does.
    command: fn(&Path) -> Command,
    /// What it says once its ports are open.
    ready: &'static str,
    ways: [Way; 6],
    /// What a check finds that speaks plain HTTP to the port of HTTPS.
    unsecured: Seen,
}

/// A running server of a kind; ended when dropped.
struct Started {
    ports: Ports,
    tls: Tls,
    _server: Server,
    _folder: TempDir,
}

impl Started {
    /// The ports are free when they are chosen; on a busy machine somebody may be faster.
    fn new(brand: &'static Brand) -> Self {
        let started = (0..STARTS).find_map(|_| Self::once(brand));
        started.unwrap_or_else(|| panic!("{} does not start", brand.name))
    }

    fn once(brand: &'static Brand) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let tls = certificate(folder.path());
        write_pages(folder.path());
        let ports = Ports::choose();
        (brand.configure)(folder.path(), ports);
        let mut command = (brand.command)(folder.path());
        command.current_dir(folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let server = Server::start(command, brand.ready)?;
        Some(Self {
            ports,
            tls,
            _server: server,
            _folder: folder,
        })
    }
}

/// The page as it is and packed, and certificate and key in one file as well.
fn write_pages(folder: &Path) {
    std::fs::create_dir(folder.join("site")).expect("a new folder");
    write(folder, "site/page.txt", page().as_bytes());
    write(folder, "site/page.txt.gz", &packed());
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect("written before");
    let both = read("cert.pem") + &read("key.pem");
    write(folder, "both.pem", both.as_bytes());
}

fn write(folder: &Path, name: &str, content: &[u8]) {
    std::fs::write(folder.join(name), content).expect("the file is written");
}

/// Letters and digits without a pattern, so that no configuration finds a meaning in them.
fn page() -> String {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ";
    let mut state = 1_u32;
    let letters = (LAST_WORDS.len()..PAGE_BYTES).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(LETTERS[(state >> 24) as usize % LETTERS.len()])
    });
    letters.collect::<String>() + LAST_WORDS
}

fn packed() -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(page().as_bytes()).expect("memory");
    encoder.finish().expect("memory")
}

/// Makes every check, some at a time; again where the machine of the test was too busy to judge.
fn reports(rig: &mut RealRig, cells: &[Cell]) -> Vec<OneShotReport> {
    let mut reports: Vec<Option<OneShotReport>> = cells.iter().map(|_| None).collect();
    for _ in 0..TRIES {
        let open: Vec<usize> = (0..cells.len())
            .filter(|&at| reports[at].is_none())
            .collect();
        for some in open.chunks(AT_ONCE) {
            for &at in some {
                rig.tell(CoreCommand::OneShot {
                    target: target_of(&cells[at].spec),
                    ticket: Ticket(at as u64),
                });
            }
            for report in some.iter().map(|_| rig.report()) {
                let was_judged = report.outcome.failure() != Some(FailureClass::LocalPressure);
                let at = report.ticket.0 as usize;
                reports[at] = was_judged.then_some(report);
            }
        }
    }
    let judged = reports.into_iter();
    judged
        .map(|report| report.expect("the core could judge once"))
        .collect()
}

/// Every cell of a server's table on each driver that is to be had here.
fn every_cell_is_as_the_table_says(brand: &'static Brand) {
    let server = Started::new(brand);
    let cells = cells(brand, server.ports);
    for driver in drivers() {
        let mut rig = RealRig::new(driver, &server.tls).expect("the kernel gives out this driver");
        let reports = reports(&mut rig, &cells);
        let complaints = cells
            .iter()
            .zip(&reports)
            .filter_map(|(cell, report)| cell.judge(report));
        let complaints: Vec<String> = complaints.collect();
        assert!(
            complaints.is_empty(),
            "{} on {driver:?}:\n{}",
            brand.name,
            complaints.join("\n")
        );
        let stats = Arc::clone(&rig.core.stats);
        rig.stop();
        let least: u64 = cells.iter().map(|cell| cell.body_bytes).sum();
        assert!(
            least > 0 && stats.snapshot().bytes_in >= least,
            "every body was read to its end"
        );
    }
}

#[test]
fn nginx_is_read_as_it_is_meant() {
    every_cell_is_as_the_table_says(&nginx::BRAND);
}

#[test]
fn caddy_is_read_as_it_is_meant() {
    every_cell_is_as_the_table_says(&caddy::BRAND);
}

#[test]
fn haproxy_is_read_as_it_is_meant() {
    every_cell_is_as_the_table_says(&haproxy::BRAND);
}

#[test]
fn lighttpd_is_read_as_it_is_meant() {
    every_cell_is_as_the_table_says(&lighttpd::BRAND);
}

#[test]
fn every_way_to_send_a_page_is_in_every_table_with_a_path_or_a_reason() {
    for brand in [
        &nginx::BRAND,
        &caddy::BRAND,
        &haproxy::BRAND,
        &lighttpd::BRAND,
    ] {
        for framing in [Framing::Length, Framing::Chunked, Framing::Close] {
            for coding in [Coding::Identity, Coding::Gzip] {
                let is_it = |way: &&Way| (way.0, way.1) == (framing, coding);
                let mut found = brand.ways.iter().filter(is_it);
                let way = found.next().expect("it is there");
                let told = format!("{} {framing:?} {coding:?}", brand.name);
                assert!(found.next().is_none(), "{told} is there twice");
                let is_told = match way.2 {
                    Ok(path) => path.starts_with('/'),
                    Err(reason) => reason.len() > 20,
                };
                assert!(is_told, "{told}: {:?}", way.2);
            }
        }
    }
}
