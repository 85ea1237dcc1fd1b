//! The child processes of a run: started in their own process group, so that Ctrl-C reaches the
//! ladder alone, and stopped by it in reverse order. Nothing else is ever signalled.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use rustix::time::Timespec;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::clock::Stopwatch;

/// How often a child is asked whether it has ended.
const POLL: Duration = Duration::from_millis(20);
/// How long an abandoned child may take to end by itself: the node drains for up to 20 s.
const DROP_LIMIT: Timespec = Timespec {
    tv_sec: 25,
    tv_nsec: 0,
};

/// A started child. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) name: &'static str,
    child: Child,
}

impl Running {
    /// Starts `command`; standard error goes to `log`, standard output is `stdout`.
    pub(crate) fn start(
        name: &'static str,
        command: &mut Command,
        log: &Path,
        stdout: Stdio,
    ) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let log_file =
            File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(log_file)
            .process_group(0)
            .spawn()
            .with_context(|| format!("{name} could not be started from {program}"))?;
        Ok(Self { name, child })
    }

    /// Process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Fails when the child has ended.
    pub(crate) fn must_run(&mut self, log: &Path) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let tail = last_lines(log, 5);
            bail!(
                "{} ended early ({status}); {} says:\n{tail}",
                self.name,
                log.display()
            );
        }
        Ok(())
    }

    /// The first line of standard output, within `limit`.
    pub(crate) async fn first_line(&mut self, log: &Path, limit: Duration) -> Result<String> {
        let stdout = self
            .child
            .stdout
            .take()
            .context("standard output is not piped")?;
        let (sender, receiver) = oneshot::channel();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines();
            // The receiver may be gone after its limit; the pipe is read to its end all the same,
            // so that the child never writes into a full or closed one.
            let _ = sender.send(lines.next());
            lines.for_each(drop);
        });
        let answer = timeout(limit, receiver).await;
        let Ok(Ok(Some(line))) = answer else {
            self.must_run(log)?;
            bail!(
                "{} did not say that it is ready within {limit:?}",
                self.name
            );
        };
        Ok(line?)
    }

    /// Everything that the child writes until it ends, within `limit`.
    pub(crate) async fn finish(&mut self, log: &Path, limit: Duration) -> Result<String> {
        let stdout = self
            .child
            .stdout
            .take()
            .context("standard output is not piped")?;
        let (sender, receiver) = oneshot::channel();
        std::thread::spawn(move || sender.send(std::io::read_to_string(stdout)));
        let Ok(Ok(text)) = timeout(limit, receiver).await else {
            bail!("{} did not end within {limit:?}", self.name);
        };
        let status = self.ended(limit).await?;
        if !status.is_some_and(|status| status.success()) {
            bail!(
                "{} failed; {} says:\n{}",
                self.name,
                log.display(),
                last_lines(log, 5)
            );
        }
        Ok(text?)
    }

    /// Ends the child at once, as a power cut would.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks the child to end, and kills it when it does not within `limit`.
    pub(crate) async fn stop(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(Some(status));
        }
        self.signal(Signal::TERM)?;
        let status = self.ended(limit).await?;
        if status.is_none() {
            self.child.kill()?;
            self.child.wait()?;
        }
        Ok(status)
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(self.kernel_pid()?, signal)
            .with_context(|| format!("cannot signal {}", self.name))
    }

    async fn ended(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        let watch = Stopwatch::start();
        while watch.elapsed() < limit {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            sleep(POLL).await;
        }
        Ok(None)
    }
}

impl Drop for Running {
    /// The way out when a run ended early, by an error or by Ctrl-C: as [`Running::stop`], but
    /// without a runtime to wait on.
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        if self
            .signal(Signal::TERM)
            .and_then(|()| self.wait_blocking())
            .is_err()
        {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

impl Running {
    /// Blocks until the child has ended; fails after [`DROP_LIMIT`].
    fn wait_blocking(&self) -> Result<()> {
        let process = pidfd_open(self.kernel_pid()?, PidfdFlags::empty())?;
        let ended = poll(
            &mut [PollFd::new(&process, PollFlags::IN)],
            Some(&DROP_LIMIT),
        )?;
        if ended == 0 {
            bail!("{} is still running", self.name);
        }
        Ok(())
    }

    fn kernel_pid(&self) -> Result<Pid> {
        let raw = i32::try_from(self.child.id()).context("a process id above i32")?;
        Pid::from_raw(raw).context("process id 0")
    }
}

/// The last `count` lines of a log, for an error message.
pub(crate) fn last_lines(log: &Path, count: usize) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime starts").block_on(future)
    }

    fn shell(script: &str, log: &Path) -> Running {
        let mut command = Command::new("sh");
        Running::start("sh", command.args(["-c", script]), log, Stdio::piped()).expect("starts")
    }

    #[test]
    fn a_child_that_says_a_line_and_stops_on_request() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("log");
        block_on(async {
            let mut child = shell("trap 'exit 7' TERM; echo ready; while :; do :; done", &log);
            assert_eq!(
                child.first_line(&log, LIMIT).await.expect("a line"),
                "ready"
            );
            child.must_run(&log).expect("runs");
            let status = child.stop(LIMIT).await.expect("stops").expect("by itself");
            assert_eq!(status.code(), Some(7));
        });
    }

    #[test]
    fn a_child_that_fails_is_reported_with_the_end_of_its_log() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("log");
        block_on(async {
            let mut child = shell("echo port 9 is taken >&2; exit 3", &log);
            let error = child.finish(&log, LIMIT).await.expect_err("failed");
            assert!(error.to_string().contains("port 9 is taken"), "{error}");
            let error = child.must_run(&log).expect_err("ended");
            assert!(error.to_string().starts_with("sh ended early"), "{error}");
        });
    }

    #[test]
    fn an_abandoned_child_is_asked_to_end_and_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let (log, word) = (folder.path().join("log"), folder.path().join("word"));
        let script = format!(
            "trap 'echo bye > {}; exit' TERM; echo; while :; do :; done",
            word.display()
        );
        block_on(async {
            let mut child = shell(&script, &log);
            child.first_line(&log, LIMIT).await.expect("a line");
        });
        assert_eq!(
            std::fs::read_to_string(word).expect("written before the drop ended"),
            "bye\n"
        );
    }

    #[test]
    fn a_child_that_ends_well_gives_its_output() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("log");
        let output = block_on(async { shell("echo a; echo b", &log).finish(&log, LIMIT).await });
        assert_eq!(output.expect("ends"), "a\nb\n");
    }
}
