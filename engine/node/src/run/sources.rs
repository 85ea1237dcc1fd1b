//! The local end of connections as configured, and whether this machine has its addresses.

use std::io::ErrorKind;
use std::net::{IpAddr, UdpSocket};

use anyhow::Context;
use cores::{KeptLimits, LocalEnd};

use crate::config::Config;
use crate::exit::bad_input;

/// What each of `cores` cores is told, which have room for so many `kept` connections each.
pub(crate) fn local_end(config: &Config, cores: usize, kept: u32) -> LocalEnd {
    LocalEnd {
        sources: config.source_addresses.clone(),
        close: config.close.into(),
        kept: KeptLimits::share(cores, kept),
    }
}

/// Refuses addresses that connections could not come from: each check of theirs would be unknown.
pub(crate) fn refuse_absent(sources: &[IpAddr]) -> anyhow::Result<()> {
    for &source in sources {
        match UdpSocket::bind((source, 0)) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {
                let bits = if source.is_ipv4() { 32 } else { 128 };
                return bad_input(format!(
                    "source_addresses: {source} is not an address of this machine: add it with `ip \
                     address add {source}/{bits} dev INTERFACE`, or take it out of the list"
                ));
            }
            Err(error) => {
                let doing = || format!("source_addresses: {source} cannot be used");
                return Err(error).with_context(doing);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_another_machine_is_refused_with_what_to_do() {
        let here = [[127, 0, 0, 1], [127, 9, 9, 9]].map(IpAddr::from);
        refuse_absent(&here).expect("loopback is everywhere");
        // TEST-NET-1 (RFC 5737).
        let absent = [here[0], IpAddr::from([192, 0, 2, 1])];
        let said = refuse_absent(&absent).expect_err("absent").to_string();
        let expected = "source_addresses: 192.0.2.1 is not an address of this machine: add it with \
                        `ip address add 192.0.2.1/32 dev INTERFACE`, or take it out of the list";
        assert_eq!(said, expected);
    }
}
