//! CPU time and memory of processes and threads, read from `/proc`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// User and system time of a process, its ended threads included.
pub(crate) fn process_cpu(pid: u32) -> Result<Duration> {
    cpu_of(Path::new(&format!("/proc/{pid}/stat")))
}

/// CPU time of one thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ThreadCpu {
    /// Name as the kernel keeps it (15 bytes).
    pub(crate) name: String,
    pub(crate) tid: u32,
    pub(crate) cpu: Duration,
}

/// CPU time of every living thread of a process.
pub(crate) fn threads(pid: u32) -> Result<Vec<ThreadCpu>> {
    let folder = format!("/proc/{pid}/task");
    let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot list {folder}"))?;
    let mut threads = Vec::new();
    for entry in entries {
        let path = entry?.path();
        // A thread may end between the listing and the reading; its time stays in the process's.
        let (Ok(cpu), Ok(name)) = (cpu_of(&path.join("stat")), read(&path.join("comm"))) else {
            continue;
        };
        let tid = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|id| id.parse().ok());
        threads.push(ThreadCpu {
            name: name.trim().to_owned(),
            tid: tid.unwrap_or(0),
            cpu,
        });
    }
    Ok(threads)
}

/// What each thread of `after` used since `before`, in seconds; the busiest first, idle ones left
/// out.
pub(crate) fn used_since(before: &[ThreadCpu], after: &[ThreadCpu]) -> Vec<(String, f64)> {
    let used = |thread: &ThreadCpu| {
        let before = before.iter().find(|old| old.tid == thread.tid);
        let before = before.map_or(Duration::ZERO, |old| old.cpu);
        let used = thread.cpu.saturating_sub(before);
        (thread.name.clone(), used.as_secs_f64())
    };
    let mut threads: Vec<(String, f64)> = after.iter().map(used).collect();
    threads.retain(|(_, seconds)| *seconds > 0.0);
    threads.sort_by(|a, b| b.1.total_cmp(&a.1));
    threads
}

/// CPU time of all threads whose name starts with `prefix`; without any there is nothing to tell.
pub(crate) fn threads_cpu(pid: u32, prefix: &str) -> Result<Duration> {
    let threads = threads(pid)?;
    let named = threads.iter().filter(|t| t.name.starts_with(prefix));
    let times: Vec<Duration> = named.map(|t| t.cpu).collect();
    ensure!(!times.is_empty(), "process {pid} has no thread {prefix}");
    Ok(times.into_iter().sum())
}

/// How far ticks of user and of system time may be off what the kernel counts in nanoseconds.
const TICKS_OFF: Duration = Duration::from_millis(20);

/// How long a process was on a CPU, by two counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    /// Ended threads included, in ticks of 10 ms.
    process: Duration,
    /// Of each living thread, by its id, in the kernel's own nanoseconds.
    threads: BTreeMap<u32, Duration>,
}

impl Ran {
    /// Since the process began.
    pub(crate) fn read(pid: u32) -> Result<Self> {
        let folder = format!("/proc/{pid}/task");
        let entries =
            std::fs::read_dir(&folder).with_context(|| format!("cannot list {folder}"))?;
        let mut threads = BTreeMap::new();
        for entry in entries {
            let entry = entry?;
            let Ok(text) = read(&entry.path().join("schedstat")) else {
                continue;
            };
            let tid = entry.file_name().to_str().and_then(|id| id.parse().ok());
            let one = tid.zip(parse_ran(&text));
            threads.extend([one.with_context(|| format!("odd schedstat in {folder}"))?]);
        }
        let process = process_cpu(pid)?;
        Ok(Self { process, threads })
    }

    /// Since `before`, in ticks: of long times.
    pub(crate) fn ticks_since(&self, before: &Self) -> Duration {
        self.process.saturating_sub(before.process)
    }

    /// Since `before`, in nanoseconds: of short times. `None` where that cannot be known: a thread
    /// ended, and what it ran went with it. One that began after `before` as well shows by the
    /// ticks of the process, if it ran for longer than those are exact.
    pub(crate) fn since(&self, before: &Self) -> Option<Duration> {
        if !before
            .threads
            .keys()
            .all(|tid| self.threads.contains_key(tid))
        {
            return None;
        }
        let mut ran = Duration::ZERO;
        for (tid, now) in &self.threads {
            let then = before.threads.get(tid).copied().unwrap_or_default();
            // An id that was given once more begins at nothing.
            ran += now.checked_sub(then)?;
        }
        (self.ticks_since(before) <= ran + TICKS_OFF).then_some(ran)
    }
}

/// Time on the CPU, the first number, in ns.
fn parse_ran(text: &str) -> Option<Duration> {
    let ran_ns = text.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(ran_ns))
}

/// How a thread waited for its CPU.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Queued {
    /// Time that it was ready to run while others had the CPU.
    pub(crate) time: Duration,
    /// How often it got the CPU.
    pub(crate) turns: u64,
}

/// How a thread waited for its CPU since it began.
pub(crate) fn thread_queued(pid: u32, tid: u32) -> Result<Queued> {
    let file = format!("/proc/{pid}/task/{tid}/schedstat");
    let text = read(Path::new(&file))?;
    parse_schedstat(&text).with_context(|| format!("odd {file}"))
}

/// Time on the CPU, time in its queue (both in ns), and turns.
fn parse_schedstat(text: &str) -> Option<Queued> {
    let mut fields = text.split_ascii_whitespace().skip(1);
    let queued_ns = fields.next()?.parse().ok()?;
    Some(Queued {
        time: Duration::from_nanos(queued_ns),
        turns: fields.next()?.parse().ok()?,
    })
}

/// Resident memory of a process, in bytes.
pub(crate) fn rss_bytes(pid: u32) -> Result<u64> {
    let text = read(Path::new(&format!("/proc/{pid}/status")))?;
    kib_of(&text, "VmRSS:").context("no VmRSS")
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[expect(clippy::struct_field_names, reason = "units come last")]
pub(crate) struct Memory {
    /// `VmRSS`: every page that it has, the program's own file too.
    pub(crate) rss_bytes: u64,
    /// The same, of a page that others have as well only its share.
    pub(crate) pss_bytes: u64,
    /// Pages that nobody else has and that were written to: heap and stacks.
    pub(crate) private_dirty_bytes: u64,
}

/// Memory of a process.
pub(crate) fn memory(pid: u32) -> Result<Memory> {
    let file = format!("/proc/{pid}/smaps_rollup");
    let text = read(Path::new(&file))?;
    let of = |name: &str| kib_of(&text, name).with_context(|| format!("no {name} in {file}"));
    Ok(Memory {
        rss_bytes: rss_bytes(pid)?,
        pss_bytes: of("Pss:")?,
        private_dirty_bytes: of("Private_Dirty:")?,
    })
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn cpu_of(stat: &Path) -> Result<Duration> {
    let text = read(stat)?;
    let ticks = parse_cpu_ticks(&text).with_context(|| format!("odd {}", stat.display()))?;
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

/// `utime` + `stime`, fields 14 and 15 of `/proc/PID/stat`; the name before them may hold spaces.
fn parse_cpu_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// The bytes that the line `name` says in KiB.
fn kib_of(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_ticks_are_found_behind_an_odd_name() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 98 0 0 0 1200 34 5 6 20 0 3 0 9 1 2";
        assert_eq!(parse_cpu_ticks(stat), Some(1_234));
        assert_eq!(parse_cpu_ticks("7 (a) S 1"), None);
    }

    #[test]
    fn the_queue_is_the_second_number_and_its_turns_the_third() {
        let queued = parse_schedstat("20655565919 578631053 62854\n").expect("three numbers");
        assert_eq!(queued.time, Duration::from_nanos(578_631_053));
        assert_eq!(queued.turns, 62_854);
        assert!(parse_schedstat("1 2").is_none());
    }

    #[test]
    fn time_on_the_cpu_is_the_first_number_of_every_thread() {
        let ran = parse_ran("20655565919 578631053 62854\n").expect("a number");
        assert_eq!(ran, Duration::from_nanos(20_655_565_919));
        assert!(parse_ran("").is_none() && parse_ran("x 1 2").is_none());
        let own = Ran::read(std::process::id()).expect("read");
        assert!(
            own.threads.values().any(|ran| !ran.is_zero()),
            "this test ran"
        );
    }

    /// Lesson: a server that read 446,296 rows in a minute was said to have used no CPU, because a
    /// thread of it that had run for longer ended.
    #[test]
    fn what_ended_threads_ran_is_counted_in_ticks_or_not_known() {
        let ms = Duration::from_millis;
        let ran = |process: u64, threads: &[(u32, u64)]| Ran {
            process: ms(process),
            threads: threads.iter().map(|&(tid, ran)| (tid, ms(ran))).collect(),
        };
        let before = ran(1_000, &[(1, 300), (2, 700)]);
        let since = |now: Ran| now.since(&before);
        assert_eq!(
            since(ran(1_010, &[(1, 302), (2, 700), (3, 5)])),
            Some(ms(7))
        );
        let ended = ran(1_070, &[(1, 302), (3, 68)]);
        assert_eq!(ended.ticks_since(&before), ms(70));
        assert_eq!(since(ended), None);
        assert_eq!(
            since(ran(1_070, &[(1, 302), (2, 1)])),
            None,
            "another thread"
        );
        assert_eq!(
            since(ran(1_070, &[(1, 302), (2, 700)])),
            None,
            "came and went"
        );
        assert_eq!(since(ran(1_020, &[(1, 302), (2, 700)])), Some(ms(2)));
    }

    #[test]
    fn resident_memory_is_in_bytes() {
        let status = "Name:\tx\nVmRSS:\t    2048 kB\n";
        assert_eq!(kib_of(status, "VmRSS:"), Some(2_097_152));
        assert_eq!(kib_of("Name:\tx\n", "VmRSS:"), None);
        let rollup = "55-7f ---p 00 00:00 0  [rollup]\nPss:  3 kB\nPss_Dirty:  1 kB\n";
        assert_eq!(kib_of(rollup, "Pss:"), Some(3_072));
    }

    #[test]
    fn what_threads_used_is_sorted_and_without_the_idle() {
        let thread = |tid, name: &str, ms| ThreadCpu {
            name: name.to_owned(),
            tid,
            cpu: Duration::from_millis(ms),
        };
        let before = [thread(1, "a", 500), thread(2, "b", 70)];
        let after = [
            thread(1, "a", 750),
            thread(2, "b", 70),
            thread(3, "c", 1_000),
        ];
        let used = used_since(&before, &after);
        assert_eq!(used, [("c".to_owned(), 1.0), ("a".to_owned(), 0.25)]);
    }

    #[test]
    fn this_process_has_threads_time_and_memory() {
        let own = std::process::id();
        let threads = threads(own).expect("listed");
        assert!(threads.iter().any(|thread| thread.tid == own));
        let memory = memory(own).expect("read");
        assert!(memory.rss_bytes >= memory.private_dirty_bytes);
        assert!(memory.private_dirty_bytes > 100_000 && memory.pss_bytes > 100_000);
        let error = threads_cpu(own, "no such thread").expect_err("there is none");
        assert!(error.to_string().contains("has no thread no such thread"));
    }
}
