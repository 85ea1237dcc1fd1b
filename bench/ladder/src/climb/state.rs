//! Where a climb is: written after every run, so that one that was interrupted goes on after its
//! last clean rung. Which runs count is pure.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::plan::Rung;
use super::record::{FORMAT, Report, Run, Verdict, write_whole};

const FILE: &str = "state.json";
/// Folders of other climbs that are kept beside one.
const ASIDES_MAX: u32 = 999;

/// A climb that has begun.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    /// Every run in order, repeats too.
    pub(super) planned: Vec<Rung>,
    /// What is there so far.
    pub(super) report: Report,
}

impl State {
    /// Runs of `old` that need not be made again: those up to its last clean one.
    ///
    /// # Errors
    /// Why it is another climb: nothing of it counts here.
    fn kept_of(&self, old: &Self) -> Result<Vec<Run>, String> {
        let (now, was) = (&self.report, &old.report);
        let other = if was.format != FORMAT {
            Some("of another format")
        } else if old.planned != self.planned || was.form != now.form {
            Some("of other rungs")
        } else if was.cpus != now.cpus || !was.machine.is_like(&now.machine) {
            Some("of another machine or other CPUs")
        } else if was.machine.revision != now.machine.revision {
            Some("of another revision")
        } else {
            None
        };
        if let Some(other) = other {
            return Err(format!("is {other}"));
        }
        let mut runs = old.report.runs.clone();
        let last = runs.iter().rposition(|run| run.verdict == Verdict::Clean);
        runs.truncate(last.map_or(0, |index| index + 1));
        Ok(runs)
    }

    /// Index of the planned run that comes after those that are there.
    pub(super) fn next(&self) -> usize {
        let Some(last) = self.report.runs.last() else {
            return 0;
        };
        let same = |rung: &&Rung| **rung == last.rung;
        let done = self
            .report
            .runs
            .iter()
            .filter(|run| run.rung == last.rung)
            .count();
        let all = self
            .planned
            .iter()
            .enumerate()
            .filter(|(_, rung)| same(rung));
        all.map(|(index, _)| index + 1)
            .nth(done - 1)
            .unwrap_or(self.planned.len())
    }

    /// Why `rung` is not tried: one of the same kind below it was not clean, on any of its tries.
    pub(super) fn blocked(&self, rung: &Rung) -> Option<String> {
        let is_clean = |of: &Rung| {
            let mut runs = self.report.runs.iter();
            runs.any(|run| run.rung == *of && run.verdict == Verdict::Clean)
        };
        let mut runs = self.report.runs.iter();
        let below =
            runs.find(|run| run.rung != *rung && run.rung.is_below(rung) && !is_clean(&run.rung))?;
        let (name, of) = (rung.name(), below.rung.name());
        Some(format!(
            "{name}: {of} below it was {}",
            below.verdict.word()
        ))
    }

    /// Name of the folder of this climb: the form, and a hash of what is planned, so that a climb
    /// of other rungs finds its own and leaves this one alone.
    ///
    /// # Errors
    /// When the plan cannot be written down.
    pub(super) fn folder_name(&self) -> Result<String> {
        let plan = serde_json::to_vec(&self.planned)?;
        Ok(format!(
            "{}-{:08x}",
            self.report.form.name(),
            hash(&plan) >> 32
        ))
    }

    /// Takes over what a climb in `folder` left, if it is this one; else puts the whole folder, its
    /// logs too, aside under a number that is free.
    ///
    /// # Errors
    /// When a file cannot be read, or the folder not be moved.
    pub(super) fn resume(&mut self, folder: &Path) -> Result<Option<String>> {
        let file = path(folder);
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", file.display()));
            }
        };
        let kept = match serde_json::from_str::<Self>(&text) {
            Ok(old) => self.kept_of(&old).map(|runs| (runs, old.report.left_out)),
            Err(error) => Err(format!("is not understood ({error})")),
        };
        let shown = file.display();
        match kept {
            Ok((runs, left_out)) => {
                self.report.runs = runs;
                let (next, all) = (self.next(), self.planned.len());
                // What comes now may be tried after all.
                let before = |why: &String| {
                    let of = |rung: &Rung| why.starts_with(&format!("{}: ", rung.name()));
                    self.planned[..next].iter().any(of)
                };
                self.report.left_out = left_out.into_iter().filter(before).collect();
                Ok(Some(format!("{shown}: goes on after {next} of {all} runs")))
            }
            Err(why) => {
                let aside = put_aside(folder)?;
                let aside = aside.display();
                Ok(Some(format!(
                    "{shown} {why}: begins anew; all of it is kept in {aside}"
                )))
            }
        }
    }

    /// Writes it down.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn keep(&self, folder: &Path) -> Result<()> {
        write_whole(&path(folder), self)
    }
}

/// Moves `folder` to its name with `.old-` and a number that is free, and makes it anew.
fn put_aside(folder: &Path) -> Result<PathBuf> {
    let named = |number: u32| {
        let mut name = folder.as_os_str().to_owned();
        name.push(format!(".old-{number}"));
        PathBuf::from(name)
    };
    let aside = (1..=ASIDES_MAX).map(named).find(|aside| !aside.exists());
    let aside = aside.with_context(|| {
        let shown = folder.display();
        format!("{ASIDES_MAX} climbs are kept beside {shown}: remove what nobody needs")
    })?;
    std::fs::rename(folder, &aside)
        .and_then(|()| std::fs::create_dir(folder))
        .with_context(|| format!("cannot move {} aside", folder.display()))?;
    Ok(aside)
}

/// FNV-1a: the same in every build, which the hashers of the standard library do not promise.
fn hash(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// Forgets the climb in `folder`.
///
/// # Errors
/// When its file cannot be removed.
pub(super) fn forget(folder: &Path) -> Result<()> {
    remove(&path(folder))
}

/// Removes a file if it is there.
///
/// # Errors
/// When it cannot be removed.
pub(super) fn remove(file: &Path) -> Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", file.display()))
        }
        _ => Ok(()),
    }
}

fn path(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

#[cfg(test)]
mod tests {
    use super::super::record::testbed;
    use super::*;

    fn rung(sites: u32) -> Rung {
        Rung {
            sites,
            ..testbed::rung()
        }
    }

    /// Three rungs, twice; `verdicts`: of the first runs of them.
    fn state(verdicts: &[Verdict]) -> State {
        let planned = [1_000, 2_000, 3_000, 1_000, 2_000, 3_000]
            .map(rung)
            .to_vec();
        let runs = planned.iter().zip(verdicts).map(|(&rung, &verdict)| Run {
            verdict,
            ..testbed::run(rung, 37.0)
        });
        let report = Report {
            runs: runs.collect(),
            ..testbed::report()
        };
        State { planned, report }
    }

    #[test]
    fn a_climb_goes_on_after_its_last_clean_rung() {
        use Verdict::{Clean, Failed, Void};
        let new = state(&[]);
        for (verdicts, kept) in [
            (&[][..], 0),
            (&[Clean, Clean][..], 2),
            (&[Clean, Failed][..], 1),
            (&[Void][..], 0),
            (&[Clean, Failed, Clean, Void][..], 3),
        ] {
            let mut found = new.clone();
            found.report.runs = new.kept_of(&state(verdicts)).expect("the same climb");
            assert_eq!(
                (found.report.runs.len(), found.next()),
                (kept, kept),
                "{verdicts:?}"
            );
        }
    }

    #[test]
    fn a_rung_that_was_left_out_does_not_shift_what_comes_next() {
        let mut found = state(&[Verdict::Clean]);
        found.report.runs.push(testbed::run(rung(3_000), 37.0));
        assert_eq!(found.next(), 3, "the second was left out");
        found.report.runs.push(testbed::run(rung(1_000), 37.0));
        assert_eq!(found.next(), 4);
        assert_eq!(state(&[Verdict::Clean; 6]).next(), 6);
    }

    #[test]
    fn another_climb_is_not_taken_over_and_not_lost() {
        let new = state(&[]);
        let refused = |change: fn(&mut State)| {
            let mut old = state(&[Verdict::Clean]);
            change(&mut old);
            new.kept_of(&old).expect_err("another")
        };
        assert_eq!(refused(|s| s.planned.truncate(5)), "is of other rungs");
        assert_eq!(refused(|s| s.report.format = 0), "is of another format");
        assert_eq!(
            refused(|s| s.report.machine.cores = 9),
            "is of another machine or other CPUs"
        );
        assert_eq!(
            refused(|s| s.report.machine.revision = None),
            "is of another revision"
        );
        let mut old = state(&[Verdict::Clean]);
        old.report.machine.load_before = 3.0;
        assert!(
            new.kept_of(&old).is_ok(),
            "what changes by itself does not matter"
        );
    }

    #[test]
    fn a_climb_is_taken_up_where_it_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut climb = state(&[]);
        assert_eq!(climb.resume(folder.path()).expect("nothing there"), None);
        let mut old = state(&[Verdict::Clean, Verdict::Clean]);
        let left_out = ["http-sqlite-2k@60: it was", "http-sqlite-3k@60: it was"];
        old.report.left_out = left_out.map(str::to_owned).to_vec();
        old.keep(folder.path()).expect("written");
        let said = climb.resume(folder.path()).expect("read").expect("said");
        assert!(said.ends_with("goes on after 2 of 6 runs"), "{said}");
        assert_eq!(
            climb.report.left_out,
            left_out[..1],
            "the other is tried again"
        );
        forget(folder.path()).expect("removed");
        forget(folder.path()).expect("nothing to forget is no error");
    }

    #[test]
    fn what_is_not_understood_is_kept_with_its_logs_and_never_written_over() {
        let all = tempfile::tempdir().expect("a folder");
        let folder = all.path().join("full-1");
        std::fs::create_dir(&folder).expect("made");
        for number in 1..=2 {
            std::fs::write(path(&folder), "{").expect("cut");
            std::fs::write(folder.join("log"), number.to_string()).expect("written");
            let mut climb = state(&[]);
            let said = climb.resume(&folder).expect("read").expect("said");
            assert!(
                said.contains("is not understood") && said.contains("begins anew"),
                "{said}"
            );
            assert!(climb.report.runs.is_empty() && !path(&folder).exists());
        }
        for number in ["1", "2"] {
            let aside = all.path().join(format!("full-1.old-{number}"));
            assert!(aside.join(FILE).exists());
            let log = std::fs::read_to_string(aside.join("log")).expect("kept");
            assert_eq!(log, number);
        }
    }

    #[test]
    fn climbs_of_other_rungs_have_folders_of_their_own() {
        let named = |change: fn(&mut State)| {
            let mut state = state(&[]);
            change(&mut state);
            state.folder_name().expect("named")
        };
        let name = named(|_| {});
        assert!(name.starts_with("full-") && name.len() == 13, "{name}");
        assert_eq!(name, named(|s| s.report.machine.revision = None));
        assert_ne!(name, named(|s| s.planned.truncate(5)));
        assert_eq!(hash(b"a"), 0xaf63_dc4c_8601_ec8c, "the known one");
    }

    #[test]
    fn above_a_rung_that_never_was_clean_nothing_is_tried() {
        use Verdict::{Clean, Failed, FarmBound};
        assert_eq!(state(&[Clean, Clean]).blocked(&rung(3_000)), None);
        let blocked = state(&[Clean, FarmBound])
            .blocked(&rung(3_000))
            .expect("blocked");
        assert_eq!(
            blocked,
            "http-sqlite-3k@60: http-sqlite-2k@60 below it was farm-bound"
        );
        assert_eq!(
            state(&[Clean, Failed]).blocked(&rung(2_000)),
            None,
            "its own next try"
        );
        assert_eq!(
            state(&[Clean, Failed, Clean, Clean, Clean]).blocked(&rung(3_000)),
            None
        );
        let other = Rung {
            interval_s: 300,
            ..rung(3_000)
        };
        assert_eq!(
            state(&[Clean, Failed]).blocked(&other),
            None,
            "fewer checks"
        );
    }
}
