//! What the resolver said of the hop's host, and what that means for a person: whose fault it is,
//! as far as it can be told. It knows nothing of connections.

use std::net::{IpAddr, SocketAddr};

use model::FailureClass;
use model::evidence::DnsSeen;
use model::limits::{DNS_ADDRESSES_MAX, DNS_SICK_WINDOW_MS};

use crate::resolver::{DnsFailure, NamesFailing, Records, ResolvedName};

/// What DNS said.
#[derive(Debug, Default)]
pub(super) struct Dns {
    asked: bool,
    tries: u8,
    rcode: Option<u16>,
    server: Option<SocketAddr>,
    /// How many addresses the name has.
    offered: u8,
    /// Why the preferred family could not be had.
    lacks: Option<FailureClass>,
}

impl Dns {
    pub(super) fn of_name(name: &ResolvedName) -> Self {
        Self {
            asked: true,
            tries: name.tries,
            rcode: name.rcode,
            server: name.server,
            offered: name.addresses.offered(),
            lacks: name.lacks,
        }
    }

    pub(super) fn of_records(records: &Records) -> Self {
        Self {
            asked: true,
            tries: records.tries,
            rcode: Some(0),
            server: records.server,
            offered: 0,
            lacks: None,
        }
    }

    pub(super) fn of_failure(failure: &DnsFailure) -> Self {
        Self {
            asked: true,
            tries: failure.tries,
            rcode: failure.rcode,
            server: failure.server,
            offered: 0,
            lacks: None,
        }
    }

    /// For evidence, if anything was asked at all.
    pub(super) fn seen(&self, addresses: impl Iterator<Item = IpAddr>) -> Option<DnsSeen> {
        self.asked.then(|| DnsSeen {
            server: self.server,
            rcode: self.rcode,
            addresses: addresses.collect(),
            tries: self.tries,
        })
    }

    /// Why the preferred family of addresses could not be had, if that is so.
    pub(super) fn lacks(&self) -> Option<FailureClass> {
        self.lacks
    }

    /// The verdict is what the preferred family could not be had for: the code of the answer that
    /// gave the other one says nothing of that.
    pub(super) fn blame_lacking(&mut self) {
        self.rcode = None;
    }

    /// That the verdict is about one family, and what became of the other one.
    pub(super) fn other_family(&self, is_ipv4: bool) -> Option<String> {
        let (lacking, had) = if is_ipv4 {
            ("IPv6", "IPv4")
        } else {
            ("IPv4", "IPv6")
        };
        self.lacks.map(|_| {
            format!(
                "that is of its {lacking} addresses; it has addresses of {had}, and this host has \
                 no way to them"
            )
        })
    }

    /// That not every address of the name can have been tried.
    pub(super) fn left_out(&self) -> Option<String> {
        let offered = self.offered;
        (usize::from(offered) > DNS_ADDRESSES_MAX).then(|| {
            format!(
                "the name has {offered} addresses, {DNS_ADDRESSES_MAX} are used until its TTL ends"
            )
        })
    }

    /// What failed of a name for which nobody had an address, and on which side; `None`: another
    /// class says it all. `many`: of how many names that is said of our resolvers.
    pub(super) fn sentence(
        &self,
        class: FailureClass,
        many: Option<NamesFailing>,
    ) -> Option<String> {
        let who = match self.server {
            Some(server) => format!("our resolver {server}"),
            None => "our resolver".to_owned(),
        };
        let said = self.rcode.map(code);
        let tries = match self.tries {
            1 => "the only try".to_owned(),
            tries => format!("{tries} tries"),
        };
        Some(match (class, said) {
            (FailureClass::DnsServfail, said) => {
                let said = said.unwrap_or_else(|| "SERVFAIL".to_owned());
                format!("the name servers of the name failed: {who} answered {said}")
            }
            (FailureClass::DnsTimeout, _) if self.server.is_some() && self.tries > 0 => format!(
                "the name was not resolved in time: {who} did not answer in {tries}; it, or the \
                 name servers of the name, are silent"
            ),
            (FailureClass::DnsTimeout, _) => "the name was not resolved in time".to_owned(),
            (FailureClass::DnsMalformed, _) => format!(
                "{who} gave an answer that does not parse or leads nowhere: it, or the name \
                 servers of the name, are broken"
            ),
            (FailureClass::DnsResolverSick, said) => self.of_resolvers(&who, said, many),
            (FailureClass::ConnectLocal, _) if self.server.is_none() => {
                "this host has no resolver to ask: give one with `dns`".to_owned()
            }
            (FailureClass::ConnectLocal, _) => {
                format!("this host cannot ask {who}: it lacks files, ports, or a way to it")
            }
            _ => return None,
        })
    }

    /// What our resolvers did, by which nothing is known of the site.
    fn of_resolvers(&self, who: &str, said: Option<String>, many: Option<NamesFailing>) -> String {
        let share = many.map_or_else(|| "many names".to_owned(), share);
        let what = match said {
            Some(said) if self.refused() => {
                format!("{who} does not resolve this name for us, it answered {said}")
            }
            Some(said) => format!("our resolvers fail for {share}; {who} answered {said}"),
            None if many.is_some() => {
                format!("{who} did not answer, and our resolvers fail for {share}")
            }
            None => {
                format!(
                    "{who} did not answer; it does not listen, or our resolvers fail for {share}"
                )
            }
        };
        format!("{what}: nothing is known of the site")
    }

    /// The answer says that the resolver did not try.
    fn refused(&self) -> bool {
        matches!(self.rcode, Some(1 | 4 | 5))
    }
}

/// How many names fail.
fn share(many: NamesFailing) -> String {
    let NamesFailing { failing, names } = many;
    let window_s = DNS_SICK_WINDOW_MS / 1_000;
    format!("{failing} of {names} names asked for in {window_s} s")
}

/// The name of a response code (IANA).
fn code(rcode: u16) -> String {
    let name = match rcode {
        0 => "NOERROR",
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        4 => "NOTIMP",
        5 => "REFUSED",
        9 => "NOTAUTH",
        other => return format!("code {other}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use super::*;

    /// What is said of a failure after three tries.
    fn sentence(
        class: FailureClass,
        rcode: Option<u16>,
        server: Option<&str>,
        many: Option<NamesFailing>,
    ) -> Option<String> {
        let failure = DnsFailure {
            class,
            rcode,
            server: server.map(|text| text.parse().expect("an address")),
            tries: 3,
            many,
            agreed: false,
        };
        Dns::of_failure(&failure).sentence(class, many)
    }

    #[test]
    fn each_failure_names_the_resolver_what_it_said_and_the_side() {
        use FailureClass as F;
        let at = Some("192.0.2.53:53");
        for (class, rcode, server, has) in [
            (
                F::DnsServfail,
                Some(2),
                at,
                "name servers of the name failed: our resolver 192.0.2.53:53 answered SERV",
            ),
            (
                F::DnsTimeout,
                None,
                at,
                "our resolver 192.0.2.53:53 did not answer in 3 tries",
            ),
            (
                F::DnsMalformed,
                None,
                at,
                "our resolver 192.0.2.53:53 gave an answer",
            ),
            (
                F::DnsResolverSick,
                Some(5),
                at,
                "53:53 does not resolve this name for us, it answered REFUSED",
            ),
            (
                F::DnsResolverSick,
                Some(2),
                at,
                "fail for many names; our resolver 192.0.2.53:53 answered SERVFAIL",
            ),
            (
                F::DnsResolverSick,
                None,
                at,
                "our resolver 192.0.2.53:53 did not answer; it does not listen, or our resolvers",
            ),
            (
                F::ConnectLocal,
                None,
                at,
                "this host cannot ask our resolver 192.0.2.53:53",
            ),
            (
                F::ConnectLocal,
                None,
                None,
                "this host has no resolver to ask",
            ),
        ] {
            let said = sentence(class, rcode, server, None).expect("a sentence");
            assert!(said.contains(has), "{said}");
            let unknown = class == F::DnsResolverSick;
            let ends = said.ends_with("nothing is known of the site");
            assert_eq!(ends, unknown, "{said}");
        }
        assert_eq!(sentence(F::DnsNxdomain, Some(3), at, None), None);
    }

    #[test]
    fn of_sick_resolvers_it_is_said_for_how_many_names_they_fail() {
        let many = NamesFailing {
            failing: 61,
            names: NonZeroU16::new(210).expect("not zero"),
        };
        for (rcode, expected) in [
            (
                Some(2),
                "our resolvers fail for 61 of 210 names asked for in 30 s; our resolver \
                 192.0.2.53:53 answered SERVFAIL: nothing is known of the site",
            ),
            (
                None,
                "our resolver 192.0.2.53:53 did not answer, and our resolvers fail for 61 of 210 \
                 names asked for in 30 s: nothing is known of the site",
            ),
        ] {
            let class = FailureClass::DnsResolverSick;
            let said = sentence(class, rcode, Some("192.0.2.53:53"), Some(many));
            assert_eq!(said.as_deref(), Some(expected));
        }
    }
}
