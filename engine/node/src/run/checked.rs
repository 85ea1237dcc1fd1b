//! What a look at this machine says of a configuration: whether a node can start with it. Asked
//! before anything is made, and by whoever accepts a configuration for the next start.

use std::fmt::Display;
use std::path::Path;

use prober::{Guard, ProberError, Roots, SharedConfig, TlsPolicy};

use super::plan::Cpus;
use super::sources;
use crate::config::{Config, Layers, ReuseWord};
use crate::exit::bad_input;

/// What was read for the look and a start goes on with: a file is read once, so that it may be a
/// pipe.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    /// The CPUs by role.
    pub(crate) cpus: Cpus,
    /// The prober's settings.
    pub(crate) prober: SharedConfig,
}

impl Config {
    /// Looks whether a node can start with this configuration, on the CPUs `allowed` to it.
    ///
    /// # Errors
    /// [`BadInput`](crate::exit::BadInput) that names the key which this machine cannot do, who
    /// gave it, and what is accepted.
    pub(crate) fn check(&self, layers: &Layers, allowed: Vec<usize>) -> anyhow::Result<Checked> {
        let cpus = Cpus::assign(allowed, &self.probe_cores)
            .map_err(|error| error.context(layers.source("probe_cores").to_string()))?;
        self.check_sources(layers)?;
        let prober = self.prober(layers)?;
        Ok(Checked { cpus, prober })
    }

    /// Whether this machine has the addresses that checks come from.
    ///
    /// # Errors
    /// As [`Config::check`].
    pub(crate) fn check_sources(&self, layers: &Layers) -> anyhow::Result<()> {
        sources::refuse_absent(&self.source_addresses)
            .map_err(|error| error.context(layers.source("source_addresses").to_string()))
    }

    /// The prober's settings, which a probe core will take.
    ///
    /// # Errors
    /// As [`Config::check`].
    pub(crate) fn prober(&self, layers: &Layers) -> anyhow::Result<SharedConfig> {
        let settings = SharedConfig {
            user_agent: self.user_agent.clone(),
            roots: roots(self.ca_file.as_deref(), layers)?,
            tls: TlsPolicy {
                full_every_s: self.tls_full_every_s,
                chains_max: self.tls_chains_max as usize,
                ..TlsPolicy::default()
            },
            guard: Guard::allowing(&self.allow),
            reuse: self.reuse == ReuseWord::ByAddress,
        };
        match settings.check() {
            Ok(()) => Ok(settings),
            Err(error) => self.refuse(error, layers),
        }
    }

    fn refuse<T>(&self, error: ProberError, layers: &Layers) -> anyhow::Result<T> {
        let key = match error {
            ProberError::UserAgent { .. } => "user_agent",
            ProberError::Pem(_) | ProberError::NoRoots { .. } | ProberError::Verifier(_) => {
                "ca_file"
            }
            error => return Err(error.into()),
        };
        let error = anyhow::Error::from(error);
        match &self.ca_file {
            Some(path) if key == "ca_file" => {
                unusable(layers, key, format_args!("{}: {error:#}", path.display()))
            }
            _ => unusable(layers, key, format_args!("{error:#}")),
        }
    }
}

/// The trust anchors of `ca_file`, else the built-in ones.
fn roots(ca_file: Option<&Path>, layers: &Layers) -> anyhow::Result<Roots> {
    let Some(path) = ca_file else {
        return Ok(Roots::WebPki);
    };
    std::fs::read(path).map(Roots::Pem).or_else(|error| {
        let path = path.display();
        let why = format_args!("{path} cannot be read ({error}): check the path and its rights");
        unusable(layers, "ca_file", why)
    })
}

fn unusable<T>(layers: &Layers, key: &str, why: impl Display) -> anyhow::Result<T> {
    bad_input(format!("{}: {key}: {why}", layers.source(key)))
}

#[cfg(test)]
mod tests {
    use toml::Value;

    use super::*;
    use crate::exit::BadInput;

    /// The first two CPUs.
    fn check(flags: Vec<(&'static str, Value)>) -> anyhow::Result<Checked> {
        let layers = Layers::read(None, std::iter::empty(), flags)?;
        Config::resolve(&layers)?.check(&layers, vec![0, 1])
    }

    #[test]
    fn the_memory_of_tls_is_as_large_as_configured() {
        let flags = vec![
            ("tls_full_every_s", Value::Integer(60)),
            ("tls_chains_max", Value::Integer(0)),
        ];
        let of = |flags| check(flags).expect("built-in roots").prober.tls;
        let given = of(flags);
        assert_eq!((given.full_every_s, given.chains_max), (60, 0));
        assert_eq!(of(Vec::new()), TlsPolicy::default());
    }

    #[test]
    fn what_this_machine_cannot_do_names_its_source_its_key_and_what_is_accepted() {
        let dir = tempfile::tempdir().expect("temp dir");
        let (none, no_pem) = (dir.path().join("none.pem"), dir.path().join("ca.pem"));
        std::fs::write(&no_pem, "no certificate").expect("written");
        let text = |text: &dyn Display| Value::String(text.to_string());
        let (none, no_pem) = (text(&none.display()), text(&no_pem.display()));
        for (key, value, accepted) in [
            (
                "probe_cores",
                Value::Array(vec![Value::Integer(99)]),
                "found 99, accepted are the CPUs that this process may use: [0, 1]",
            ),
            (
                "source_addresses",
                text(&"192.0.2.1"),
                "ip address add 192.0.2.1/32",
            ),
            ("user_agent", text(&"bücher"), "1 to 256 printable ASCII"),
            ("ca_file", none, "none.pem cannot be read"),
            (
                "ca_file",
                no_pem,
                "ca.pem: the CA bundle has no usable certificate",
            ),
        ] {
            let error = check(vec![(key, value)]).expect_err(key);
            let said = format!("{error:#}");
            let source = format!("--{}: {key}: ", key.replace('_', "-"));
            assert!(
                said.starts_with(&source) && said.contains(accepted),
                "{said}"
            );
            assert!(error.downcast_ref::<BadInput>().is_some(), "{said}");
        }
    }
}
