//! A kernel that refuses `io_uring` to this process and to every child of it, as container runtimes
//! do: a seccomp filter. It cannot be taken back, so it is put on before anything else starts.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// `io_uring_setup`, `io_uring_enter` and `io_uring_register` have these numbers on every
/// architecture: they are younger than the common numbering (Linux 5.1).
const CALLS: [i64; 3] = [425, 426, 427];
/// What Docker's default profile answers.
const EPERM: u32 = 1;

/// Refuses the three calls from now on.
///
/// # Errors
/// When the kernel refuses the filter, or the architecture is not known to the filter's compiler.
pub(crate) fn refuse_io_uring() -> Result<()> {
    let arch = std::env::consts::ARCH
        .try_into()
        .context("no filter for this architecture")?;
    // No conditions on arguments: the call itself is refused.
    let rules = BTreeMap::from(CALLS.map(|call| (call, Vec::new())));
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(EPERM),
        arch,
    )?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&program).context("the kernel refuses a seccomp filter")
}
