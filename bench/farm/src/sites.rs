//! Site arithmetic: name, address and scheme of a site follow from its number.
//!
//! There is no table of sites, and nothing here knows faults, sockets or the clock.

use std::net::Ipv4Addr;

/// The zone that the farm is authoritative for.
pub(crate) const ZONE: &str = "farm.test";
/// Most sites of a farm: a number has seven digits.
pub(crate) const SITES_MAX: u32 = 10_000_000;
/// Most addresses that sites are spread over.
pub(crate) const ADDRESSES_MAX: u32 = 1 << 20;
/// Length of the first label, `s-0000000`.
pub(crate) const LABEL_BYTES: usize = 9;

/// The arithmetic of one farm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sites {
    /// Sites are numbered 0 to `count` - 1.
    pub(crate) count: u32,
    /// How often each site is expected to be checked, in seconds.
    pub(crate) interval_s: u32,
    /// Every n-th site, beginning with site 0, speaks HTTPS; 0 means none.
    pub(crate) https_every: u32,
    /// How many addresses from 127.1.0.0 up the sites are spread over.
    pub(crate) addresses: u32,
}

impl Sites {
    /// The host name of `site`.
    pub(crate) fn host(site: u32) -> String {
        format!("s-{site:07}.{ZONE}")
    }

    /// Whether `site` speaks HTTPS.
    pub(crate) fn is_https(&self, site: u32) -> bool {
        self.https_every != 0 && site.is_multiple_of(self.https_every)
    }

    /// The address of `site`. Many addresses keep the client's ephemeral ports from running out:
    /// a port is taken per (destination address, destination port).
    pub(crate) fn address(&self, site: u32) -> Ipv4Addr {
        let base = u32::from(Ipv4Addr::new(127, 1, 0, 0));
        Ipv4Addr::from(base + site % self.addresses)
    }

    /// The site that a `Host` value or a server name means; a port is allowed, case is ignored.
    pub(crate) fn parse_host(&self, host: &[u8]) -> Option<u32> {
        let name = match host.iter().position(|&byte| byte == b':') {
            Some(colon) => &host[..colon],
            None => host,
        };
        let zone = name.get(LABEL_BYTES..)?.strip_prefix(b".")?;
        if !zone.eq_ignore_ascii_case(ZONE.as_bytes()) {
            return None;
        }
        self.parse_label(&name[..LABEL_BYTES])
    }

    /// The site that a first label (`s-0000042`) means.
    pub(crate) fn parse_label(&self, label: &[u8]) -> Option<u32> {
        let [b's' | b'S', b'-', digits @ ..] = label else {
            return None;
        };
        if digits.len() != 7 || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let site = digits
            .iter()
            .fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
        (site < self.count).then_some(site)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sites() -> Sites {
        Sites {
            count: 1_000,
            interval_s: 10,
            https_every: 4,
            addresses: 300,
        }
    }

    #[test]
    fn a_site_survives_its_own_host_name() {
        for site in [0, 1, 42, 999] {
            assert_eq!(sites().parse_host(Sites::host(site).as_bytes()), Some(site));
        }
        assert_eq!(sites().parse_host(b"S-0000042.FARM.test:8080"), Some(42));
    }

    #[test]
    fn a_name_that_is_no_site_is_none() {
        let names: [&[u8]; 7] = [
            b"",
            b"s-0001000.farm.test",
            b"s-42.farm.test",
            b"s-00000a2.farm.test",
            b"t-0000042.farm.test",
            b"s-0000042.farm.text",
            b"s-0000042-farm.test",
        ];
        for name in names {
            assert_eq!(sites().parse_host(name), None, "{name:?}");
        }
    }

    #[test]
    fn addresses_wrap_inside_loopback() {
        assert_eq!(sites().address(0), Ipv4Addr::new(127, 1, 0, 0));
        assert_eq!(sites().address(299), Ipv4Addr::new(127, 1, 1, 43));
        assert_eq!(sites().address(300), sites().address(0));
        let wide = Sites {
            addresses: ADDRESSES_MAX,
            count: SITES_MAX,
            ..sites()
        };
        assert!(
            (0..SITES_MAX)
                .step_by(9_973)
                .all(|site| wide.address(site).is_loopback())
        );
    }

    #[test]
    fn every_fourth_site_speaks_https() {
        let https: Vec<u32> = (0..9).filter(|&site| sites().is_https(site)).collect();
        assert_eq!(https, [0, 4, 8]);
        let none = Sites {
            https_every: 0,
            ..sites()
        };
        assert!(!none.is_https(0));
    }
}
