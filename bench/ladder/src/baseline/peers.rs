//! Whom the baselines connect to: the farm's sites, resolved once before anything is measured.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RData, RecordType};

/// One site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(super) address: SocketAddr,
    /// Name, for SNI.
    pub(super) host: String,
    /// Value of the `Host` field.
    pub(super) authority: String,
}

/// Tries of one query: the farm is on this machine, a lost datagram means that it is busy.
const TRIES: usize = 5;
const TRY_LIMIT: Duration = Duration::from_secs(1);

/// Reads the farm's `targets.csv` and resolves every name.
pub(crate) fn resolve_all(csv: &str, dns: SocketAddr) -> Result<Vec<Peer>> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(dns)?;
    socket.set_read_timeout(Some(TRY_LIMIT))?;
    let rows = csv.lines().skip(1).filter(|line| !line.is_empty());
    rows.enumerate()
        .map(|(index, row)| {
            let (host, port) = parse_row(row).with_context(|| format!("odd target row: {row}"))?;
            let ip = resolve(&socket, &host, index as u16)?;
            let authority = format!("{host}:{port}");
            Ok(Peer {
                address: SocketAddr::new(ip, port),
                host,
                authority,
            })
        })
        .collect()
}

/// Host and port of `http(s)://host:port/,…`.
fn parse_row(row: &str) -> Option<(String, u16)> {
    let (_, rest) = row.split(',').next()?.split_once("://")?;
    let (host, port) = rest.split('/').next()?.rsplit_once(':')?;
    Some((host.to_owned(), port.parse().ok()?))
}

fn resolve(socket: &UdpSocket, host: &str, id: u16) -> Result<IpAddr> {
    let mut message = Message::query();
    message.metadata.id = id;
    message.add_query(Query::query(
        Name::from_ascii(format!("{host}."))?,
        RecordType::A,
    ));
    let query = message.to_vec()?;
    let mut buffer = [0; 1_232];
    for _ in 0..TRIES {
        socket.send(&query)?;
        let Ok(size) = socket.recv(&mut buffer) else {
            continue;
        };
        let answer = Message::from_vec(&buffer[..size])?;
        if answer.metadata.id == id {
            let address = answer.answers.iter().find_map(|record| match &record.data {
                RData::A(address) => Some(IpAddr::V4(address.0)),
                _ => None,
            });
            return address.with_context(|| format!("{host} has no address"));
        }
    }
    bail!("{host}: no answer from the farm's DNS in {TRIES} tries")
}

/// Writes the peers for a child process: `address authority`, one a line.
pub(crate) fn write(peers: &[Peer], file: &Path) -> Result<()> {
    let lines: Vec<String> = peers
        .iter()
        .map(|peer| format!("{} {}\n", peer.address, peer.authority))
        .collect();
    std::fs::write(file, lines.concat()).with_context(|| format!("cannot write {}", file.display()))
}

/// Reads what [`write()`] wrote.
pub(super) fn read(file: &Path) -> Result<Vec<Peer>> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let peers: Option<Vec<Peer>> = text.lines().map(parse_peer).collect();
    peers
        .filter(|peers| !peers.is_empty())
        .with_context(|| format!("odd {}", file.display()))
}

fn parse_peer(line: &str) -> Option<Peer> {
    let (address, authority) = line.split_once(' ')?;
    let (host, _) = authority.rsplit_once(':')?;
    let (host, authority) = (host.to_owned(), authority.to_owned());
    Some(Peer {
        address: address.parse().ok()?,
        host,
        authority,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_survive_their_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("peers");
        let peer = Peer {
            address: SocketAddr::from(([127, 1, 0, 9], 8_443)),
            host: "s-0000009.farm.test".to_owned(),
            authority: "s-0000009.farm.test:8443".to_owned(),
        };
        write(std::slice::from_ref(&peer), &file).expect("written");
        assert_eq!(read(&file).expect("read"), [peer]);
        std::fs::write(&file, "").expect("written");
        assert!(read(&file).is_err());
    }

    #[test]
    fn a_target_row_gives_host_and_port() {
        let row = "https://s-0000009.farm.test:8443/,10,2000";
        assert_eq!(
            parse_row(row),
            Some(("s-0000009.farm.test".to_owned(), 8_443))
        );
        assert_eq!(parse_row("url,interval_s"), None);
    }

    #[test]
    fn a_name_is_resolved_by_a_real_datagram() {
        let server = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let address = server.local_addr().expect("bound");
        let answer = std::thread::spawn(move || {
            let mut buffer = [0; 512];
            let (size, from) = server.recv_from(&mut buffer).expect("a query");
            let query = Message::from_vec(&buffer[..size]).expect("a message");
            let mut reply = query.clone().into_response();
            let name = query.queries[0].name().clone();
            let data = RData::A(std::net::Ipv4Addr::new(127, 1, 2, 3).into());
            reply.add_answer(hickory_proto::rr::Record::from_rdata(name, 60, data));
            server
                .send_to(&reply.to_vec().expect("encodes"), from)
                .expect("sent");
        });
        let peers = resolve_all("url\nhttp://a.farm.test:80/\n", address).expect("resolved");
        answer.join().expect("answered");
        assert_eq!(peers[0].address, SocketAddr::from(([127, 1, 2, 3], 80)));
    }
}
