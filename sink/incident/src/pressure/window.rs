//! Results of the last seconds, in buckets of one second.

use model::MonoUs;
use model::limits::PRESSURE_WINDOW_S;

/// Results that said something, and how many of them failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// All of them.
    pub results: u64,
    /// Failing ones.
    pub failing: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    second: u64,
    share: Share,
}

/// The last [`PRESSURE_WINDOW_S`] seconds; a bucket is used again when its second is over.
#[derive(Debug, Default)]
pub(super) struct Window {
    buckets: [Bucket; PRESSURE_WINDOW_S],
}

fn second(now: MonoUs) -> u64 {
    now.0 / 1_000_000
}

impl Window {
    pub(super) fn add(&mut self, drained: Share, now: MonoUs) {
        let second = second(now);
        let bucket = &mut self.buckets[(second % PRESSURE_WINDOW_S as u64) as usize];
        if bucket.second != second {
            *bucket = Bucket {
                second,
                ..Bucket::default()
            };
        }
        bucket.share.results += drained.results;
        bucket.share.failing += drained.failing;
    }

    pub(super) fn share(&self, now: MonoUs) -> Share {
        let second = second(now);
        let is_recent =
            |bucket: &&Bucket| second - bucket.second.min(second) < PRESSURE_WINDOW_S as u64;
        let recent = self.buckets.iter().filter(is_recent);
        recent.fold(Share::default(), |sum, bucket| Share {
            results: sum.results + bucket.share.results,
            failing: sum.failing + bucket.share.failing,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_count_for_ten_seconds_and_a_bucket_forgets_the_turn_before() {
        let mut window = Window::default();
        let at = |ms: u64| MonoUs(ms * 1_000);
        let one = Share {
            results: 10,
            failing: 1,
        };
        (0..30).for_each(|second| window.add(one, at(second * 1_000)));
        let ten = Share {
            results: 100,
            failing: 10,
        };
        assert_eq!(window.share(at(29_999)), ten);
        assert_eq!(window.share(at(30_000)).results, 90);
        assert_eq!(window.share(at(38_999)).results, 10);
        assert_eq!(window.share(at(39_000)), Share::default());
        assert_eq!(window.share(at(900_000)), Share::default());
    }
}
