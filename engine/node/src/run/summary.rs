//! One summary line a minute: what the node did, and whether it is well.

use cores::CoreSnapshot;
use model::{MonoUs, Verdict};
use tracing::info;

use super::status::add;
use super::view::View;
use crate::report::human;

/// What the last line said, to tell rates.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    last: CoreSnapshot,
    at: MonoUs,
}

impl Summary {
    /// Rates are counted from `now`.
    pub(crate) fn from(now: MonoUs) -> Self {
        Self {
            last: CoreSnapshot::default(),
            at: now,
        }
    }

    /// Says the line.
    pub(crate) async fn say(&mut self, view: &View) {
        let accounts = view.accounts().await;
        let now = view.clock.mono();
        let (sink, balanced) = (&accounts.sink, accounts.all_balance());
        let total = accounts.cores.iter().fold(CoreSnapshot::default(), add);
        let seconds = (now.since(self.at) as f64 / 1e6).max(0.001);
        let rate = |count: u64, before: u64| (count - before) as f64 / seconds;
        let verdict =
            |which: Verdict| total.verdicts[which as usize] - self.last.verdicts[which as usize];
        let lag = view.recent_lag();
        info!(
            targets = total.targets,
            required_per_s = format_args!("{:.1}", total.required_per_ks as f64 / 1e3),
            due_per_s = format_args!("{:.1}", rate(total.due, self.last.due)),
            probed_per_s = format_args!("{:.1}", rate(total.probed, self.last.probed)),
            up = verdict(Verdict::Up),
            degraded = verdict(Verdict::Degraded),
            down = verdict(Verdict::Down),
            unknown = verdict(Verdict::Unknown),
            open_down = sink.counters.open_down,
            open_seems_down = sink.counters.open_seems_down,
            in_flight = total.in_flight,
            held = total.held,
            shed = total.shed - self.last.shed,
            lag_p50 = human(lag.value_at_quantile(0.5)),
            lag_p99 = human(lag.value_at_quantile(0.99)),
            balanced,
            "summary"
        );
        (self.last, self.at) = (total, now);
    }
}
