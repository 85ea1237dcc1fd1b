//! The log: tracing to standard error, as text or JSON. Standard output is for results.

use model::suggest::hint;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt;

use crate::config::LogForm;
use crate::exit::bad_input;

/// Levels, from nothing to everything.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Starts the log of this process.
pub(crate) fn start(form: LogForm, level: &str) -> anyhow::Result<()> {
    let filter: EnvFilter = match level.parse() {
        Ok(filter) => filter,
        Err(error) => return bad_input(format!("log_level: {error}")),
    };
    let builder = fmt()
        // A line that cannot be written is lost: told on the same standard error, that fact would
        // panic the thread that logged.
        .log_internal_errors(false)
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    match form {
        LogForm::Text => builder.with_ansi(is_terminal()).init(),
        LogForm::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}

/// What would be accepted instead of `level`. The library takes an unknown word for the name of a
/// module, of which nothing is ever logged: a typo would silence everything.
pub(crate) fn check(level: &str) -> Result<(), String> {
    let is_level = |part: &&str| LEVELS.iter().any(|word| word.eq_ignore_ascii_case(part));
    let is_directive = |part: &&str| part.contains(['=', '[']);
    let mut parts = level.split(',');
    let unknown = parts.find(|part| !is_level(part) && !is_directive(part));
    let parsed: Result<EnvFilter, ParseError> = level.parse();
    if unknown.is_none() && parsed.is_ok() {
        return Ok(());
    }
    let levels = LEVELS.join(", ");
    let near = hint(unknown.unwrap_or_default(), LEVELS);
    Err(format!(
        "one of {levels}, or a filter such as warn,ringwatch=debug{near}"
    ))
}

fn is_terminal() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stderr())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_filters_are_accepted_in_any_case() {
        for good in [
            "info",
            "WARN",
            "off",
            "warn,ringwatch=debug",
            "ringwatch=trace,persist=off",
            "info,[check{slot}]=debug",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn a_typo_is_refused_with_the_nearest_level() {
        let near = |typo: &str| {
            let accepted = check(typo).expect_err(typo);
            accepted
                .split_once("did you mean ")
                .map(|(_, near)| near.to_owned())
        };
        assert_eq!(near("inof").as_deref(), Some("`info`?"));
        assert_eq!(near("warn,debgu").as_deref(), Some("`debug`?"));
        assert_eq!(near("warning").as_deref(), None);
        assert_eq!(near("ringwatch=debgu"), None);
        assert_eq!(near("info,"), None);
        // The library would not find the level behind the space.
        assert_eq!(near("warn, info").as_deref(), Some("`info`?"));
    }
}
