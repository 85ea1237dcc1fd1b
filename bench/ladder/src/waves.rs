//! A fleet of which a part fails at every moment: waves of sites that answer 503 for a while, one
//! after the other, so that incidents open, are confirmed and end all the time. Pure.

use crate::baseline::sites_for;

/// How often each site is checked, in s.
pub(crate) const INTERVAL_S: u32 = 10;
/// Deadline of a check, in ms.
pub(crate) const TIMEOUT_MS: u32 = 5_000;
/// Seconds from one wave to the next.
const STEP_S: u32 = 5;
/// How long a site fails: its first failing check, those that confirm it, and time for a busy
/// machine.
pub(crate) const FAILING_S: u32 = 45;

/// Which part fails, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waves {
    /// Checks a second of the whole fleet.
    pub(crate) rate: u32,
    /// Part of the sites that fail at a time.
    pub(crate) failing_percent: u32,
    /// The first wave begins so long after the scenario.
    pub(crate) from_s: u32,
    /// The last one begins before this.
    pub(crate) until_s: u32,
}

impl Waves {
    pub(crate) fn sites(self) -> u32 {
        sites_for(self.rate)
    }

    /// Sites of one wave.
    fn wave_sites(self) -> u32 {
        let failing = u64::from(self.sites()) * u64::from(self.failing_percent) / 100;
        (u32::try_from(failing).unwrap_or(u32::MAX) / (FAILING_S / STEP_S)).max(1)
    }

    /// The scenario as the farm reads it.
    pub(crate) fn toml(self) -> String {
        let count = self.wave_sites();
        let places = (self.sites() / count).max(1);
        let starts = (self.from_s..self.until_s).step_by(STEP_S as usize);
        let wave = |(number, start_s): (u32, u32)| {
            let first_site = number % places * count;
            format!(
                "[[fault]]\nkind = \"status\"\nstatus = 503\nfirst_site = {first_site}\n\
                 count = {count}\noffset_s = {start_s}\nduration_s = {FAILING_S}\n"
            )
        };
        (0..).zip(starts).map(wave).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_sites_fail_at_a_time_and_none_twice_at_once() {
        let waves = Waves {
            rate: 5_000,
            failing_percent: 5,
            from_s: 20,
            until_s: 340,
        };
        let file: toml::Table = waves.toml().parse().expect("valid TOML");
        let faults = file["fault"].as_array().expect("tables");
        assert_eq!(faults.len(), 64);
        let number = |fault: &toml::Value, key: &str| fault[key].as_integer().expect("a number");
        let at = |second: i64| {
            let active = faults.iter().filter(|fault| {
                let start = number(fault, "offset_s");
                (start..start + number(fault, "duration_s")).contains(&second)
            });
            let firsts: std::collections::BTreeSet<i64> = active
                .clone()
                .map(|fault| number(fault, "first_site"))
                .collect();
            assert_eq!(firsts.len(), active.count(), "each its own sites");
            firsts.len() as i64 * number(&faults[0], "count")
        };
        let failing = at(200) as f64 / f64::from(waves.sites());
        assert!((0.04..=0.05).contains(&failing), "{failing}");
        assert_eq!(at(19), 0);
    }
}
