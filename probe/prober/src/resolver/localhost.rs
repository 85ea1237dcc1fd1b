//! The name of this host (RFC 6761, section 6.3): `localhost` and what ends in `.localhost` is
//! loopback, and no question leaves for it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::answer::{ResolvedName, Scope};
use super::codec::Family;
use super::config::IpPolicy;

/// Whether `name`, in lower case, is this host.
pub(super) fn is_localhost(name: &str) -> bool {
    let rest = name.strip_suffix("localhost");
    rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Loopback, as `policy` wants it.
pub(super) fn resolved(policy: IpPolicy) -> ResolvedName {
    let address = |family: &Family| match family {
        Family::V4 => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        Family::V6 => Some(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        // No policy asks for records.
        Family::Records(_) => None,
    };
    ResolvedName {
        addresses: policy.families().iter().filter_map(address).collect(),
        scope: if policy == IpPolicy::Both {
            Scope::Each
        } else {
            Scope::Wide
        },
        stale: false,
        cached: true,
        lacks: None,
        server: None,
        rcode: None,
        tries: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_and_what_is_below_it_is_this_host_and_nothing_else() {
        for (name, is) in [
            ("localhost", true),
            ("a.localhost", true),
            ("a.b.localhost", true),
            ("mylocalhost", false),
            ("localhost.example", false),
            ("a-localhost", false),
            ("", false),
        ] {
            assert_eq!(is_localhost(name), is, "{name}");
        }
    }

    #[test]
    fn loopback_is_of_the_families_that_are_wanted() {
        let of = |policy| {
            let name = resolved(policy);
            let addresses: Vec<String> = name.addresses.iter().map(|ip| ip.to_string()).collect();
            (addresses.join(" "), name.scope)
        };
        assert_eq!(of(IpPolicy::V4First), ("127.0.0.1 ::1".into(), Scope::Wide));
        assert_eq!(of(IpPolicy::V6First), ("::1 127.0.0.1".into(), Scope::Wide));
        assert_eq!(of(IpPolicy::V4Only), ("127.0.0.1".into(), Scope::Wide));
        assert_eq!(of(IpPolicy::V6Only), ("::1".into(), Scope::Wide));
        assert_eq!(of(IpPolicy::Both), ("127.0.0.1 ::1".into(), Scope::Each));
    }
}
