//! The list of targets as `GET /targets.csv` gives it out: in pieces, since that of ten million
//! sites is half a gigabyte. Pure; a piece is made when the one before it was taken.

use std::fmt::Write as _;

use crate::broken::DEFACEMENT;
use crate::faults::BodyRule;
use crate::pages::CANARY;
use crate::sites::Sites;
use crate::world::World;

/// Sites of a piece: some 200 kB.
const SITES_PER_PIECE: usize = 4_096;
/// Bytes of a row, about.
const ROW_BYTES: usize = 52;

/// Where the sites are.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pub(crate) http: u16,
    pub(crate) https: u16,
    /// By gate.
    pub(crate) gates: Vec<u16>,
}

/// The columns that are the same in every row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Columns {
    pub(crate) interval_s: u32,
    pub(crate) timeout_ms: u32,
}

/// The list, piece by piece.
pub(crate) fn pieces<W: AsRef<World>>(
    world: W,
    places: Places,
    columns: Columns,
) -> impl Iterator<Item = String> {
    let has_rules = world.as_ref().scenario.has_body_rules();
    let head = if has_rules {
        "url,interval_s,timeout_ms,keyword,forbidden\n"
    } else {
        "url,interval_s,timeout_ms\n"
    };
    let count = world.as_ref().sites.count;
    let starts = (0..count).step_by(SITES_PER_PIECE);
    let piece = move |start: u32| {
        let mut rows = String::with_capacity(SITES_PER_PIECE * ROW_BYTES);
        for site in (start..count).take(SITES_PER_PIECE) {
            row(world.as_ref(), &places, columns, site, &mut rows);
            if has_rules {
                rules(world.as_ref(), site, &mut rows);
            }
            rows.push('\n');
        }
        rows
    };
    std::iter::once(head.to_owned()).chain(starts.map(piece))
}

fn row(world: &World, places: &Places, columns: Columns, site: u32, rows: &mut String) {
    let https = world.sites.is_https(site);
    let gate = world.scenario.gate_index(site, &world.sites);
    let port = match gate.and_then(|index| places.gates.get(index)) {
        Some(&port) => port,
        None if https => places.https,
        None => places.http,
    };
    let scheme = if https { "https" } else { "http" };
    let (host, interval_s, timeout_ms) =
        (Sites::host(site), columns.interval_s, columns.timeout_ms);
    write!(rows, "{scheme}://{host}:{port}/,{interval_s},{timeout_ms}")
        .expect("writing to a String cannot fail");
}

fn rules(world: &World, site: u32, rows: &mut String) {
    let [keyword, forbidden] = match world.scenario.body_rule(site, &world.sites) {
        None => ["", ""],
        Some(BodyRule::Keyword) => [CANARY, ""],
        Some(BodyRule::Forbidden) => ["", DEFACEMENT],
    };
    write!(rows, ",{keyword},{forbidden}").expect("writing to a String cannot fail");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::Clock;
    use crate::scenario_file;
    use crate::sites::SITES_MAX;

    fn list(count: u32, scenario: &str) -> impl Iterator<Item = String> {
        let sites = Sites {
            count,
            interval_s: 10,
            https_every: 0,
            addresses: 256,
        };
        let scenario = scenario_file::parse(scenario, &sites).expect("a valid scenario");
        let world = World::new(sites, scenario, Clock::start(), 3_600, 10_000, false);
        let places = Places {
            http: 80,
            https: 443,
            gates: vec![81],
        };
        let columns = Columns {
            interval_s: 300,
            timeout_ms: 5_000,
        };
        pieces(Arc::new(world), places, columns)
    }

    #[test]
    fn each_site_has_its_row_once_across_the_pieces() {
        let text: String = list(10_000, "").collect();
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(rows[0], "url,interval_s,timeout_ms");
        for (site, row) in rows[1..].iter().enumerate() {
            assert_eq!(*row, format!("http://s-{site:07}.farm.test:80/,300,5000"));
        }
        assert_eq!(rows.len(), 10_001);
    }

    #[test]
    fn rules_and_gates_are_in_the_rows_of_their_sites() {
        let text: String = list(
            3,
            "[[fault]]\nkind='keyword_missing'\nfirst_site=1\nduration_s=1\n\
             [[fault]]\nkind='refuse'\nfirst_site=2\nduration_s=1\n",
        )
        .collect();
        let expected = format!(
            "url,interval_s,timeout_ms,keyword,forbidden\n\
             http://s-0000000.farm.test:80/,300,5000,,\n\
             http://s-0000001.farm.test:80/,300,5000,{CANARY},\n\
             http://s-0000002.farm.test:81/,300,5000,,\n"
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn the_first_rows_of_the_largest_farm_do_not_wait_for_the_last_ones() {
        let mut list = list(SITES_MAX, "");
        list.next().expect("the head");
        let first = list.next().expect("rows");
        assert!(first.starts_with("http://s-0000000."), "{first}");
        assert!(first.capacity() < 1 << 20, "{} B", first.capacity());
    }
}
