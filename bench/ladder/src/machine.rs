//! Facts about the machine that stand on top of every report: a number without them means nothing.

use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// What was measured on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    /// CPU frequency governor; absent in most virtual machines.
    pub(crate) governor: Option<String>,
    /// One-minute load average before the run.
    pub(crate) load_before: f64,
    pub(crate) memory_bytes: u64,
    /// What was measured, as git names it; absent outside of a checkout.
    pub(crate) revision: Option<String>,
}

impl Machine {
    /// Reads the facts; what the kernel does not tell is left empty.
    pub(crate) fn read() -> Self {
        let text = |path: &str| std::fs::read_to_string(Path::new(path)).unwrap_or_default();
        let governor = text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
        let load = text("/proc/loadavg");
        Self {
            cpu: field(&text("/proc/cpuinfo"), "model name").unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            governor: Some(governor.trim().to_owned()).filter(|name| !name.is_empty()),
            load_before: load
                .split(' ')
                .next()
                .and_then(|l| l.parse().ok())
                .unwrap_or(0.0),
            memory_bytes: field(&text("/proc/meminfo"), "MemTotal")
                .and_then(|value| value.strip_suffix(" kB")?.parse::<u64>().ok())
                .unwrap_or(0)
                * 1_024,
            revision: revision(),
        }
    }

    /// Whether figures of both can be held against each other: same CPUs, memory and kernel.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let facts = |of: &Self| {
            let (cpu, kernel) = (of.cpu.clone(), of.kernel.clone());
            (cpu, of.cores, kernel, of.memory_bytes, of.governor.clone())
        };
        facts(self) == facts(other)
    }

    /// One line of Markdown.
    pub(crate) fn line(&self) -> String {
        format!(
            "{} × {} · {:.0} GiB · Linux {} · governor {} · load before the run {:.2}{}",
            self.cores,
            self.cpu,
            self.memory_bytes as f64 / f64::from(1 << 30),
            self.kernel,
            self.governor.as_deref().unwrap_or("not shown"),
            self.load_before,
            self.revision
                .as_ref()
                .map_or_else(String::new, |name| format!(" · revision {name}")),
        )
    }
}

/// The commit, with a `+` when more than documents was changed since.
fn revision() -> Option<String> {
    let git = |args: &[&str]| Command::new("git").args(args).output().ok();
    let head = git(&["rev-parse", "--short", "HEAD"])?;
    let name = String::from_utf8(head.stdout).ok()?;
    let name = Some(name.trim()).filter(|name| !name.is_empty())?;
    let code = ["diff", "--quiet", "HEAD", "--", ".", ":!docs", ":!*.md"];
    let is_clean = git(&code)?.status.success();
    Some(format!("{name}{}", if is_clean { "" } else { "+" }))
}

/// The value of the first `key : value` line.
fn field(text: &str, key: &str) -> Option<String> {
    let (_, value) = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.trim() == key)?;
    Some(value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_of_a_key_is_read() {
        let text = "processor\t: 0\nmodel name\t: A CPU @ 2 GHz\nmodel name\t: B\n";
        assert_eq!(field(text, "model name").as_deref(), Some("A CPU @ 2 GHz"));
        assert_eq!(field(text, "flags"), None);
    }

    #[test]
    fn machines_are_alike_whatever_their_load_and_what_is_measured() {
        let machine = Machine::read();
        let busy = Machine {
            load_before: machine.load_before + 7.0,
            revision: None,
            ..machine.clone()
        };
        assert!(machine.is_like(&busy));
        let other = Machine {
            cores: machine.cores + 1,
            ..machine.clone()
        };
        assert!(!machine.is_like(&other));
    }

    #[test]
    fn this_machine_has_cores_memory_and_a_kernel() {
        let machine = Machine::read();
        assert!(machine.cores > 0 && machine.memory_bytes > 0 && !machine.kernel.is_empty());
        assert!(machine.line().contains(&machine.kernel));
    }
}
