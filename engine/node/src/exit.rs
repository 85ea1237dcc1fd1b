//! Exit codes, and the one error that is the caller's fault. Every other error is ours or the
//! machine's and exits with 1.

use std::process::ExitCode;

use crate::out;

/// Wrong usage, configuration or input: exit code 2.
pub(crate) const USAGE: u8 = 2;

/// What the caller gave cannot be used; the sentence says what was found and what is accepted.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadInput(pub(crate) String);

/// `Err(BadInput)` with a sentence.
pub(crate) fn bad_input<T>(sentence: impl Into<String>) -> anyhow::Result<T> {
    Err(BadInput(sentence.into()).into())
}

/// Says why on standard error; 2 for a [`BadInput`] anywhere in the chain, else 1.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    out::remark(format_args!("{error:#}"));
    let usage = error.chain().any(<dyn std::error::Error>::is::<BadInput>);
    ExitCode::from(if usage { USAGE } else { 1 })
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn bad_input_keeps_its_exit_code_under_context() {
        let error = bad_input::<()>("x")
            .context("while reading")
            .expect_err("is an error");
        assert_eq!(report(&error), ExitCode::from(2));
        assert_eq!(report(&anyhow::anyhow!("disk")), ExitCode::from(1));
    }
}
