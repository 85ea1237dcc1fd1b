//! Time zones by their IANA names. The rules are the machine's where it has them, else those that
//! came with this build.

use jiff::tz::{self, TimeZone};
use model::suggest;

use crate::exit::bad_input;

/// The zone `name`.
///
/// # Errors
/// A name that nobody knows, with the nearest that somebody does.
pub(crate) fn find(name: &str) -> anyhow::Result<TimeZone> {
    let name = name.trim();
    match tz::db().get(name) {
        Ok(zone) if !name.is_empty() => Ok(zone),
        _ => bad_input(format!(
            "zone: found {name:?}, accepted is the name of a time zone such as Europe/Berlin or \
             UTC{}",
            hint(name)
        )),
    }
}

/// The zone that was meant: by a typo, or by the name of its city alone.
fn hint(name: &str) -> String {
    let known: Vec<String> = tz::db().available().map(|zone| zone.to_string()).collect();
    let lower = name.to_ascii_lowercase().replace(' ', "_");
    let of_city = known.iter().find(|zone| {
        let city = zone.rsplit('/').next().unwrap_or_default();
        city.to_ascii_lowercase() == lower
    });
    let small: Vec<String> = known.iter().map(|zone| zone.to_ascii_lowercase()).collect();
    let near = suggest::nearest(&lower, small.iter().map(String::as_str));
    let of_typo = near.and_then(|near| {
        let at = small.iter().position(|zone| zone == near)?;
        known.get(at)
    });
    of_city
        .or(of_typo)
        .map_or_else(String::new, |zone| format!("; did you mean `{zone}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_that_nobody_knows_is_refused_with_the_one_that_was_meant() {
        let said = |name| find(name).expect_err("unknown").to_string();
        assert!(said("Europe/Berlni").ends_with("; did you mean `Europe/Berlin`?"));
        assert!(said("berlin").ends_with("; did you mean `Europe/Berlin`?"));
        assert!(said("new york").ends_with("; did you mean `America/New_York`?"));
        assert!(said("").contains("accepted is the name of a time zone"));
        assert!(find("Europe/Berlin").is_ok() && find("UTC").is_ok());
    }
}
