//! Who gives a command: the name in transitions and in the audit log.

/// Longest name that is kept, in characters.
const NAME_MAX: usize = 64;

/// The person at this terminal: who became root by `sudo`, else whose session it is, else the
/// number of the user.
pub(crate) fn name() -> String {
    let names = ["SUDO_USER", "USER", "LOGNAME"].map(|name| std::env::var(name).ok());
    let named = names.into_iter().flatten().map(|name| cleaned(&name));
    named
        .into_iter()
        .find(|name| !name.is_empty())
        .unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()))
}

/// A name as it is kept: one short line.
pub(crate) fn cleaned(name: &str) -> String {
    let line = name.trim().chars().filter(|letter| !letter.is_control());
    line.take(NAME_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_short_line() {
        assert_eq!(cleaned(" ann\n"), "ann");
        assert_eq!(cleaned("a\u{7}b\r\nc"), "abc");
        assert_eq!(cleaned(&"x".repeat(100)).len(), NAME_MAX);
        assert!(!name().is_empty());
    }
}
