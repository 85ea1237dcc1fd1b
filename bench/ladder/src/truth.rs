//! What was really broken (the farm's ground truth) and what the node said (its events), read
//! from their JSON lines.

use anyhow::{Context, Result};
use serde::{Deserialize, Deserializer};

/// One site's fault.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Fault {
    pub(crate) host: String,
    #[serde(rename = "fault")]
    pub(crate) kind: String,
    /// The failure class that a monitor must find; `None`: nothing that counts as a failure.
    pub(crate) class: Option<String>,
    pub(crate) start_ms: u64,
    pub(crate) end_ms: u64,
}

/// One event of the node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Incident {
    #[serde(deserialize_with = "text_or_nothing")]
    pub(crate) url: String,
    /// What it is about: `http`, or a note beside up and down.
    #[serde(default)]
    pub(crate) check_type: String,
    pub(crate) class: Option<String>,
    pub(crate) started_at_ms: u64,
    pub(crate) ended_at_ms: Option<u64>,
    #[serde(default)]
    pub(crate) transitions: Vec<Change>,
}

/// One transition of an event.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Change {
    /// State after.
    pub(crate) after: String,
    pub(crate) changed_at_ms: u64,
}

impl Incident {
    /// The host in the URL, without port.
    pub(crate) fn host(&self) -> &str {
        let rest = self
            .url
            .split_once("://")
            .map_or(self.url.as_str(), |(_, rest)| rest);
        let authority = rest.split(['/', '?']).next().unwrap_or(rest);
        authority
            .rsplit_once(':')
            .map_or(authority, |(host, _)| host)
    }

    /// When the event was opened: its first transition, or its start when it has none.
    pub(crate) fn opened_at_ms(&self) -> u64 {
        let changes = self.transitions.iter().map(|change| change.changed_at_ms);
        changes.min().unwrap_or(self.started_at_ms)
    }

    /// The states that it went through, in order.
    pub(crate) fn states(&self) -> Vec<&str> {
        let states = self.transitions.iter();
        states.map(|change| change.after.as_str()).collect()
    }

    /// When the event first reached `state`.
    pub(crate) fn reached(&self, state: &str) -> Option<u64> {
        let reached = self
            .transitions
            .iter()
            .filter(|change| change.after == state);
        reached.map(|change| change.changed_at_ms).min()
    }
}

/// Reads the ground truth.
pub(crate) fn parse_faults(lines: &str) -> Result<Vec<Fault>> {
    parse(lines, "a line of the ground truth")
}

/// Reads the node's events of sites; those of the node itself have no URL and are left out.
pub(crate) fn parse_incidents(lines: &str) -> Result<Vec<Incident>> {
    let mut incidents: Vec<Incident> = parse(lines, "a line of `events list --json`")?;
    incidents.retain(|incident| !incident.url.is_empty());
    Ok(incidents)
}

fn text_or_nothing<'de, D: Deserializer<'de>>(value: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(value)?.unwrap_or_default())
}

fn parse<'a, T: Deserialize<'a>>(lines: &'a str, what: &str) -> Result<Vec<T>> {
    let lines = lines.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| {
            serde_json::from_str(line).with_context(|| format!("{what} is not understood: {line}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_truth_is_read_and_a_null_class_is_none() {
        let line = |kind: &str, class: &str| {
            format!(
                "{{\"site\":2,\"host\":\"s-0000002.farm.test\",\"fault\":\"{kind}\",\
                 \"class\":{class},\"start_ms\":5,\"end_ms\":9}}\n"
            )
        };
        let lines = [
            line("status", "\"http.status\""),
            "\n".into(),
            line("dns_servfail", "null"),
        ];
        let faults = parse_faults(&lines.concat()).expect("valid");
        assert_eq!(faults[0].kind, "status");
        assert_eq!(faults[0].class.as_deref(), Some("http.status"));
        assert_eq!(faults[1].class, None);
        assert!(parse_faults("{\"host\":1}").is_err());
    }

    #[test]
    fn an_event_knows_its_host_and_when_it_reached_a_state() {
        let line = r#"{"id":"1","target":"2","url":"https://s-0000002.farm.test:8443/x",
            "state":"Down","class":"http.status","started_at_ms":10,"ended_at_ms":null,
            "resolution":null,"transitions":[
                {"before":null,"after":"Seems Down","reason":"opened","changed_at_ms":11},
                {"before":"Seems Down","after":"Down","changed_at_ms":30}]}"#
            .replace('\n', " ");
        let incidents = parse_incidents(&line).expect("valid");
        assert_eq!(incidents[0].host(), "s-0000002.farm.test");
        assert_eq!(incidents[0].opened_at_ms(), 11);
        assert_eq!(incidents[0].states(), ["Seems Down", "Down"]);
        assert_eq!(incidents[0].reached("Down"), Some(30));
        assert_eq!(incidents[0].reached("Resolved"), None);
        let of_the_node = line.replace("\"https://s-0000002.farm.test:8443/x\"", "null");
        assert!(parse_incidents(&of_the_node).expect("valid").is_empty());
    }
}
