//! The log: tracing to standard error, as text or JSON. Standard output is for results.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::config::LogForm;
use crate::exit::bad_input;

/// Starts the log of this process.
pub(crate) fn start(form: LogForm, level: &str) -> anyhow::Result<()> {
    let Ok(filter) = level.parse::<EnvFilter>() else {
        return bad_input(format!(
            "log_level: found {level:?}, accepted is a level such as info, or a filter such as \
             warn,ringwatch=debug"
        ));
    };
    let builder = fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    match form {
        LogForm::Text => builder.with_ansi(is_terminal()).init(),
        LogForm::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}

fn is_terminal() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stderr())
}
