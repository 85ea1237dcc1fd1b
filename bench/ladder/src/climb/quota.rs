//! A bound on the CPU time of one thread: a threaded cgroup (v2) with `cpu.max`, where the kernel
//! has one with that controller and lets us write there. The group is ours and goes with its
//! owner.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

const MOUNTS: &str = "/proc/self/mounts";
const OWN: &str = "/proc/self/cgroup";
/// How often the thread gets its part anew: a tenth of the usual, so that it never stands for long.
const PERIOD_US: u64 = 10_000;
/// The least that the kernel accepts.
const QUOTA_MIN_US: u64 = 1_000;

/// A thread that is bounded until this is dropped.
#[derive(Debug)]
pub(super) struct Quota {
    /// The group that the thread was in and goes back to.
    parent: PathBuf,
    group: PathBuf,
    tid: u32,
    allowed_us: u64,
}

impl Quota {
    /// Leaves a thread of a child of this process so much of a CPU.
    ///
    /// # Errors
    /// When there is no such cgroup, or it must not be written to.
    pub(super) fn start(tid: u32, share: f64) -> Result<Self> {
        let read = |file: &str| {
            std::fs::read_to_string(file).with_context(|| format!("cannot read {file}"))
        };
        let own = own_group(&read(MOUNTS)?, &read(OWN)?);
        Self::below(&own.context("no cgroup v2 is mounted")?, tid, share)
    }

    fn below(parent: &Path, tid: u32, share: f64) -> Result<Self> {
        let group = parent.join(format!("ringwatch-ladder-{tid}"));
        std::fs::create_dir_all(&group)
            .with_context(|| format!("cannot make {}", group.display()))?;
        let allowed_us = ((share * PERIOD_US as f64).round() as u64).max(QUOTA_MIN_US);
        // From here on its drop removes what is there.
        let quota = Self {
            parent: parent.to_owned(),
            group,
            tid,
            allowed_us,
        };
        let group = &quota.group;
        tell(&group.join("cgroup.type"), "threaded")?;
        tell(&parent.join("cgroup.subtree_control"), "+cpu")?;
        tell(&group.join("cpu.max"), &format!("{allowed_us} {PERIOD_US}"))?;
        tell(&group.join("cgroup.threads"), &tid.to_string())?;
        Ok(quota)
    }

    /// Part of a CPU that the thread is left.
    pub(super) fn share(&self) -> f64 {
        self.allowed_us as f64 / PERIOD_US as f64
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        // A thread that has ended is in no group; a group that stays bounds nothing.
        let _ = tell(&self.group.join("cpu.max"), "max");
        let _ = tell(&self.parent.join("cgroup.threads"), &self.tid.to_string());
        let _ = std::fs::remove_dir(&self.group);
    }
}

/// Writes to a file that the kernel made: one that is not there is not wanted.
fn tell(file: &Path, text: &str) -> Result<()> {
    let open = std::fs::OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(file);
    open.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {text} to {}", file.display()))
}

/// Folder of the group of this process, by what the kernel says of mounts and of it.
fn own_group(mounts: &str, own: &str) -> Option<PathBuf> {
    let mut mounts = mounts.lines().map(str::split_ascii_whitespace);
    let mount = mounts.find_map(|mut fields| {
        let at = fields.nth(1)?;
        (fields.next()? == "cgroup2").then_some(at)
    })?;
    let group = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(Path::new(mount).join(group))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_that_of_the_process_below_the_mount() {
        let mounts = "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let own = "3:cpu:/old\n0::/user.slice/a.scope\n";
        assert_eq!(
            own_group(mounts, own),
            Some("/sys/fs/cgroup/unified/user.slice/a.scope".into())
        );
        assert_eq!(
            own_group(mounts, "0::/\n"),
            Some("/sys/fs/cgroup/unified/".into())
        );
        assert_eq!(own_group("tmpfs / tmpfs rw 0 0\n", own), None);
        assert_eq!(own_group(mounts, "3:cpu:/old\n"), None);
    }

    #[test]
    fn where_it_is_refused_nothing_is_left() {
        let parent = tempfile::tempdir().expect("a folder");
        let error = Quota::below(parent.path(), 7, 0.25).expect_err("no cgroup");
        assert!(format!("{error:#}").contains("cgroup.type"), "{error:#}");
        let left = std::fs::read_dir(parent.path()).expect("listed");
        assert_eq!(left.count(), 0);
    }

    #[test]
    fn the_thread_is_bounded_and_goes_back() {
        let parent = tempfile::tempdir().expect("a folder");
        let group = parent.path().join("ringwatch-ladder-7");
        std::fs::create_dir(&group).expect("made");
        let files = ["cgroup.type", "cpu.max", "cgroup.threads"].map(|name| group.join(name));
        let more =
            ["cgroup.subtree_control", "cgroup.threads"].map(|name| parent.path().join(name));
        for file in files.iter().chain(&more) {
            std::fs::write(file, "").expect("made");
        }
        let says = |file: &Path| std::fs::read_to_string(file).expect("read");
        let quota = Quota::below(parent.path(), 7, 0.25).expect("bounded");
        assert!((quota.share() - 0.25).abs() < 1e-9);
        let [kind, bound, threads] = files.each_ref().map(|file| says(file));
        assert_eq!((kind.as_str(), bound.as_str()), ("threaded", "2500 10000"));
        assert_eq!((threads.as_str(), says(&more[0]).as_str()), ("7", "+cpu"));
        drop(quota);
        assert_eq!(
            (says(&files[1]).as_str(), says(&more[1]).as_str()),
            ("max", "7")
        );
        let least = Quota::below(parent.path(), 7, 0.01).expect("bounded");
        assert!((least.share() - 0.1).abs() < 1e-9);
    }
}
