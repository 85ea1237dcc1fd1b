//! What libFuzzer's log says of one run. Knows its words, and nothing of targets.

use std::fmt;

/// One run that found nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) seconds: u64,
    pub(super) executions: u64,
    /// Edges of the instrumented code that the inputs at hand reached before the first mutation.
    pub(super) edges_before: u64,
    /// The same at the end.
    pub(super) edges: u64,
    /// Inputs at the end, each of which reaches something that no other does.
    pub(super) inputs: u64,
    pub(super) slowest_s: u64,
    pub(super) peak_mb: u64,
}

impl Session {
    /// None when the log is not that of a whole run with coverage.
    pub(super) fn read(log: &str) -> Option<Self> {
        let (_, done) = log.rsplit_once("\nDone ")?;
        let (executions, seconds) = done.split_once(" runs in ")?;
        let line = |mark: &str| log.lines().rfind(|line| line.contains(mark));
        let (before, after) = (line("\tINITED ")?, line("\tDONE ")?);
        let statistic = |name: &str| {
            let mut lines = log.lines().filter_map(|line| line.strip_prefix("stat::"));
            let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value?.trim().parse().ok()
        };
        Some(Self {
            seconds: leading(seconds)?,
            executions: leading(executions)?,
            edges_before: value(before, "cov:")?,
            edges: value(after, "cov:").filter(|&edges| edges > 0)?,
            inputs: value(after, "corp:")?,
            slowest_s: statistic("slowest_unit_time_sec")?,
            peak_mb: statistic("peak_rss_mb")?,
        })
    }
}

/// The number behind `key` in one of libFuzzer's lines of progress.
fn value(line: &str, key: &str) -> Option<u64> {
    let mut words = line.split_whitespace();
    words.find(|word| *word == key)?;
    leading(words.next()?)
}

fn leading(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit());
    text[..end.unwrap_or(text.len())].parse().ok()
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seconds,
            executions,
            edges_before,
            edges,
            inputs,
            ..
        } = self;
        write!(
            f,
            "clean {seconds:>5} s {executions:>11} executions, {edges_before} to {edges} edges, \
             {inputs} inputs"
        )
    }
}

/// The lines of a log that say what went wrong, and how to see it again.
pub(super) fn complaint(log: &str, target: &str) -> String {
    const KEPT: &str = "Test unit written to ";
    let telling = ["panicked at", "ERROR: ", "SUMMARY: ", KEPT, "error"];
    let mut lines: Vec<String> = Vec::new();
    let mut follows = false;
    for line in log.lines() {
        if follows || telling.iter().any(|mark| line.contains(mark)) {
            lines.push(format!("  {line}"));
        }
        // The message of a panic is on the line after its place.
        follows = line.contains("panicked at");
    }
    if let Some((_, input)) = log.lines().find_map(|line| line.split_once(KEPT)) {
        lines.push(format!(
            "  again: cd tools/fuzz && FUZZ_TARGET={target} cargo run --release -- {input}"
        ));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "INFO: seed corpus: files: 2\n\
        #3\tINITED cov: 80 ft: 90 corp: 2/40b exec/s: 0 rss: 30Mb\n\
        #9\tNEW    cov: 81 ft: 92 corp: 3/44b lim: 4 exec/s: 0 rss: 30Mb\n\
        #42\tDONE   cov: 83 ft: 95 corp: 4/48b lim: 8 exec/s: 14 rss: 33Mb\n\
        Done 42 runs in 3 second(s)\n\
        stat::number_of_executed_units: 42\n\
        stat::slowest_unit_time_sec:    1\n\
        stat::peak_rss_mb:              33\n";

    #[test]
    fn a_whole_run_is_read() {
        let session = Session::read(LOG).expect("a whole run");
        let expected = Session {
            seconds: 3,
            executions: 42,
            edges_before: 80,
            edges: 83,
            inputs: 4,
            slowest_s: 1,
            peak_mb: 33,
        };
        assert_eq!(session, expected);
        let shown = "clean     3 s          42 executions, 80 to 83 edges, 4 inputs";
        assert_eq!(session.to_string(), shown);
    }

    #[test]
    fn a_run_without_coverage_or_without_an_end_is_none() {
        assert_eq!(Session::read(&LOG.replace("cov: 83 ", "")), None);
        assert_eq!(Session::read(&LOG.replace("cov: 83", "cov: 0")), None);
        let (cut, _) = LOG.split_once("Done").expect("it has an end");
        assert_eq!(Session::read(cut), None);
    }

    #[test]
    fn a_failure_is_told_with_its_message_and_how_to_see_it_again() {
        let log = "#2\tNEW    cov: 80\nthread '<unnamed>' panicked at a.rs:1:\n\
                   an address too old\nnote: x\n==7== ERROR: libFuzzer: deadly signal\n\
                   artifact_prefix='/t/'; Test unit written to /t/crash-1\nBase64: AA==\n";
        let told = complaint(log, "url");
        let expected = "  thread '<unnamed>' panicked at a.rs:1:\n  an address too old\n  \
                        ==7== ERROR: libFuzzer: deadly signal\n  \
                        artifact_prefix='/t/'; Test unit written to /t/crash-1\n  \
                        again: cd tools/fuzz && FUZZ_TARGET=url cargo run --release -- /t/crash-1";
        assert_eq!(told, expected);
    }
}
