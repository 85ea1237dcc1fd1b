//! The command line: what can be asked, in clap's words. What is done is in `commands`.

pub(crate) mod commands;
mod exchange;
mod flags;
mod operate;
pub(crate) mod render;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use flags::{
    ConfigFlags, ListFlags, NodeFlags, PlaceFlags, ProbeFlags, SettingsFlags, TargetFlags,
    WindowFlags,
};

/// Uptime monitoring for very large fleets: one node checks millions of sites.
#[derive(Debug, Parser)]
#[command(name = "ringwatch", version, arg_required_else_help = true)]
#[command(after_help = "Example: ringwatch run --targets sites.csv")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a node until SIGTERM, SIGINT or `ringwatch drain`
    #[command(
        after_help = "Example: ringwatch run --targets sites.csv --data-dir /var/lib/ringwatch"
    )]
    Run(SettingsFlags),
    /// Check URLs once, now, without a store
    #[command(after_help = CHECK_HELP)]
    Check(CheckCommand),
    /// Serve checks to nodes elsewhere, which ask whether a target is down
    #[command(after_help = VERIFIER_HELP)]
    Verifier(VerifierCommand),
    /// Import, export, list, show, check, pause and resume targets
    #[command(subcommand)]
    #[command(after_help = "Example: ringwatch targets import sites.csv")]
    Targets(TargetsCommand),
    /// List, show, follow and close incidents
    #[command(subcommand)]
    #[command(after_help = "Example: ringwatch events list --open")]
    Events(EventsCommand),
    /// Add, list and remove maintenance windows
    #[command(subcommand)]
    #[command(after_help = "Example: ringwatch maintenance add --group 12 --length 2h")]
    Maintenance(MaintenanceCommand),
    /// Show the accounts and gauges of the running node
    #[command(after_help = "Example: ringwatch status --json | jq .fleet")]
    Status(StatusCommand),
    /// Stop the running node in an orderly way and wait for its end
    #[command(after_help = "Example: ringwatch drain --data-dir /var/lib/ringwatch")]
    Drain(NodeFlags),
    /// Make the running node read its configuration and targets again
    #[command(after_help = "Example: ringwatch reload --data-dir /var/lib/ringwatch")]
    Reload(NodeFlags),
    /// Print latency percentiles from interval logs; write SVG plots and Markdown
    #[command(after_help = "Example: ringwatch report ringwatch-data --out report")]
    Report(ReportCommand),
    /// Look at this machine and say what to change
    #[command(after_help = "Example: ringwatch doctor --dns 9.9.9.9")]
    Doctor(DoctorCommand),
    /// Bring the tables of the store to the version of this ringwatch
    #[command(after_help = MIGRATE_HELP)]
    Migrate(MigrateCommand),
    /// Print the effective configuration and what is wrong with a target list or the store's tables
    #[command(after_help = VALIDATE_HELP)]
    Validate(SettingsFlags),
    /// Print the version
    #[command(after_help = "Example: ringwatch version")]
    Version,
}

const CHECK_HELP: &str = "Exit codes: 0 up, 1 down, 2 usage, 3 unknown, 4 degraded (of several \
URLs the worst: down, unknown, degraded, up).\n\nExample: ringwatch check https://example.com/ \
--timeout-ms 3000 --expect-status 200,204";

const VERIFIER_HELP: &str = "Where it listens, its token, its certificate and its place are in \
section \"verifier\" of the configuration; it keeps no store.\n\nExample: ringwatch verifier \
--config verifier.toml";

const MIGRATE_HELP: &str = "A MySQL or MariaDB server is migrated by this command alone; an \
embedded store also by every node that starts on it. A plan changes nothing and prints the \
statements. Indexes on last_checked_at and next_check_at of ..._site_runtime are optional: a node \
needs none, and each write of freshness pays for them.\n\nExample: ringwatch migrate --plan \
--store mysql://watch:secret@db.example/watch";

const VALIDATE_HELP: &str = "Exit codes: 0 good, 1 the store cannot be used (such as tables that \
are missing or differ), 2 the configuration or, with --strict, the list is bad.\n\nExample: \
ringwatch validate --config ringwatch.toml --targets sites.csv";

/// `check`.
#[derive(Debug, Args)]
pub(crate) struct CheckCommand {
    /// What to check
    #[arg(required = true, value_name = "URL")]
    pub(crate) urls: Vec<String>,
    /// Print one JSON object per URL
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) target: TargetFlags,
    #[command(flatten)]
    pub(crate) probe: ProbeFlags,
    #[command(flatten)]
    pub(crate) config: ConfigFlags,
}

/// `verifier`.
#[derive(Debug, Args)]
pub(crate) struct VerifierCommand {
    #[command(flatten)]
    pub(crate) config: ConfigFlags,
    #[command(flatten)]
    pub(crate) probe: ProbeFlags,
}

/// `targets …`.
#[derive(Debug, Subcommand)]
pub(crate) enum TargetsCommand {
    /// Import a CSV list into the store, through the node when it runs
    #[command(after_help = IMPORT_HELP)]
    Import {
        /// The list
        #[arg(value_name = "F.csv", required_unless_present = "from_legacy")]
        path: Option<PathBuf>,
        /// Take the active rows of the legacy table, which section "legacy" of the configuration
        /// describes, instead of a list
        #[arg(long, conflicts_with_all = ["path", "strict"])]
        from_legacy: bool,
        #[command(flatten)]
        list: ListFlags,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: PlaceFlags,
    },
    /// Write the active targets of the store as a list that can be imported again
    #[command(after_help = EXPORT_HELP)]
    Export {
        /// The list, which must not be there yet [default: standard output]
        #[arg(value_name = "F.csv")]
        path: Option<PathBuf>,
        /// Write them into the legacy table, which section "legacy" of the configuration
        /// describes, instead of a list
        #[arg(long, conflicts_with = "path")]
        to_legacy: bool,
        #[command(flatten)]
        place: PlaceFlags,
    },
    /// List the targets of the store
    #[command(after_help = "Example: ringwatch targets list --state down --json")]
    List {
        /// Inactive ones too
        #[arg(long)]
        all: bool,
        /// In this state only: up, warning, degraded, seems-down, down, maintenance, paused
        #[arg(long, value_name = "STATE")]
        state: Option<String>,
        /// Print one JSON object per target
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: PlaceFlags,
    },
    /// Show a target: its state and since when, its last and next check, its open incidents
    #[command(after_help = "Example: ringwatch targets show 1234 --json")]
    Show {
        /// Its id
        #[arg(value_name = "ID", allow_negative_numbers = true)]
        id: i64,
        /// Print it as one JSON object
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: PlaceFlags,
    },
    /// Have the running node check a target now, and print the result
    #[command(after_help = TARGETS_CHECK_HELP)]
    Check {
        /// Its id
        #[arg(value_name = "ID", allow_negative_numbers = true)]
        id: i64,
        /// Print the result as one JSON object
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        node: NodeFlags,
    },
    /// Check a target no more until it is resumed; its open incidents are closed
    #[command(after_help = "Example: ringwatch targets pause 1234")]
    Pause {
        /// Its id
        #[arg(value_name = "ID", allow_negative_numbers = true)]
        id: i64,
        #[command(flatten)]
        place: PlaceFlags,
    },
    /// Check a target again that was paused
    #[command(after_help = "Example: ringwatch targets resume 1234")]
    Resume {
        /// Its id
        #[arg(value_name = "ID", allow_negative_numbers = true)]
        id: i64,
        #[command(flatten)]
        place: PlaceFlags,
    },
}

const IMPORT_HELP: &str = "A list has a header line with names of fields (url, interval_s, \
timeout_ms, method, name, …), or lines of url[,interval_s[,method]]. Lines that begin with # are \
comments.\n\nExample: ringwatch targets import sites.csv --prune";

const EXPORT_HELP: &str = "A list has the ids of the targets and their headers as they are, \
secrets included: it is made for its owner alone. Rows of the legacy table are inserted or changed \
under the ids of the targets, and never removed.\n\nExample: ringwatch targets export sites.csv";

/// `events …`.
#[derive(Debug, Subcommand)]
pub(crate) enum EventsCommand {
    /// List incidents with their class and transitions, newest first
    #[command(after_help = "Example: ringwatch events list --open --json")]
    List {
        /// Open ones only
        #[arg(long)]
        open: bool,
        /// Of this target only
        #[arg(long, value_name = "ID")]
        target: Option<i64>,
        /// At most this many [default: 1000]
        #[arg(long, value_name = "N", allow_negative_numbers = true)]
        limit: Option<i64>,
        /// Print one JSON object per incident
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: PlaceFlags,
    },
    /// Show one incident with its transitions, and what was seen at each
    #[command(after_help = "Example: ringwatch events show 247000000000000001")]
    Show {
        /// Its id, as `events list --json` has it
        #[arg(value_name = "EVENT-ID", allow_negative_numbers = true)]
        id: i64,
        /// Print it as one JSON object
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: PlaceFlags,
    },
    /// Print transitions as they happen, until Ctrl-C
    #[command(after_help = FOLLOW_HELP)]
    Follow {
        /// Begin after this transition, not now
        #[arg(long, value_name = "ID", allow_negative_numbers = true)]
        after: Option<i64>,
        /// Print one JSON object per transition
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: PlaceFlags,
    },
    /// Close an open incident by hand; if its target still fails, the next check opens another
    #[command(
        after_help = "Example: ringwatch events close 247000000000000001 --reason 'known, fixed'"
    )]
    Close {
        /// Its id, as `events list --json` has it
        #[arg(value_name = "EVENT-ID", allow_negative_numbers = true)]
        id: i64,
        /// Why, for the audit log
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        place: PlaceFlags,
    },
}

const TARGETS_CHECK_HELP: &str = "The check counts as any other, and a success closes what is open \
as probe_cleared. Exit codes: 0 up, 1 down, 2 usage, 3 unknown, 4 degraded.\n\nExample: ringwatch \
targets check 1234";

const FOLLOW_HELP: &str = "It reads the store, so it goes on while nodes come and go. Each line \
has the id of its transition, after which another one can go on.\n\nExample: ringwatch events \
follow --json";

/// `maintenance …`.
#[derive(Debug, Subcommand)]
pub(crate) enum MaintenanceCommand {
    /// Add a window, once or each week
    #[command(after_help = WINDOW_HELP)]
    Add(AddCommand),
    /// List windows, with when they are next
    #[command(after_help = "Example: ringwatch maintenance list --target 1234")]
    List {
        /// Those that this target is in
        #[arg(long, value_name = "ID", allow_negative_numbers = true)]
        target: Option<i64>,
        /// Print one JSON object per window
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: PlaceFlags,
    },
    /// Remove a window; one that is active ends at once
    #[command(after_help = "Example: ringwatch maintenance remove 3")]
    Remove {
        /// Its number
        #[arg(value_name = "NUMBER", allow_negative_numbers = true)]
        id: i64,
        /// Print what was removed as one JSON object
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: PlaceFlags,
    },
}

/// `maintenance add`.
#[derive(Debug, Args)]
pub(crate) struct AddCommand {
    #[command(flatten)]
    pub(crate) window: WindowFlags,
    /// Print the window as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) place: PlaceFlags,
}

const WINDOW_HELP: &str = "What fails inside of a window opens no incident, and what is open \
closes at its first failing check. A weekly window begins by the clocks of its zone and lasts for \
its length of real time.\n\nExample: ringwatch maintenance add --group 12 --weekly sun --at 02:00 \
--length 2h --zone Europe/Berlin --reason backup";

/// `status`.
#[derive(Debug, Args)]
pub(crate) struct StatusCommand {
    /// Print everything as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) node: NodeFlags,
}

/// `report`.
#[derive(Debug, Args)]
pub(crate) struct ReportCommand {
    /// A .hdr file, a directory of them, or the data directory of a node
    #[arg(value_name = "DIR|FILE.hdr")]
    pub(crate) source: PathBuf,
    /// Where plots and report.md go [default: the directory that was named, or that of the file]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// `doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorCommand {
    #[command(flatten)]
    pub(crate) place: PlaceFlags,
    #[command(flatten)]
    pub(crate) probe: ProbeFlags,
}

/// `migrate`.
#[derive(Debug, Args)]
pub(crate) struct MigrateCommand {
    /// Only print what would be done
    #[arg(long)]
    pub(crate) plan: bool,
    /// Also add the two optional indexes on the times of freshness, for other readers of a server
    #[arg(long)]
    pub(crate) with_time_indexes: bool,
    #[command(flatten)]
    pub(crate) place: PlaceFlags,
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;
    use std::str::FromStr;

    use clap::CommandFactory;

    use super::*;
    use crate::config::keys::{KEYS, Kind};
    use crate::config::{CloseWord, DriverWord, IpWord, LogForm};

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// What `run` makes of the flag of `key`, given with a value of its form.
    fn values_of(command: &str, key: &str, kind: Kind) -> flags::Values {
        let flag = format!("--{}", key.replace('_', "-"));
        let mut line = vec!["ringwatch", command, &flag];
        line.extend(match kind {
            Kind::Flag => None,
            Kind::Whole | Kind::Wholes => Some("7"),
            Kind::Text | Kind::Texts | Kind::Tables => Some("x"),
        });
        let parsed = Cli::try_parse_from(line).map(|cli| cli.command);
        match parsed {
            Ok(Command::Run(settings) | Command::Validate(settings)) => settings.values(),
            other => panic!("{command} {flag}: {other:?}"),
        }
    }

    #[test]
    fn every_key_has_its_flag_and_every_flag_gives_its_key() {
        for key in KEYS {
            for command in ["run", "validate"] {
                let values = values_of(command, key.name, key.kind);
                let given: Vec<&str> = values.iter().map(|(name, _)| *name).collect();
                assert_eq!(given, [key.name], "{command}");
            }
        }
        let keys = KEYS.map(|key| key.name.replace('_', "-"));
        for command in Cli::command().get_subcommands() {
            if ["run", "validate"].contains(&command.get_name()) {
                let flags = command.get_arguments().filter_map(clap::Arg::get_long);
                let others = flags.filter(|flag| !keys.iter().any(|key| key == flag));
                assert_eq!(others.collect::<Vec<_>>(), ["config"]);
            }
        }
    }

    #[test]
    fn the_help_of_a_flag_names_every_word_that_it_takes() {
        fn words<T: FromStr<Err = &'static str> + Debug>() -> Vec<&'static str> {
            let accepted = "no word".parse::<T>().expect_err("it is none");
            accepted.split_whitespace().skip(2).collect()
        }
        let command = Cli::command();
        let run = command.find_subcommand("run").expect("a command");
        for (flag, words) in [
            ("ip", words::<IpWord>()),
            ("close", words::<CloseWord>()),
            ("driver", words::<DriverWord>()),
            ("log", words::<LogForm>()),
        ] {
            let mut flags = run.get_arguments();
            let found = flags.find(|argument| argument.get_long() == Some(flag));
            let help = found.and_then(clap::Arg::get_help).expect("a flag");
            let help = help.to_string().replace(['`', ',', ':'], " ");
            for word in words {
                assert!(help.split_whitespace().any(|said| said == word), "{help}");
            }
        }
    }

    #[test]
    fn every_command_shows_an_example() {
        fn look(command: &clap::Command) {
            let name = command.get_name();
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(help.contains("Example: ringwatch"), "{name}");
            command.get_subcommands().for_each(look);
        }
        look(&Cli::command());
    }
}
