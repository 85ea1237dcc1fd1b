//! Upstream resolvers of the system, for when none is configured.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use crate::exit::bad_input;

/// Where the system keeps its resolvers, the first readable one wins.
const FILES: [&str; 2] = ["/run/systemd/resolve/resolv.conf", "/etc/resolv.conf"];

/// `configured`, or else the resolvers of the system; each once, as what two of them say counts
/// for more than what one says twice.
pub(crate) fn find(configured: &[SocketAddr]) -> anyhow::Result<Vec<SocketAddr>> {
    if !configured.is_empty() {
        return Ok(each_once(configured));
    }
    for file in FILES {
        let text = std::fs::read_to_string(Path::new(file)).unwrap_or_default();
        let found = each_once(&parse(&text));
        if !found.is_empty() {
            return Ok(found);
        }
    }
    bad_input(format!(
        "no DNS resolver is configured and none is in {}: give one with --dns ADDR[:PORT]",
        FILES.join(" or ")
    ))
}

fn each_once(servers: &[SocketAddr]) -> Vec<SocketAddr> {
    let place = |server: &SocketAddr| (server.ip().to_canonical(), server.port());
    let mut seen = HashSet::new();
    let servers = servers.iter().filter(|server| seen.insert(place(server)));
    servers.copied().collect()
}

/// The `nameserver` lines of a resolv.conf; loopback stubs only when there is nothing else.
fn parse(text: &str) -> Vec<SocketAddr> {
    let server = |line: &str| -> Option<SocketAddr> {
        let mut words = line.split_whitespace();
        let address = words
            .next()
            .filter(|&word| word == "nameserver")
            .and(words.next())?;
        let address: IpAddr = address.parse().ok()?;
        Some(SocketAddr::new(address, 53))
    };
    let all: Vec<SocketAddr> = text.lines().filter_map(server).collect();
    let remote: Vec<SocketAddr> = all
        .iter()
        .copied()
        .filter(|server| !server.ip().is_loopback())
        .collect();
    if remote.is_empty() { all } else { remote }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loopback_stub_is_used_only_when_it_is_alone() {
        let both = "# x\nnameserver 127.0.0.53\nnameserver 9.9.9.9\noptions edns0\n";
        assert_eq!(parse(both), ["9.9.9.9:53".parse().expect("address")]);
        assert_eq!(
            parse("nameserver ::1\nsearch a b"),
            ["[::1]:53".parse().expect("address")]
        );
        assert_eq!(parse("nameserver fe80::1%eth0\n"), []);
    }

    #[test]
    fn configured_upstreams_are_used_as_they_are() {
        let configured = ["127.0.0.1:5353".parse().expect("address")];
        assert_eq!(find(&configured).expect("given"), configured);
    }

    /// Lesson: a resolver that was given twice agreed with itself that a name does not exist.
    #[test]
    fn a_resolver_that_is_given_twice_is_one() {
        let given = ["127.0.0.1:53", "[::ffff:127.0.0.1]:53", "127.0.0.1:5353"];
        let given = given.map(|text| text.parse().expect("address"));
        assert_eq!(find(&given).expect("given"), [given[0], given[2]]);
    }
}
