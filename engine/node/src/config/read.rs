//! Typed reading of layered values: one refusal sentence for every wrong one.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use model::FieldError;
use model::limits::{CANARIES_MAX, DNS_CANARIES_MAX, NODE_ID_MAX_BYTES, SOURCE_ADDRESSES_MAX};
use model::target::TargetConfig;
use persist::HistoryMode;
use prober::{Allowed, Cidr};
use store::StoreUrl;
use toml::Value;

use super::layers::{Layers, Source};
use super::{STORE_FILE, canary, canary_target, history, refuse, source, upstream};
use crate::exit::bad_input;
use crate::logging;

/// Reads values of a [`Layers`].
pub(super) struct Reader<'a>(pub(super) &'a Layers);

impl Reader<'_> {
    /// A text, `default` when absent or empty.
    pub(super) fn text(&self, key: &str, default: &str) -> anyhow::Result<String> {
        Ok(self
            .given(key)?
            .map_or(default, |(text, _)| text)
            .to_owned())
    }

    /// A path, `None` when absent or empty.
    pub(super) fn path(&self, key: &str) -> anyhow::Result<Option<PathBuf>> {
        Ok(self.given(key)?.map(|(text, _)| PathBuf::from(text)))
    }

    /// A flag, `false` when absent.
    pub(super) fn flag(&self, key: &str) -> anyhow::Result<bool> {
        self.flag_or(key, false)
    }

    /// A flag, `default` when absent.
    pub(super) fn flag_or(&self, key: &str, default: bool) -> anyhow::Result<bool> {
        match self.0.get(key) {
            None => Ok(default),
            Some((Value::Boolean(flag), _)) => Ok(*flag),
            Some((other, source)) => refuse(source, key, &other.to_string(), "true or false"),
        }
    }

    /// A whole number in `range`; absent and 0 are `default`.
    pub(super) fn whole(
        &self,
        key: &str,
        default: u32,
        (min, max): (u32, u32),
    ) -> anyhow::Result<u32> {
        let Some((value, source)) = self.0.get(key) else {
            return Ok(default);
        };
        let number = match value {
            Value::Integer(0) => return Ok(default),
            Value::Integer(number) => u32::try_from(*number).ok(),
            _ => None,
        };
        match number.filter(|number| (min..=max).contains(number)) {
            Some(number) => Ok(number),
            None => refuse(
                source,
                key,
                &value.to_string(),
                &format!("a whole number from {min} to {max}, or 0 for the default"),
            ),
        }
    }

    /// A whole number up to `max`, where 0 has a meaning of its own: off.
    pub(super) fn whole_or_off(&self, key: &str, default: u32, max: u32) -> anyhow::Result<u32> {
        let Some((value, source)) = self.0.get(key) else {
            return Ok(default);
        };
        let number = value.as_integer();
        let number = number.and_then(|number| u32::try_from(number).ok());
        match number.filter(|number| *number <= max) {
            Some(number) => Ok(number),
            None => refuse(
                source,
                key,
                &value.to_string(),
                &format!("a whole number from 1 to {max}, or 0 to turn it off"),
            ),
        }
    }

    /// The name of the node, `None` when absent or empty.
    pub(super) fn node_id(&self) -> anyhow::Result<Option<String>> {
        let Some((text, source)) = self.given("node_id")? else {
            return Ok(None);
        };
        let is_good = |byte: u8| byte.is_ascii_graphic();
        if text.len() > NODE_ID_MAX_BYTES || !text.bytes().all(is_good) {
            let accepted = "a name of up to 255 letters, digits and signs without blanks";
            return refuse(source, "node_id", &format!("{text:?}"), accepted);
        }
        Ok(Some(text.to_owned()))
    }

    /// Which checks the history keeps.
    pub(super) fn history(&self) -> anyhow::Result<HistoryMode> {
        let Some((text, source)) = self.given("history")? else {
            return Ok(HistoryMode::Edges);
        };
        match history(text) {
            Ok(mode) => Ok(mode),
            Err(accepted) => refuse(source, "history", &format!("{text:?}"), accepted),
        }
    }

    /// One of a fixed set of words.
    pub(super) fn word<T: FromStr<Err = &'static str>>(
        &self,
        key: &str,
        default: T,
    ) -> anyhow::Result<T> {
        let Some((text, source)) = self.given(key)? else {
            return Ok(default);
        };
        match text.parse() {
            Ok(word) => Ok(word),
            Err(accepted) => refuse(source, key, &format!("{text:?}"), accepted),
        }
    }

    /// The filter of the log.
    pub(super) fn log_level(&self) -> anyhow::Result<String> {
        let Some((text, source)) = self.given("log_level")? else {
            return Ok("info".to_owned());
        };
        match logging::check(text) {
            Ok(()) => Ok(text.to_owned()),
            Err(accepted) => refuse(source, "log_level", &format!("{text:?}"), &accepted),
        }
    }

    /// A text that `T` parses.
    pub(super) fn parsed<T: FromStr>(
        &self,
        key: &str,
        default: &str,
        accepted: &str,
    ) -> anyhow::Result<T> {
        let (text, source) = self
            .given(key)?
            .map_or((default, Source::Default), |(text, from)| {
                (text, from.clone())
            });
        match text.parse() {
            Ok(value) => Ok(value),
            Err(_) => refuse(&source, key, &format!("{text:?}"), accepted),
        }
    }

    /// The upstream resolvers.
    pub(super) fn upstreams(&self) -> anyhow::Result<Vec<std::net::SocketAddr>> {
        let parse = |(text, source): (String, Source)| match upstream(&text) {
            Ok(address) => Ok(address),
            Err(accepted) => refuse(&source, "dns", &format!("{text:?}"), accepted),
        };
        self.texts("dns")?.into_iter().map(parse).collect()
    }

    /// The canary targets, each once.
    pub(super) fn canaries(&self) -> anyhow::Result<Vec<TargetConfig>> {
        let key = "canaries";
        let given = self.texts(key)?;
        if let Some((_, source)) = given.get(CANARIES_MAX) {
            let accepted = format!("at most {CANARIES_MAX}");
            return refuse(source, key, &given.len().to_string(), &accepted);
        }
        let mut canaries: Vec<TargetConfig> = Vec::with_capacity(given.len());
        for (text, source) in given {
            match canary_target(&text) {
                Ok(canary) if canaries.iter().any(|other| other.check == canary.check) => {
                    return refuse(&source, key, &format!("{text:?} twice"), "each URL once");
                }
                Ok(canary) => canaries.push(canary),
                Err(error) => {
                    let found = format!("{:?}", error.found);
                    return refuse(&source, key, &found, &error.accepted);
                }
            }
        }
        Ok(canaries)
    }

    /// The canary names.
    pub(super) fn dns_canaries(&self) -> anyhow::Result<Vec<String>> {
        let given = self.texts("dns_canaries")?;
        if let Some((_, source)) = given.get(DNS_CANARIES_MAX) {
            let accepted = format!("at most {DNS_CANARIES_MAX}");
            return refuse(source, "dns_canaries", &given.len().to_string(), &accepted);
        }
        let parse = |(text, source): (String, Source)| match canary(&text) {
            Ok(name) => Ok(name),
            Err(accepted) => refuse(&source, "dns_canaries", &format!("{text:?}"), accepted),
        };
        given.into_iter().map(parse).collect()
    }

    /// A list of blocks.
    pub(super) fn cidrs(&self, key: &str) -> anyhow::Result<Vec<Cidr>> {
        self.fields(key)
    }

    /// A list of blocks and of private names.
    pub(super) fn allowed(&self, key: &str) -> anyhow::Result<Vec<Allowed>> {
        self.fields(key)
    }

    fn fields<T: FromStr<Err = FieldError>>(&self, key: &str) -> anyhow::Result<Vec<T>> {
        let parse = |(text, source): (String, Source)| match text.parse::<T>() {
            Ok(field) => Ok(field),
            Err(error) => refuse(&source, key, &format!("{text:?}"), &error.accepted),
        };
        self.texts(key)?.into_iter().map(parse).collect()
    }

    /// The source addresses, each once.
    pub(super) fn sources(&self) -> anyhow::Result<Vec<IpAddr>> {
        let key = "source_addresses";
        let given = self.texts(key)?;
        if let Some((_, from)) = given.get(SOURCE_ADDRESSES_MAX) {
            let accepted = format!("at most {SOURCE_ADDRESSES_MAX}");
            return refuse(from, key, &given.len().to_string(), &accepted);
        }
        let mut sources = Vec::with_capacity(given.len());
        for (text, from) in given {
            match source(&text) {
                Ok(address) if sources.contains(&address) => {
                    return refuse(&from, key, &format!("{text:?} twice"), "each address once");
                }
                Ok(address) => sources.push(address),
                Err(accepted) => return refuse(&from, key, &format!("{text:?}"), accepted),
            }
        }
        Ok(sources)
    }

    /// The CPUs of the probe cores, each once.
    pub(super) fn cpus(&self) -> anyhow::Result<Vec<usize>> {
        let Some((value, source)) = self.0.get("probe_cores") else {
            return Ok(Vec::new());
        };
        let number = |value: &Value| value.as_integer().and_then(|cpu| usize::try_from(cpu).ok());
        let cpus: Option<Vec<usize>> = value
            .as_array()
            .and_then(|all| all.iter().map(number).collect());
        let distinct = |cpus: &Vec<usize>| {
            let mut sorted = cpus.clone();
            sorted.sort_unstable();
            sorted.windows(2).all(|pair| pair[0] != pair[1])
        };
        match cpus.filter(distinct) {
            Some(cpus) => Ok(cpus),
            None => refuse(
                source,
                "probe_cores",
                &value.to_string(),
                "a list of different CPU numbers such as [1, 2]",
            ),
        }
    }

    /// The store, and whether somebody chose it. In one layer `store` wins over `store_file`.
    pub(super) fn store(&self, data_dir: &Path) -> anyhow::Result<(StoreUrl, bool)> {
        let direct = self.given("store")?;
        let file = self.given("store_file")?;
        let (text, source, key) = match (direct, file) {
            (Some((text, source)), None) => (text.to_owned(), source, "store"),
            (Some((text, source)), Some((_, other))) if rank(source) >= rank(other) => {
                (text.to_owned(), source, "store")
            }
            (_, Some((path, source))) => (read_store_file(path, source)?, source, "store_file"),
            (None, None) => return Ok((StoreUrl::Sqlite(data_dir.join(STORE_FILE)), false)),
        };
        match text.parse() {
            Ok(url) => Ok((url, true)),
            Err(error) => bad_input(format!("{source}: {key}: {error}")),
        }
    }

    /// A text that is not empty, and who gave it.
    fn given(&self, key: &str) -> anyhow::Result<Option<(&str, &Source)>> {
        match self.0.get(key) {
            None => Ok(None),
            Some((Value::String(text), source)) => {
                Ok((!text.trim().is_empty()).then_some((text.as_str(), source)))
            }
            // What stands there may have a password.
            Some((other, source)) => refuse(source, key, other.type_str(), "a string"),
        }
    }

    /// A list of texts; one text stands for a list of one.
    fn texts(&self, key: &str) -> anyhow::Result<Vec<(String, Source)>> {
        let Some((value, source)) = self.0.get(key) else {
            return Ok(Vec::new());
        };
        let values = match value {
            Value::String(_) => std::slice::from_ref(value),
            Value::Array(values) => values.as_slice(),
            _ => return refuse(source, key, &value.to_string(), "a list of strings"),
        };
        let text = |value: &Value| match value.as_str() {
            Some(text) => Ok((text.to_owned(), source.clone())),
            None => refuse(source, key, &value.to_string(), "a list of strings"),
        };
        values.iter().map(text).collect()
    }
}

/// Place of a source among the layers.
fn rank(source: &Source) -> u8 {
    match source {
        Source::Default => 0,
        Source::File(_) => 1,
        Source::Environment(_) => 2,
        Source::Flag(_) => 3,
    }
}

fn read_store_file(path: &str, source: &Source) -> anyhow::Result<String> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) => bad_input(format!(
            "{source}: store_file: {path} cannot be read ({error}); it must hold one store address"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_in_the_environment_wins_over_a_store_file_in_the_file() {
        let dir = tempfile::tempdir().expect("temp dir");
        let (secret, file) = (dir.path().join("secret"), dir.path().join("c.toml"));
        fs::write(&secret, "sqlite:from-file.db\n").expect("written");
        fs::write(&file, format!("store_file = '{}'", secret.display())).expect("written");
        let of = |variables: &[(&str, &str)]| {
            let variables = variables.iter().map(|&(n, v)| (n.to_owned(), v.to_owned()));
            let layers = Layers::read(Some(&file), variables, Vec::new()).expect("readable");
            Reader(&layers)
                .store(Path::new("d"))
                .expect("valid")
                .0
                .to_string()
        };
        assert_eq!(of(&[]), "sqlite:from-file.db");
        assert_eq!(of(&[("RINGWATCH_STORE", "sqlite:x.db")]), "sqlite:x.db");
    }
}
