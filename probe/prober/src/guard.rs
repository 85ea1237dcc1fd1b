//! The safety guard: which addresses may be connected to, and which names may be asked for. It
//! judges the address that is really used, at connect time, so that a name cannot be rebound behind
//! its back; and the name before that, so that names of private networks stay in them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use model::FieldError;

/// A block of addresses. Host bits are dropped: `127.0.0.1/8` is `127.0.0.0/8`. An IPv4 address has
/// two spellings and one meaning, so `::ffff:10.0.0.0/104` is `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    network: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// The block of `address` with `prefix` bits; `None` when the prefix is too long for it, or
    /// reaches beyond the mapped addresses that it is written with.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let (address, prefix) = match address {
            IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
                Some(v4) => (v4.into(), prefix.checked_sub(MAPPED_BITS)?),
                None => (address, prefix),
            },
            IpAddr::V4(_) => (address, prefix),
        };
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let network = network(address, prefix);
        (prefix <= longest).then_some(Self { network, prefix })
    }

    /// Whether `address` is in the block. A mapped address is the IPv4 address in it; a block of
    /// one family never contains an address of the other.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.network.is_ipv4() && network(address, self.prefix) == self.network
    }
}

/// Bits of `::ffff:0:0/96`, before the IPv4 address in it.
const MAPPED_BITS: u8 = 96;

/// The first `prefix` bits of `address`; all of them when it has fewer.
fn network(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() & mask4(prefix)).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & mask6(prefix)).into(),
    }
}

impl FromStr for Cidr {
    type Err = FieldError;

    /// From `10.0.0.0/8`, `fd00::/8`, or one address.
    fn from_str(text: &str) -> Result<Self, FieldError> {
        let refuse = || FieldError::new("allow", text, "a CIDR such as 10.0.0.0/8 or fd00::/8");
        let (address, prefix) = match text.trim().split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text.trim(), None),
        };
        let address: IpAddr = address.parse().map_err(|_| refuse())?;
        let prefix = match prefix {
            Some(digits) => digits.parse().map_err(|_| refuse())?,
            None if address.is_ipv4() => 32,
            None => 128,
        };
        Self::new(address, prefix).ok_or_else(refuse)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

fn mask4(prefix: u8) -> u32 {
    let free = 32_u32.saturating_sub(prefix.into());
    u32::MAX.checked_shl(free).unwrap_or(0)
}

fn mask6(prefix: u8) -> u128 {
    let free = 128_u32.saturating_sub(prefix.into());
    u128::MAX.checked_shl(free).unwrap_or(0)
}

/// Last labels of names that only a private network knows. (`localhost` is judged by its address.)
const PRIVATE_NAMES: [&str; 6] = ["local", "lan", "internal", "intranet", "home", "corp"];

/// Names of a private network: those that end in a suffix such as `.corp` or `.shop.internal`, and
/// the suffix itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PrivateNames {
    /// Without the dot before it, in lower case.
    suffix: Box<str>,
}

impl PrivateNames {
    /// Whether `name`, in lower case and without a dot at its end, is one of them.
    pub fn contains(&self, name: &str) -> bool {
        let rest = name.strip_suffix(&*self.suffix);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }
}

impl fmt::Display for PrivateNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ".{}", self.suffix)
    }
}

/// One entry of `allow`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Allowed {
    /// A block of addresses.
    Block(Cidr),
    /// Names of a private network.
    Names(PrivateNames),
}

impl FromStr for Allowed {
    type Err = FieldError;

    /// From a [`Cidr`], or from a suffix of private names with a dot before it.
    fn from_str(text: &str) -> Result<Self, FieldError> {
        let refuse = || {
            let accepted = "a CIDR such as 10.0.0.0/8 or fd00::/8, or names such as .corp that end \
                            in .local, .lan, .internal, .intranet, .home or .corp";
            FieldError::new("allow", text, accepted)
        };
        let Some(suffix) = text.trim().strip_prefix('.') else {
            return text.parse().map(Self::Block).map_err(|_| refuse());
        };
        let suffix = suffix.to_ascii_lowercase().into_boxed_str();
        let is_label = |label: &str| {
            let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
            (1..=63).contains(&label.len()) && label.bytes().all(is_known)
        };
        if suffix.split('.').all(is_label) && private_label(&suffix).is_some() {
            Ok(Self::Names(PrivateNames { suffix }))
        } else {
            Err(refuse())
        }
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block(block) => block.fmt(f),
            Self::Names(names) => names.fmt(f),
        }
    }
}

/// The last label of `name`, if only private networks know names that end in it.
fn private_label(name: &str) -> Option<&'static str> {
    let last = name.rsplit('.').next()?;
    PRIVATE_NAMES.into_iter().find(|label| *label == last)
}

/// Public addresses and names only, and what the configuration allows besides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    allow: Vec<Cidr>,
    names: Vec<PrivateNames>,
}

impl Guard {
    /// Public addresses and names, and addresses in `allow`.
    pub fn public_only(allow: Vec<Cidr>) -> Self {
        let names = Vec::new();
        Self { allow, names }
    }

    /// Public addresses and names, and what is `allowed`.
    pub fn allowing(allowed: &[Allowed]) -> Self {
        let mut guard = Self::default();
        for allowed in allowed {
            match allowed {
                Allowed::Block(block) => guard.allow.push(*block),
                Allowed::Names(names) => guard.names.push(names.clone()),
            }
        }
        guard
    }

    /// The last label of `name` (lower case, no dot at its end) if it may not be asked for: it is
    /// of a private network, and not allowed.
    pub fn forbids(&self, name: &str) -> Option<&'static str> {
        let label = private_label(name)?;
        let is_allowed = self.names.iter().any(|names| names.contains(name));
        (!is_allowed).then_some(label)
    }

    /// Whether a connection to `address` may be opened.
    pub fn permits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        is_public(address) || self.allow.iter().any(|block| block.contains(address))
    }
}

/// Blocks that are not the public IPv4 internet: what IANA's special-purpose registry (RFC 6890)
/// does not call globally reachable, multicast, and 6to4 relays, which are no more. The few anycast
/// addresses inside 192.0.0.0/24 serve the network that asks: no site is there.
const SPECIAL_V4: [(Ipv4Addr, u8); 15] = [
    (Ipv4Addr::UNSPECIFIED, 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
];

/// What IANA gives out as global unicast (RFC 4291, RFC 3587): whatever is outside of it is not
/// the public IPv6 internet. Outside are loopback, every embedding of IPv4 but [`NAT64`],
/// `64:ff9b:1::`, the discard and dummy prefixes in `100::`, the overlays in `200::/7`, `5f00::/16`
/// of segment routing, and unique local, link-local, site-local and multicast addresses.
const GLOBAL_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Blocks in it, of IANA's special-purpose registry, in which no site is either.
const SPECIAL_V6: [(Ipv6Addr, u8); 4] = [
    // Protocols of the IETF: Teredo, benchmarks, ORCHID and ORCHIDv2, which are no locators, drone
    // identifiers, anycast services of the network that asks; some are globally reachable.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    // 6to4: an IPv4 address is in it, of any network.
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// The well-known NAT64 prefix `64:ff9b::/96`: what counts is the IPv4 address in it (RFC 6052).
const NAT64: u128 = 0x0064_ff9b_0000_0000_0000_0000_0000_0000;

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !SPECIAL_V4.iter().any(|&block| is_in4(v4, block)),
        IpAddr::V6(v6) if v6.to_bits() & mask6(96) == NAT64 => {
            is_public(Ipv4Addr::from_bits(v6.to_bits() as u32).into())
        }
        IpAddr::V6(v6) => {
            is_in6(v6, GLOBAL_V6) && !SPECIAL_V6.iter().any(|&block| is_in6(v6, block))
        }
    }
}

fn is_in4(address: Ipv4Addr, (block, prefix): (Ipv4Addr, u8)) -> bool {
    (address.to_bits() ^ block.to_bits()) & mask4(prefix) == 0
}

fn is_in6(address: Ipv6Addr, (block, prefix): (Ipv6Addr, u8)) -> bool {
    (address.to_bits() ^ block.to_bits()) & mask6(prefix) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    #[test]
    fn only_public_addresses_pass_by_default() {
        let guard = Guard::default();
        for public in [
            "8.8.8.8",
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "198.20.0.1",
            "2606:4700::1111",
            "2001:4860:4860::8888",
            "2001:200::1",
            "2003::1",
            "2620:4f:8000::1",
            "2a00::1",
            "64:ff9b::808:808",
            "::ffff:8.8.8.8",
        ] {
            assert!(guard.permits(ip(public)), "{public}");
        }
        for special in [
            "2001:20::1",
            "2001:30::1",
            "100::1",
            "100:0:0:1::1",
            "200::1",
            "5f00::1",
            "64:ff9b:1::808:808",
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.7",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::10.0.0.1",
            "64:ff9b::a00:1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "ff02::1",
            "2001:db8::1",
            "2001:2::1",
            "2001:10::1",
            "2002::1",
            "3fff::1",
            "2001::1",
        ] {
            assert!(!guard.permits(ip(special)), "{special}");
        }
    }

    /// Blocks of IANA's registries of special-purpose addresses, and all that was never given out:
    /// the last address before, the first and the last in it, the next one; `-` for none.
    const REGISTRIES: &str = "
        -                  0.0.0.0           0.255.255.255         1.0.0.0
        9.255.255.255      10.0.0.0          10.255.255.255        11.0.0.0
        100.63.255.255     100.64.0.0        100.127.255.255       100.128.0.0
        126.255.255.255    127.0.0.0         127.255.255.255       128.0.0.0
        169.253.255.255    169.254.0.0       169.254.255.255       169.255.0.0
        172.15.255.255     172.16.0.0        172.31.255.255        172.32.0.0
        191.255.255.255    192.0.0.0         192.0.0.255           192.0.1.0
        192.0.1.255        192.0.2.0         192.0.2.255           192.0.3.0
        192.88.98.255      192.88.99.0       192.88.99.255         192.88.100.0
        192.167.255.255    192.168.0.0       192.168.255.255       192.169.0.0
        198.17.255.255     198.18.0.0        198.19.255.255        198.20.0.0
        198.51.99.255      198.51.100.0      198.51.100.255        198.51.101.0
        203.0.112.255      203.0.113.0       203.0.113.255         203.0.114.0
        223.255.255.255    224.0.0.0         255.255.255.255       -
        -                  ::                ::fffe:ffff:ffff      -
        -                  ::ffff:0:0:0      64:ff9a:ffff::        64:ff9b::808:808
        64:ff9b::9ff:ffff  64:ff9b::a00:0    64:ff9b::aff:ffff     64:ff9b::b00:0
        -                  64:ff9b:0:0:0:1::  1fff:ffff::ffff       2000::
        2000:ffff::1       2001::            2001:1ff:ffff::ffff   2001:200::
        2001:db7:ffff::1   2001:db8::        2001:db8:ffff::1      2001:db9::
        2001:ffff::1       2002::            2002:ffff::ffff       2003::
        3ffe:ffff::1       3fff::            3fff:fff:ffff::1      3fff:1000::
        3fff:ffff::ffff    4000::            ffff::ffff            -
    ";

    #[test]
    fn blocks_of_the_registries_end_where_they_say() {
        let guard = Guard::default();
        let rows = REGISTRIES.lines().map(str::split_whitespace);
        for row in rows.map(Iterator::collect::<Vec<_>>) {
            let [before, first, last, after] = row[..] else {
                assert!(row.is_empty(), "{row:?}");
                continue;
            };
            for outside in [before, after].into_iter().filter(|text| *text != "-") {
                assert!(guard.permits(ip(outside)), "{outside}");
            }
            for inside in [first, last] {
                assert!(!guard.permits(ip(inside)), "{inside}");
            }
        }
    }

    #[test]
    fn allowed_blocks_pass_also_as_mapped_addresses() {
        let allow = ["127.0.0.1/8", "fd00::/8"]
            .map(|text| text.parse().expect(text))
            .to_vec();
        let guard = Guard::public_only(allow);
        assert!(guard.permits(ip("127.9.9.9")) && guard.permits(ip("::ffff:127.0.0.1")));
        assert!(guard.permits(ip("fd00::1")) && !guard.permits(ip("10.0.0.1")));
    }

    #[test]
    fn a_block_of_mapped_addresses_is_the_block_of_ipv4_in_it() {
        let guard = allowing(&["::ffff:10.0.0.0/104", "::ffff:192.168.7.7"]);
        for allowed in ["10.9.9.9", "::ffff:10.9.9.9", "192.168.7.7"] {
            assert!(guard.permits(ip(allowed)), "{allowed}");
        }
        for other in ["127.0.0.1", "::10.9.9.9", "192.168.7.8"] {
            assert!(!guard.permits(ip(other)), "{other}");
        }
        let all: Cidr = "::/0".parse().expect("a block");
        assert!(all.contains(ip("fd00::1")) && !all.contains(ip("::ffff:10.0.0.1")));
        let v4: Cidr = "10.0.0.0/8".parse().expect("a block");
        assert!(v4.contains(ip("::ffff:10.0.0.1")) && !v4.contains(ip("a00::1")));
    }

    fn allowing(texts: &[&str]) -> Guard {
        let parse = |text: &&str| text.parse().expect("an entry of allow");
        Guard::allowing(&texts.iter().map(parse).collect::<Vec<Allowed>>())
    }

    #[test]
    fn names_of_private_networks_are_not_asked_for_unless_they_are_allowed() {
        let guard = allowing(&["10.0.0.0/8", ".Corp", ".shop.internal"]);
        assert!(guard.permits(ip("10.1.1.1")) && !guard.permits(ip("192.168.1.1")));
        for (name, label) in [
            ("nas.local", Some("local")),
            ("a.b.lan", Some("lan")),
            ("x.internal", Some("internal")),
            ("notshop.internal", Some("internal")),
            ("shop.internal", None),
            ("a.shop.internal", None),
            ("x.intranet", Some("intranet")),
            ("x.home", Some("home")),
            ("home", Some("home")),
            ("a.corp", None),
            ("corp", None),
            ("mycorp", None),
            ("local.example.com", None),
            ("example.com", None),
            ("localhost", None),
        ] {
            assert_eq!(guard.forbids(name), label, "{name}");
        }
        assert_eq!(Guard::default().forbids("a.corp"), Some("corp"));
    }

    #[test]
    fn what_is_allowed_is_a_block_or_private_names() {
        for (given, printed) in [
            ("10.1.0.0/8", "10.0.0.0/8"),
            (" .Corp", ".corp"),
            (".a-b.internal", ".a-b.internal"),
        ] {
            assert_eq!(given.parse::<Allowed>().expect(given).to_string(), printed);
        }
        for bad in [
            "corp",
            ".",
            ".example.com",
            "..corp",
            ".a b.corp",
            ".corp.",
            "*.corp",
        ] {
            let error = bad.parse::<Allowed>().expect_err(bad);
            assert_eq!(error.field, "allow");
            assert!(error.accepted.contains(".corp"), "{}", error.accepted);
        }
    }

    #[test]
    fn cidrs_are_parsed_and_printed_by_their_network() {
        for (given, printed) in [
            ("127.0.0.1/8", "127.0.0.0/8"),
            ("10.2.3.4", "10.2.3.4/32"),
            ("::ffff:10.2.3.4/104", "10.0.0.0/8"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::ffff:a02:304", "10.2.3.4/32"),
            ("::1", "::1/128"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("fd12:3456::/7", "fc00::/7"),
        ] {
            assert_eq!(given.parse::<Cidr>().expect(given).to_string(), printed);
        }
        for bad in [
            "",
            "10.0.0.0/33",
            "::/129",
            "::ffff:10.0.0.0/8",
            "::ffff:10.0.0.0/95",
            "::ffff:10.0.0.0/129",
            "10.0.0/8",
            "10.0.0.0/",
            "example.com/8",
        ] {
            assert_eq!(bad.parse::<Cidr>().expect_err(bad).field, "allow");
        }
    }
}
