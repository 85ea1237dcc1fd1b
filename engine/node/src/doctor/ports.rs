//! Looks at the local end of connections: ports, source addresses, and whether the checks of the
//! store's targets fit them.

use std::net::IpAddr;

use store::Store;

use super::Finding;
use crate::config::Config;
use crate::run::ports::{Fit, LocalPorts, PortsPlan};
use crate::run::{fit, sources};

/// Fewer ports are worth a word.
const PORTS_FEW: u32 = 40_000;

/// The ports of this machine towards one destination.
pub(super) fn ports() -> Finding {
    let Some(ports) = LocalPorts::find() else {
        return Finding::warn(
            "ports",
            "the local port range cannot be read",
            "check /proc/sys/net",
        );
    };
    let found = format!(
        "{} ({} local ports per destination)",
        ports.shown(),
        ports.count()
    );
    if ports.count() <= PORTS_FEW {
        let advice = "set sysctl net.ipv4.ip_local_port_range=\"1024 65535\" for large fleets \
                      behind few addresses";
        return Finding::warn("ports", found, advice);
    }
    Finding::ok("ports", found)
}

/// The addresses that checks come from, if any are configured.
pub(super) fn sources(config: &Config) -> Option<Finding> {
    let all = &config.source_addresses;
    if all.is_empty() {
        return None;
    }
    if let Err(error) = sources::refuse_absent(all) {
        let advice = "a node does not start before";
        return Some(Finding::fail("sources", format!("{error:#}"), advice));
    }
    let found = format!("{} source address(es), all of this machine", all.len());
    let near = all.iter().find(|source| source.is_loopback());
    Some(match near {
        Some(near) => Finding::warn("sources", found, only_here(*near)),
        None => Finding::ok("sources", found),
    })
}

fn only_here(near: IpAddr) -> String {
    format!("{near} reaches this machine only: take it out to probe others")
}

/// Whether the targets of `store` fit.
pub(super) async fn plan(store: &Store, config: &Config) -> Finding {
    let plan = fit::look(store, config).await;
    match plan.and_then(|plan| plan.as_ref().map(PortsPlan::judge).transpose()) {
        Ok(None) => Finding::ok("plan", "fits: each address is capped below the local ports"),
        Ok(Some(Fit::Ample(found))) => Finding::ok("plan", found),
        Ok(Some(Fit::Tight(found))) => Finding::warn("plan", found, "see Local ports in the guide"),
        Err(error) => Finding::fail("plan", format!("{error:#}"), "a node does not start before"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Grade;
    use super::*;
    use crate::config::Layers;

    fn found(lines: &str) -> Option<Finding> {
        let dir = tempfile::tempdir().expect("temp dir");
        let file = dir.path().join("c.toml");
        std::fs::write(&file, lines).expect("written");
        let layers = Layers::read(Some(&file), std::iter::empty(), Vec::new());
        sources(&Config::resolve(&layers.expect("readable")).expect("valid"))
    }

    #[test]
    fn source_addresses_are_looked_at_where_there_are_any() {
        assert_eq!(found(""), None);
        let near = found("source_addresses = ['127.0.0.1', '127.0.0.2']").expect("configured");
        assert_eq!(near.grade, Grade::Warn);
        assert_eq!(near.found, "2 source address(es), all of this machine");
        assert!(
            near.advice
                .starts_with("127.0.0.1 reaches this machine only")
        );
        let absent = found("source_addresses = ['192.0.2.1']").expect("configured");
        assert_eq!(absent.grade, Grade::Fail);
        assert!(
            absent
                .found
                .contains("192.0.2.1 is not an address of this machine")
        );
    }
}
