//! `cargo xtask fuzz`: the fuzz targets under libFuzzer for some time each, from their checked-in
//! corpora, and a page of what came of it. It knows folders and libFuzzer's options; what the
//! targets check is in the crates that have the corpora.

pub(crate) mod page;
mod session;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{command, packages, release};
use page::Page;
use session::Session;

/// Folders of corpora: a target is a folder in one of them.
const CORPORA: [&str; 2] = ["probe/prober/tests/corpus", "engine/node/tests/corpus"];

const SECONDS: u64 = 600;
/// Above every limit that a body holds but that of a head, 64 KiB.
const INPUT_MAX_BYTES: u64 = 16 * 1024;
/// A target needs microseconds and a few megabytes, libFuzzer some hundred for its own tables.
const HANG_S: u64 = 10;
const MEMORY_MAX_MB: u64 = 1_024;
/// What `--keep` adds to a corpus at most; its test holds the size of an input.
const KEPT_MAX: usize = 40;
const KEPT_MAX_BYTES: u64 = 4_096;

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Order {
    seconds: u64,
    /// Targets that run at the same time.
    jobs: usize,
    /// Instead of a run, what runs have found is added to the checked-in corpora.
    keep: bool,
    targets: Vec<String>,
}

/// Runs the targets named in `args`, or all, and writes the page.
///
/// # Errors
/// When an argument is not known, the build fails, or a target failed.
pub(crate) fn run(args: &[&str]) -> Result<()> {
    let corpora = corpora()?;
    let known: Vec<String> = corpora.iter().map(|corpus| file_name(corpus)).collect();
    let order = Order::parse(args, &known)?;
    packages::require(packages::BUILD)?;
    packages::require(packages::FUZZ)?;
    command::run(&mut cargo(&["build"]))?;
    let work = release::target_folder()?.join("fuzz");
    let targets: Vec<Target> = corpora
        .into_iter()
        .filter(|corpus| order.targets.contains(&file_name(corpus)))
        .map(|corpus| Target::new(corpus, &work))
        .collect();
    if order.keep {
        return targets.iter().try_for_each(Target::keep);
    }
    let mut page = Page::read(&command::root(), &known)?;
    let mut failed = Vec::new();
    for group in targets.chunks(order.jobs) {
        let running: Vec<Child> = group
            .iter()
            .map(|target| target.start(order.seconds))
            .collect::<Result<_>>()?;
        for (target, child) in group.iter().zip(running) {
            let session = target.finish(child)?;
            page.add(&target.name, session);
            if session.is_none() {
                failed.push(target.name.as_str());
            }
        }
        page.write()?;
    }
    if !failed.is_empty() {
        bail!("fuzz targets failed: {}", failed.join(", "));
    }
    Ok(())
}

impl Order {
    fn parse(args: &[&str], known: &[String]) -> Result<Self> {
        let mut order = Self {
            seconds: SECONDS,
            jobs: 1,
            keep: false,
            targets: Vec::new(),
        };
        let mut args = args.iter().copied();
        while let Some(arg) = args.next() {
            match arg {
                "--seconds" => order.seconds = number(arg, args.next())?,
                "--jobs" => order.jobs = number(arg, args.next())? as usize,
                "--keep" => order.keep = true,
                name if known.iter().any(|known| known == name) => {
                    order.targets.push(name.to_owned());
                }
                other => bail!(
                    "fuzz: found {other:?}, accepted are --seconds N, --jobs N, --keep and {}",
                    known.join(", ")
                ),
            }
        }
        if order.targets.is_empty() {
            order.targets = known.to_vec();
        }
        Ok(order)
    }
}

fn number(option: &str, value: Option<&str>) -> Result<u64> {
    let number = value.and_then(|value| value.parse().ok());
    let value = value.unwrap_or_default();
    number
        .filter(|&number| number > 0)
        .with_context(|| format!("{option}: found {value:?}, accepted is 1 or more"))
}

/// The checked-in corpora, one for each target.
fn corpora() -> Result<Vec<PathBuf>> {
    let mut corpora = Vec::new();
    for folder in CORPORA {
        corpora.extend(entries(&command::root().join(folder))?);
    }
    Ok(corpora)
}

/// `cargo VERB --release` of the fuzz workspace, whose configuration holds the flags of the
/// instrumentation; flags of the environment would replace them.
fn cargo(verb: &[&str]) -> Command {
    let mut command = command::cargo(verb);
    command.args(["--release", "--locked"]);
    command.current_dir(command::root().join("tools/fuzz"));
    command
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    command
}

/// A target and its folders.
struct Target {
    name: String,
    /// The checked-in inputs, which a run only reads.
    corpus: PathBuf,
    /// What runs have found beside them, where the next run goes on.
    found: PathBuf,
    /// Inputs that failed.
    failures: PathBuf,
    log: PathBuf,
}

impl Target {
    fn new(corpus: PathBuf, work: &Path) -> Self {
        let name = file_name(&corpus);
        Self {
            found: work.join("corpus").join(&name),
            failures: work.join("failures").join(&name),
            log: work.join("corpus").join(format!("{name}.log")),
            corpus,
            name,
        }
    }

    /// The program with this target's body, before libFuzzer's options.
    fn program(&self) -> Command {
        let mut command = cargo(&["run", "--quiet"]);
        command.env("FUZZ_TARGET", &self.name).arg("--");
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    fn start(&self, seconds: u64) -> Result<Child> {
        make_folder(&self.found)?;
        make_folder(&self.failures)?;
        let log = File::create(&self.log)
            .with_context(|| format!("cannot write {}", self.log.display()))?;
        let mut program = self.program();
        program.arg(&self.found).arg(&self.corpus);
        program.arg(format!("-artifact_prefix={}/", self.failures.display()));
        program.arg(format!("-max_total_time={seconds}"));
        program.arg(format!("-max_len={INPUT_MAX_BYTES}"));
        program.arg(format!("-timeout={HANG_S}"));
        program.arg(format!("-rss_limit_mb={MEMORY_MAX_MB}"));
        program.arg("-print_final_stats=1").stderr(log);
        eprintln!("xtask: fuzzing {} for {seconds} s", self.name);
        program
            .spawn()
            .context("the fuzz program could not be started")
    }

    /// Waits for a run, and says what came of it; none when it found something.
    fn finish(&self, mut child: Child) -> Result<Option<Session>> {
        let status = child.wait().context("the fuzz program is lost")?;
        let log =
            fs::read(&self.log).with_context(|| format!("cannot read {}", self.log.display()))?;
        let log = String::from_utf8_lossy(&log);
        let session = Session::read(&log).filter(|_| status.success());
        if let Some(session) = &session {
            println!("{:<12} {session}", self.name);
        } else {
            println!("{:<12} FAILED ({status})", self.name);
            println!("{}", session::complaint(&log, &self.name));
            println!("  log: {}", self.log.display());
        }
        Ok(session)
    }

    /// Adds to the checked-in corpus what reaches code that it does not reach.
    fn keep(&self) -> Result<()> {
        let merged = self.found.with_extension("merged");
        if merged.exists() {
            fs::remove_dir_all(&merged)?;
        }
        make_folder(&merged)?;
        let before = entries(&self.corpus)?;
        for input in &before {
            fs::copy(input, merged.join(file_name(input)))?;
        }
        let mut program = self.program();
        // Without counters: an input counts for the code it reaches, not for how often.
        program.args(["-set_cover_merge=1", "-use_counters=0"]);
        program.arg(format!("-max_len={KEPT_MAX_BYTES}"));
        program.arg(&merged).arg(&self.found);
        let log = File::create(&self.log)
            .with_context(|| format!("cannot write {}", self.log.display()))?;
        command::run(program.stderr(log))
            .with_context(|| format!("its log is {}", self.log.display()))?;
        let mut new = Vec::new();
        for input in entries(&merged)? {
            if !self.corpus.join(file_name(&input)).exists() {
                new.push((fs::metadata(&input)?.len(), input));
            }
        }
        // Of a set cover the large ones cover most.
        new.sort_by(|left, right| right.cmp(left));
        let found = new.len();
        new.truncate(KEPT_MAX);
        for (_, input) in &new {
            // Sixteen digits of libFuzzer's hash are name enough.
            let name = file_name(input);
            let name = name.get(..16).unwrap_or(&name);
            fs::copy(input, self.corpus.join(format!("found-{name}")))?;
        }
        println!("{:<12} {} of {found} inputs added", self.name, new.len());
        Ok(())
    }
}

fn make_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let listed =
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut entries: Vec<PathBuf> = listed
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    entries.sort();
    Ok(entries)
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_targets_run_for_ten_minutes_unless_told_otherwise() {
        let known = ["csv", "url"].map(str::to_owned);
        let all = Order::parse(&[], &known).expect("nothing is wrong");
        assert_eq!((all.seconds, all.jobs, all.keep), (600, 1, false));
        assert_eq!(all.targets, known);
        let args = ["--seconds", "60", "url", "--jobs", "2", "--keep"];
        let expected = Order {
            seconds: 60,
            jobs: 2,
            keep: true,
            targets: vec!["url".to_owned()],
        };
        assert_eq!(Order::parse(&args, &known).expect("all known"), expected);
        for bad in [&["--seconds"][..], &["--jobs", "0"], &["urls"], &["-h"]] {
            let error = Order::parse(bad, &known).expect_err("not known");
            assert!(error.to_string().contains("accepted"), "{error}");
        }
    }

    #[test]
    fn the_ten_targets_are_the_corpora() {
        let names: Vec<String> = corpora()
            .expect("checked in")
            .iter()
            .map(|corpus| file_name(corpus))
            .collect();
        let expected = [
            "certificate",
            "chunked",
            "coding",
            "dns_message",
            "dns_trace",
            "head",
            "location",
            "server_hello",
            "url",
            "csv",
        ];
        assert_eq!(names, expected);
    }
}
