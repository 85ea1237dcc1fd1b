//! A legacy table of which no stream tells: rows that are switched are found by counts, edits by
//! the sweep. What both cost goes on all the time, and is measured in a window of its own.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use tokio::time::sleep;

use super::super::Place;
use super::super::filled::LEGACY_TABLE;
use super::{Bed, Change, Effect, Fleet, Seen};
use crate::clock::Stopwatch;

/// Rows that are edited, as far from each other as they can be: one of them is read late in a
/// sweep, wherever that is.
const EDITED: u32 = 5;
const POLL: Duration = Duration::from_millis(100);
/// An edit that is not in effect after so many sweeps never will be.
const SWEEPS_MAX: u32 = 3;

pub(super) async fn measure(place: &Place<'_>, bed: &Bed<'_>, seen: &mut Seen) -> Result<()> {
    seen.regular.push(bed.regular(place.sizes.steady_s).await?);
    // Neither disturbs the other: edits are seen in the rate, switched rows in the number.
    let (switched, edited) = tokio::join!(switches(bed, place.sizes.changes), edits(bed, place));
    seen.effects.extend(switched?);
    seen.effects.extend(edited?);
    Ok(())
}

async fn switches(bed: &Bed<'_>, rounds: u32) -> Result<Vec<Effect>> {
    let mut effects = Vec::new();
    for round in 0..rounds {
        for change in [Change::Added, Change::SwitchedOff] {
            effects.push(bed.effect(change, round).await?);
        }
    }
    Ok(effects)
}

async fn edits(bed: &Bed<'_>, place: &Place<'_>) -> Result<Vec<Effect>> {
    let sites = u64::from(place.sizes.start_sites);
    let ids: Vec<String> = (0..EDITED)
        .map(|nth| (1 + sites * u64::from(nth) / u64::from(EDITED)).to_string())
        .collect();
    let before = Fleet::of(&bed.node.scrape().await?);
    let watch = Stopwatch::start();
    let changed = bed.server.sql(&format!(
        "UPDATE {LEGACY_TABLE} SET check_interval = 1 WHERE jetpack_monitor_site_id IN ({}); \
         SELECT ROW_COUNT()",
        ids.join(", ")
    ))?;
    ensure!(
        changed == EDITED.to_string(),
        "{changed} rows of {EDITED} were edited"
    );
    let limit = Duration::from_secs(u64::from(SWEEPS_MAX * place.sizes.sweep_s));
    let mut effects = Vec::new();
    while effects.len() < ids.len() {
        let now = Fleet::of(&bed.node.scrape().await?);
        let news = edited(before, now).saturating_sub(effects.len());
        let effect = Effect {
            store: bed.store,
            change: Change::Changed,
            seconds: watch.seconds(),
            is_whole: false,
            node_cpu_ms: None,
            server: None,
        };
        effects.extend(std::iter::repeat_n(effect, news));
        if watch.elapsed() > limit {
            bail!("{}: an edit is not in effect within {limit:?}", bed.store);
        }
        sleep(POLL).await;
    }
    Ok(effects)
}

/// How many targets went from a check a day to one a minute.
fn edited(before: Fleet, now: Fleet) -> usize {
    ((now.rate - before.rate) * 60.0).round() as usize
}

#[cfg(test)]
mod tests {
    use super::super::super::filled::INTERVAL_S;
    use super::*;

    #[test]
    fn edits_are_counted_by_the_rate_whatever_is_switched_meanwhile() {
        let daily = 1.0 / f64::from(INTERVAL_S);
        let before = Fleet {
            targets: 1e6,
            rate: 1e6 * daily,
        };
        let after = |edits: f64, more: f64| Fleet {
            targets: 1e6 + more,
            rate: before.rate + edits * (1.0 / 60.0 - daily) + more * daily,
        };
        assert_eq!(edited(before, before), 0);
        assert_eq!(edited(before, after(0.0, 5.0)), 0);
        assert_eq!(edited(before, after(1.0, -5.0)), 1);
        assert_eq!(edited(before, after(5.0, 5.0)), 5);
    }
}
