//! The open loop of the baselines on tokio, written plainly: one thread, a task per check, and the
//! window in which they are counted. What a check is, it does not know.

use std::rc::Rc;

use anyhow::Result;
use tokio::task::LocalSet;
use tokio::time::{MissedTickBehavior, interval};

use super::child::ChildOptions;
use super::pace::{Pace, TICK};
use super::tally::{Sample, Tally};
use crate::clock::Stopwatch;

/// Starts a `check` of each number in its turn, at the rate of `options`, until the window is over:
/// what was measured in it. A check says whether it succeeded.
///
/// # Errors
/// When the kernel gives no runtime.
pub(super) fn run(
    options: &ChildOptions,
    check: impl AsyncFn(u64) -> bool + 'static,
) -> Result<Sample> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(LocalSet::new().block_on(&runtime, measure(options, check)))
}

async fn measure(options: &ChildOptions, check: impl AsyncFn(u64) -> bool + 'static) -> Sample {
    let (from, to) = options.window();
    let counted = Rc::new((check, Tally::default()));
    let (mut pace, mut mark) = (Pace::new(options.rate), None);
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let watch = Stopwatch::start();
    loop {
        tick.tick().await;
        let elapsed = watch.elapsed();
        if mark.is_none() && elapsed >= from {
            mark = Some(counted.1.mark());
        }
        if let Some(mark) = mark.filter(|_| elapsed >= to) {
            return mark.close(&counted.1);
        }
        for number in pace.due(elapsed) {
            let counted = Rc::clone(&counted);
            tokio::task::spawn_local(async move {
                let (check, tally) = &*counted;
                tally.count(check(number).await);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn every_check_has_its_own_number_and_is_counted_as_what_it_was() {
        let options = ChildOptions {
            peers: PathBuf::new(),
            rate: 200,
            warm_up_s: 0,
            seconds: 1,
            cpu: 0,
            ca_file: None,
            tls_chains_max: None,
        };
        let begun = Rc::new(RefCell::new(Vec::new()));
        let seen = Rc::clone(&begun);
        let check = async move |number: u64| {
            seen.borrow_mut().push(number);
            !number.is_multiple_of(3)
        };
        let sample = run(&options, check).expect("a runtime");
        let begun = begun.borrow();
        assert!(begun.iter().copied().eq(0..begun.len() as u64), "{begun:?}");
        assert_eq!(sample.checks, begun.len() as u64);
        assert_eq!(sample.failed, sample.checks.div_ceil(3));
    }
}
