//! How often a sink turns that has nothing to do.

use std::time::Duration;

use tempfile::tempdir;
use tokio::time::sleep;

use super::one_target;
use crate::run;
use crate::testbed::{config, follow_time, on_virtual_time};

#[test]
fn a_quiet_sink_turns_soon_for_whoever_asks_and_no_more_often_than_a_busy_one() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let bed = one_target(config(dir.path())).await;
        follow_time(bed.clock_ms);
        tokio::task::spawn_local(run::turn_until_stopped(bed.sink));
        sleep(Duration::from_secs(5)).await;
        let turns = || bed.stats.snapshot().counters.turns;
        let before = turns();
        sleep(Duration::from_secs(1)).await;
        let idle = turns() - before;
        assert!((4..=5).contains(&idle), "{idle}");
        for _ in 0..5 {
            let before = turns();
            bed.stats.ask();
            sleep(Duration::from_millis(12)).await;
            assert_eq!(turns() - before, 1);
        }
        let before = turns();
        for _ in 0..100 {
            bed.stats.ask();
            sleep(Duration::from_millis(1)).await;
        }
        let hurried = turns() - before;
        assert!((8..=11).contains(&hurried), "{hurried}");
    });
}
