//! The names that redirects led to lately, held so that the resolver keeps their answers: nearly
//! every check of `example.com` goes on to the same `www.example.com`. Bounded, in two generations:
//! what is used stays, what is not used goes with the older one.

use std::collections::HashSet;

use model::limits::REDIRECT_NAMES_GENERATION_MAX as GENERATION_MAX;
use prober::resolver::HostId;

/// Names held, each by one reference of the resolver.
#[derive(Debug, Default)]
pub(crate) struct RedirectNames {
    young: HashSet<HostId>,
    old: HashSet<HostId>,
}

/// What is to be done about a name that was used.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Used {
    /// It was not held: the caller hands over one reference to it.
    pub(crate) is_new: bool,
    /// Names that are held no longer: the caller releases each once.
    pub(crate) gone: Vec<HostId>,
}

impl RedirectNames {
    /// Notes that a redirect led to `host`.
    pub(crate) fn used(&mut self, host: HostId) -> Used {
        if self.young.contains(&host) {
            return Used::default();
        }
        let is_new = !self.old.remove(&host);
        let mut gone = Vec::new();
        if self.young.len() >= GENERATION_MAX {
            gone.extend(self.old.drain());
            std::mem::swap(&mut self.young, &mut self.old);
        }
        self.young.insert(host);
        Used { is_new, gone }
    }

    /// Names held.
    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_use_stays_and_the_others_go_once() {
        let mut names = RedirectNames::default();
        let max = GENERATION_MAX as u32;
        assert!(names.used(HostId(0)).is_new);
        assert_eq!(names.used(HostId(0)), Used::default());
        let mut gone = Vec::new();
        for host in 1..4 * max {
            let used = names.used(HostId(host));
            assert!(used.is_new);
            gone.extend(used.gone);
            assert!(!names.used(HostId(0)).is_new, "used all the time");
            assert!(names.len() <= 2 * GENERATION_MAX);
        }
        let held = names.len();
        gone.sort_unstable();
        gone.dedup();
        assert_eq!(
            gone.len() + held,
            4 * GENERATION_MAX,
            "each is released once"
        );
        assert!(!gone.contains(&HostId(0)));
    }
}
