//! The effective configuration as people read it: TOML, secrets masked, each value with its
//! source.

use std::fmt::Write;

use model::target::TargetConfig;
use toml::Value;

use super::{Config, Layers, history_words, legacy, verifiers};

impl Config {
    /// Every key with its effective value; an empty text or list = not set.
    pub(crate) fn effective(&self) -> Vec<(&'static str, Value)> {
        let text = |text: &dyn std::fmt::Display| Value::String(text.to_string());
        let path = |path: &Option<std::path::PathBuf>| {
            Value::String(
                path.as_ref()
                    .map_or(String::new(), |path| path.display().to_string()),
            )
        };
        let texts = |all: Vec<String>| Value::Array(all.into_iter().map(Value::String).collect());
        let whole = |number: u32| Value::Integer(i64::from(number));
        let mut all = vec![
            ("data_dir", text(&self.data_dir.display())),
            ("store", text(&self.store)),
            (
                "node_id",
                text(&self.node_id.as_deref().unwrap_or_default()),
            ),
            ("lease_s", whole(self.lease_s)),
            ("targets", path(&self.targets)),
            ("prune", Value::Boolean(self.prune)),
            ("strict", Value::Boolean(self.strict)),
            ("admin", text(&self.admin)),
            ("dns", texts(shown(&self.dns))),
            ("dns_queries_per_s", whole(self.dns_queries_per_s)),
            ("dns_canaries", texts(self.dns_canaries.clone())),
            ("canaries", texts(canaries(&self.canaries))),
            ("ip", text(&self.ip.as_str())),
            ("allow", texts(shown(&self.allow))),
            ("uncapped", texts(shown(&self.uncapped))),
            ("source_addresses", texts(shown(&self.source_addresses))),
            ("close", text(&self.close.as_str())),
            ("reuse", text(&self.reuse.as_str())),
            ("ca_file", path(&self.ca_file)),
            ("user_agent", text(&self.user_agent)),
            ("tls_full_every_s", whole(self.tls_full_every_s)),
            ("tls_chains_max", whole(self.tls_chains_max)),
            (
                "probe_cores",
                Value::Array(
                    self.probe_cores
                        .iter()
                        .map(|&c| Value::Integer(c as i64))
                        .collect(),
                ),
            ),
            ("driver", text(&self.driver.as_str())),
            ("max_in_flight", whole(self.max_in_flight)),
            ("confirm_after", whole(self.confirm_after)),
            ("projection_interval_s", whole(self.projection_interval_s)),
            ("journal_max_mib", whole(self.journal_max_mib)),
            ("history", text(&history_words(self.history))),
            ("history_days", whole(self.history_days)),
            ("events_days", whole(self.events_days)),
            ("audit_days", whole(self.audit_days)),
            ("histogram_interval_s", whole(self.histogram_interval_s)),
            ("drain_s", whole(self.drain_s)),
            ("log", text(&self.log.as_str())),
            ("log_level", text(&self.log_level)),
        ];
        all.extend(legacy::effective(&self.legacy, self.legacy_sweep_s));
        all.push(("verifiers", verifiers::effective(&self.verifiers)));
        all.extend(verifiers::effective_serving(&self.verifier));
        all
    }

    /// TOML that can be used as a config file again, unless a secret was masked.
    pub(crate) fn to_toml(&self, layers: &Layers) -> String {
        let mut out = String::new();
        for (key, value) in self.effective() {
            let unset = matches!(&value, Value::String(text) if text.is_empty());
            let line = format!("{}{key} = {value}", if unset { "# " } else { "" });
            let source = match key {
                "store" if layers.get("store_file").is_some() => {
                    layers.source("store").max(layers.source("store_file"))
                }
                _ => layers.source(key),
            };
            writeln!(out, "{line:<44} # {source}").expect("a String takes every write");
        }
        out
    }
}

fn canaries(all: &[TargetConfig]) -> Vec<String> {
    all.iter().map(|one| one.check.to_string()).collect()
}

fn shown(all: &[impl ToString]) -> Vec<String> {
    all.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::super::keys;
    use super::*;

    #[test]
    fn every_key_is_printed_and_the_print_is_a_config_file() {
        let layers = Layers::default();
        let config = Config::resolve(&layers).expect("defaults are valid");
        let printed: Vec<&str> = config.effective().iter().map(|(key, _)| *key).collect();
        let known: Vec<&str> = keys::names()
            .filter(|name| !name.ends_with("_file") || *name == "ca_file")
            .collect();
        assert_eq!(printed, known);
        let toml = config.to_toml(&layers);
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("c.toml");
        std::fs::write(&path, &toml).expect("written");
        let again = Layers::read(Some(&path), std::iter::empty(), Vec::new()).expect("valid");
        let again = Config::resolve(&again).expect("valid");
        assert_eq!(again.effective(), config.effective());
    }
}
