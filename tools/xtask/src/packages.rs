//! What the build and the tests need beyond cargo: installed with apt-get when we are root on a
//! Debian-like machine, else named with the exact command to run.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::command;

/// A program that something of ours runs, or a module that such a program loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    /// Name of a program, or the whole path of a file.
    program: &'static str,
    package: &'static str,
    why: &'static str,
}

/// C compiler and make.
pub(crate) const BUILD: &[Need] = &[
    Need {
        program: "cc",
        package: "gcc",
        why: "C parts of aws-lc-rs, SQLite and glommio",
    },
    Need {
        program: "make",
        package: "make",
        why: "glommio builds its liburing with it",
    },
];

/// What a fuzz run needs beside [`BUILD`].
pub(crate) const FUZZ: &[Need] = &[Need {
    program: "c++",
    package: "g++",
    why: "libFuzzer is written in C++",
}];

/// What instructions are counted with.
pub(crate) const COUNT: &[Need] = &[Need {
    program: "valgrind",
    package: "valgrind",
    why: "its callgrind counts instructions",
}];

/// Real servers that the tests talk to.
pub(crate) const TEST: &[Need] = &[
    Need {
        program: "nginx",
        package: "nginx",
        why: "a real web server of the tests",
    },
    Need {
        program: "caddy",
        package: "caddy",
        why: "a real web server of the tests",
    },
    Need {
        program: "haproxy",
        package: "haproxy",
        why: "the real reverse proxy of the tests",
    },
    Need {
        program: "lighttpd",
        package: "lighttpd",
        why: "a real web server of the tests",
    },
    Need {
        program: "/usr/lib/lighttpd/mod_openssl.so",
        package: "lighttpd-mod-openssl",
        why: "TLS of lighttpd",
    },
    Need {
        program: "/usr/lib/lighttpd/mod_deflate.so",
        package: "lighttpd-mod-deflate",
        why: "compression of lighttpd",
    },
    Need {
        program: "openssl",
        package: "openssl",
        why: "TLS servers of every age, old ones included",
    },
    Need {
        program: "unbound",
        package: "unbound",
        why: "the real resolver of the tests",
    },
    Need {
        program: "nsd",
        package: "nsd",
        why: "the real name server of the tests",
    },
];

/// A real database server.
pub(crate) const DATABASE: &[Need] = &[
    Need {
        program: "mariadbd",
        package: "mariadb-server",
        why: "the real database server of the tests",
    },
    Need {
        program: "mariadb-install-db",
        package: "mariadb-server",
        why: "the first tables of the database server",
    },
    Need {
        program: "mariadb",
        package: "mariadb-server",
        why: "how the tests speak to the database server as its administrator",
    },
];

/// What the tests of scarce local ports and full disks make their own network and mounts with.
pub(crate) const NETWORK: &[Need] = &[
    Need {
        program: "unshare",
        package: "util-linux",
        why: "a network or a disk of their own for the tests of scarce ports and full disks",
    },
    Need {
        program: "ip",
        package: "iproute2",
        why: "loopback in that network",
    },
    Need {
        program: "tc",
        package: "iproute2",
        why: "packets that get lost in that network",
    },
];

/// Daemons that Debian starts when their package is installed, with the names of their services;
/// ours are started by the tests.
const STARTED_BY_INSTALL: &[(&str, &str)] = &[
    ("nginx", "nginx"),
    ("caddy", "caddy"),
    ("haproxy", "haproxy"),
    ("lighttpd", "lighttpd"),
    ("unbound", "unbound"),
    ("nsd", "nsd"),
    ("mariadbd", "mariadb"),
];

/// Makes sure that every program of `needs` is there.
///
/// # Errors
/// When one is missing and cannot be installed; the message holds the command to run.
pub(crate) fn require(needs: &[Need]) -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps servers in /usr/sbin, which a person's PATH often lacks.
    let folders: Vec<PathBuf> = std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .collect();
    let missing = missing(needs, &folders);
    if missing.is_empty() {
        return Ok(());
    }
    for need in &missing {
        eprintln!("xtask: {} is missing ({})", need.program, need.why);
    }
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0);
    match plan(&missing, is_root, in_folders("apt-get", &folders)) {
        Plan::Install(packages) => install(&packages, &missing),
        Plan::Explain(message) => bail!(message),
    }
}

/// Which tests do nothing here, because nobody may make a namespace, as in many containers; and
/// what would let them run.
pub(crate) fn left_out() -> Option<&'static str> {
    let made = Command::new("unshare")
        .args(["--map-root-user", "--net", "--mount", "true"])
        .output()
        .is_ok_and(|output| output.status.success());
    (!made).then_some(
        "no namespace can be made here: the tests of scarce local ports and of routers (cores, \
         conformance::sources and ::unreachable), of full disks (persist, disk_full) and of lost \
         packets (store, mysql::lossy; node, lost_packets) do nothing. `sysctl \
         kernel.unprivileged_userns_clone=1`, or a container with CAP_SYS_ADMIN, lets them run.",
    )
}

#[derive(Debug, PartialEq, Eq)]
enum Plan {
    Install(Vec<&'static str>),
    Explain(String),
}

fn plan(missing: &[Need], is_root: bool, has_apt: bool) -> Plan {
    let mut packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    packages.dedup();
    let programs: Vec<&str> = missing.iter().map(|need| need.program).collect();
    if !has_apt {
        return Plan::Explain(format!(
            "install {} with this machine's package manager, then run the same command again",
            programs.join(", ")
        ));
    }
    if !is_root {
        return Plan::Explain(format!(
            "run this, then the same command again:\n  \
             sudo apt-get update && sudo apt-get install -y --no-install-recommends {}",
            packages.join(" ")
        ));
    }
    Plan::Install(packages)
}

fn install(packages: &[&str], needs: &[Need]) -> Result<()> {
    command::run(apt().args(["update", "-q"]))?;
    let args = ["install", "-y", "-q", "--no-install-recommends"];
    command::run(apt().args(args).args(packages))?;
    let is_new = |program: &str| needs.iter().any(|need| need.program == program);
    for (_, service) in STARTED_BY_INSTALL
        .iter()
        .filter(|(program, _)| is_new(program))
    {
        // Nobody asked for a public server; a failure means that none was started.
        let stopped = Command::new("service").args([service, "stop"]).output();
        if stopped.is_ok_and(|output| output.status.success()) {
            eprintln!("xtask: stopped the {service} that its package had started");
        }
    }
    Ok(())
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn missing(needs: &[Need], folders: &[PathBuf]) -> Vec<Need> {
    needs
        .iter()
        .copied()
        .filter(|need| !in_folders(need.program, folders))
        .collect()
}

/// The file of a whole path need not be a program.
fn in_folders(program: &str, folders: &[PathBuf]) -> bool {
    if program.starts_with('/') {
        return Path::new(program).is_file();
    }
    folders
        .iter()
        .any(|folder| is_executable(&folder.join(program)))
}

fn is_executable(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEED: Need = Need {
        program: "nginx",
        package: "nginx-light",
        why: "tests",
    };

    #[test]
    fn root_with_apt_installs_the_package_and_not_the_program_name() {
        assert_eq!(
            plan(&[NEED], true, true),
            Plan::Install(vec!["nginx-light"])
        );
    }

    #[test]
    fn a_package_of_several_programs_is_installed_once() {
        let other = Need {
            program: "nginx-debug",
            ..NEED
        };
        let installed = plan(&[NEED, other], true, true);
        assert_eq!(installed, Plan::Install(vec!["nginx-light"]));
    }

    #[test]
    fn a_user_gets_the_exact_command() {
        let Plan::Explain(message) = plan(&[NEED], false, true) else {
            panic!("a user cannot install");
        };
        assert!(message.contains("sudo apt-get install -y --no-install-recommends nginx-light"));
    }

    #[test]
    fn without_apt_the_program_is_named() {
        let Plan::Explain(message) = plan(&[NEED], true, false) else {
            panic!("nothing to install with");
        };
        assert!(message.starts_with("install nginx with"), "{message}");
    }

    #[test]
    fn only_what_no_folder_has_is_missing() {
        let shell = Need {
            program: "sh",
            package: "dash",
            why: "tests",
        };
        let absent = Need {
            program: "no-such-program-here",
            package: "none",
            why: "tests",
        };
        let file = Need {
            program: "/etc/passwd",
            package: "none",
            why: "tests",
        };
        let absent_file = Need {
            program: "/etc/no-such-file-here",
            ..absent
        };
        let folders = [PathBuf::from("/usr/bin"), PathBuf::from("/bin")];
        let needs = [shell, absent, file, absent_file];
        assert_eq!(missing(&needs, &folders), [absent, absent_file]);
    }
}
