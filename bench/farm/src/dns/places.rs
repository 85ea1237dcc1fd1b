//! What the names of the zone mean: its apex, its sites, and the aliases behind a site.

use hickory_proto::op::Query;
use hickory_proto::rr::{DNSClass, Name};
use model::limits::DNS_CNAME_MAX;

use super::Zone;
use crate::faults::FaultKind;
use crate::sites::{Sites, ZONE};

/// Aliases that a resolver follows, and that `dns_cname_chain` has.
const CHAIN_LINKS: u8 = DNS_CNAME_MAX as u8;

/// What a name means.
pub(super) enum Place {
    /// It is not of this zone.
    Elsewhere,
    Apex,
    Site(u32),
    /// So many links behind the name of a site with a chain of aliases.
    Alias(u32, u8),
    /// It is of this zone, and nobody's.
    Nowhere,
}

pub(super) fn place_of(question: &Query, zone: &impl Zone) -> Place {
    let apex = apex();
    if question.query_class != DNSClass::IN || !apex.zone_of(&question.name) {
        return Place::Elsewhere;
    }
    let below = usize::from(question.name.num_labels()) - usize::from(apex.num_labels());
    if below == 0 {
        return Place::Apex;
    }
    let mut labels = question.name.iter();
    let place = match (below, labels.next(), labels.next()) {
        (1, Some(label), _) => zone.site(label).map(Place::Site),
        (2, Some(link), Some(label)) => link_of(link)
            .zip(zone.site(label))
            .map(|(link, site)| Place::Alias(site, link)),
        _ => None,
    };
    place.unwrap_or(Place::Nowhere)
}

/// The number of a link, from its label (`link-3`).
fn link_of(label: &[u8]) -> Option<u8> {
    let label = std::str::from_utf8(label).ok()?.to_ascii_lowercase();
    let link = label.strip_prefix("link-")?.parse().ok()?;
    (1..=CHAIN_LINKS + 1).contains(&link).then_some(link)
}

/// The name that is `link` links behind that of `site`.
pub(super) fn link_name(site: u32, link: u8) -> Name {
    let text = format!("link-{link}.{}.", Sites::host(site));
    Name::from_ascii(text).expect("the name is valid")
}

/// How many aliases lead from the name of a site that suffers `fault` to its address.
pub(super) fn links_of(fault: Option<FaultKind>) -> u8 {
    match fault {
        Some(FaultKind::DnsCnameChain) => CHAIN_LINKS,
        Some(FaultKind::DnsCnameLong) => CHAIN_LINKS + 1,
        _ => 0,
    }
}

pub(super) fn apex() -> Name {
    Name::from_ascii(format!("{ZONE}.")).expect("the zone is a valid name")
}
