//! Real name servers on loopback: nsd with zones of ours, and unbound that asks it.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Starts on ports that may be taken meanwhile.
const TRIES: usize = 10;

/// The zone that nsd serves.
pub(super) const ZONE: &str = "rw.example";
/// A zone that unbound expects of nsd, which does not serve it.
pub(super) const LAME_ZONE: &str = "lame.example";
/// Addresses of the name whose answer fits no datagram.
const BIG: u8 = 200;

/// A server of this test alone; ended when dropped.
pub(super) struct Server(Child);

impl Server {
    /// Starts it in the foreground and waits until it says that it is `ready`; `None` when it ends
    /// before: somebody else has its port.
    pub(super) fn start(mut command: Command, ready: &str) -> Option<Self> {
        let mut child = command
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let stderr = child.stderr.take().expect("it is a pipe");
        let mut lines = BufReader::new(stderr).lines();
        let is_ready = lines
            .by_ref()
            .any(|line| line.expect("text").contains(ready));
        if !is_ready {
            child.wait().expect("it has ended");
            return None;
        }
        // A full pipe would stop the server.
        std::thread::spawn(move || lines.for_each(drop));
        Some(Self(child))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Asked and not killed: nsd ends its own children.
        let pid = Pid::from_child(&self.0);
        kill_process(pid, Signal::TERM).expect("a child of ours");
        self.0.wait().expect("it ends");
    }
}

/// Both servers.
pub(super) struct NameServers {
    /// Answers for [`ZONE`] alone.
    pub(super) nsd: SocketAddr,
    /// Asks nsd.
    pub(super) unbound: SocketAddr,
    _servers: [Server; 2],
    _folder: TempDir,
}

impl NameServers {
    /// The ports are free when they are chosen; on a busy machine another one may be faster.
    pub(super) fn start() -> Self {
        let started = (0..TRIES).find_map(|_| Self::start_once());
        started.expect("both servers start on free ports")
    }

    fn start_once() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let (nsd, unbound) = (free_port(), free_port());
        write(folder.path(), "zone", &zone());
        write(folder.path(), "nsd.conf", &nsd_conf(folder.path(), nsd));
        let conf = unbound_conf(folder.path(), unbound, nsd);
        write(folder.path(), "unbound.conf", &conf);
        let command = |name: &str| {
            let mut command = Command::new(rig::program(name));
            command.arg("-d");
            command
                .arg("-c")
                .arg(folder.path().join(format!("{name}.conf")));
            command
        };
        let nsd_server = Server::start(command("nsd"), "nsd started")?;
        let unbound_server = Server::start(command("unbound"), "start of service")?;
        Some(Self {
            nsd,
            unbound,
            _servers: [nsd_server, unbound_server],
            _folder: folder,
        })
    }
}

fn free_port() -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    socket.local_addr().expect("bound")
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).expect("the file is written");
}

fn nsd_conf(folder: &Path, at: SocketAddr) -> String {
    let (folder, port) = (folder.display(), at.port());
    format!(
        "server:\n ip-address: 127.0.0.1@{port}\n do-ip6: no\n username: \"\"\n chroot: \"\"\n \
         server-count: 1\n verbosity: 1\n rrl-ratelimit: 0\n zonesdir: \"{folder}\"\n \
         zonelistfile: \"{folder}/zone.list\"\n xfrdfile: \"{folder}/xfrd.state\"\n \
         xfrdir: \"{folder}\"\n pidfile: \"{folder}/nsd.pid\"\n database: \"\"\n\
         remote-control:\n control-enable: no\n\
         zone:\n name: \"{ZONE}\"\n zonefile: \"zone\"\n"
    )
}

fn unbound_conf(folder: &Path, at: SocketAddr, nsd: SocketAddr) -> String {
    let (folder, port) = (folder.display(), at.port());
    let mut text = format!(
        "server:\n interface: 127.0.0.1\n port: {port}\n do-ip6: no\n do-daemonize: no\n \
         username: \"\"\n chroot: \"\"\n directory: \"{folder}\"\n pidfile: \"\"\n \
         use-syslog: no\n logfile: \"\"\n verbosity: 1\n num-threads: 1\n \
         module-config: \"iterator\"\n do-not-query-localhost: no\n \
         access-control: 127.0.0.0/8 allow\nremote-control:\n control-enable: no\n"
    );
    for zone in [ZONE, LAME_ZONE] {
        let port = nsd.port();
        writeln!(
            text,
            "stub-zone:\n name: \"{zone}\"\n stub-addr: 127.0.0.1@{port}"
        )
        .expect("a String");
    }
    text
}

/// Chains `to-8` and `to-9` of so many CNAMEs, a loop, a name with many addresses, one with none,
/// and one with both families.
fn zone() -> String {
    let mut zone = format!(
        "$ORIGIN {ZONE}.\n$TTL 300\n\
         @ IN SOA ns hostmaster 1 3600 600 86400 60\n@ IN NS ns\nns IN A 127.0.0.1\n\
         @ IN MX 10 mail\n@ IN MX 20 backup.Other.Example.\n\
         @ IN CAA 0 issue \"ca.example\"\n@ IN TXT \"v=spf1 \" \"-all\"\n\
         _sip._tcp IN SRV 0 5 5060 sip\nback IN PTR www\nwww IN A 127.0.0.1\n\
         dual IN A 127.0.0.1\ndual IN AAAA ::1\nmail IN TXT \"no address\"\n\
         loop IN CNAME pool\npool IN CNAME loop\nto-0 IN A 127.0.0.1\n"
    );
    for n in 1..=9 {
        writeln!(zone, "to-{n} IN CNAME to-{}", n - 1).expect("a String");
    }
    for last in 1..=BIG {
        writeln!(zone, "big IN A 127.9.9.{last}").expect("a String");
    }
    zone
}
