//! Who is asked about a failing target, and the table `[verifier]` of whoever answers. It must not
//! know what is said between them.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use model::TargetUrl;
use model::limits::{INBOX_MAX, VERIFIERS_MAX};
use model::suggest::hint;
use model::url::{Host, Scheme};
use toml::{Table, Value};

use super::layers::Source;
use super::read::Reader;
use super::refuse;

/// Default of `verifier.listen`.
const LISTEN: &str = "127.0.0.1:9471";
/// Default of `verifier.concurrency`, and what it may be.
const CONCURRENCY: u32 = 4_096;
const CONCURRENCY_RANGE: (u32, u32) = (1, INBOX_MAX as u32);
/// Default of `verifier.queue`, and what it may be.
const QUEUE: u32 = 8_192;
const QUEUE_RANGE: (u32, u32) = (1, 1_000_000);
/// Keys of one of the `verifiers`.
const FIELDS: [&str; 5] = ["url", "token", "token_file", "vantage", "ca_file"];
/// Longest word for a place, in bytes.
const PLACE_MAX_BYTES: usize = 64;

/// What is said to show that one may ask. Never shown itself.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(String);

impl Token {
    /// `None`: a token that nobody could send, or that everybody has.
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let is_good = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_good.then(|| Self(text.to_owned()))
    }

    /// As it goes over the wire.
    pub(crate) fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A verifier that may be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verifier {
    /// Where it listens: no path.
    pub(crate) url: TargetUrl,
    /// What it wants to hear.
    pub(crate) token: Token,
    /// Whose vote its answers are; several verifiers of one vantage share one.
    pub(crate) vantage: String,
    /// Trust anchors instead of the built-in ones.
    pub(crate) ca_file: Option<PathBuf>,
}

impl Verifier {
    /// What is wrong with how it is asked, if anything is: token and votes go over a network as
    /// they are.
    pub(crate) fn in_clear(&self) -> Option<String> {
        let stays_here = match self.url.host() {
            Host::Name(name) => name == "localhost",
            Host::Address(address) => address.is_loopback(),
        };
        (self.url.scheme() == Scheme::Http && !stays_here).then(|| {
            format!(
                "the verifier {} is asked at {} in clear: whoever is between can read the token \
                 and answer for it; give it a certificate (tls_cert, tls_key) and ask it by https",
                self.vantage, self.url
            )
        })
    }
}

/// All that may be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verifiers(pub(crate) Vec<Verifier>);

impl Verifiers {
    /// Each vantage once, with the places of its verifiers in the list.
    pub(crate) fn by_vantage(&self) -> Vec<(&str, Vec<usize>)> {
        let mut vantages: Vec<(&str, Vec<usize>)> = Vec::new();
        for (index, verifier) in self.0.iter().enumerate() {
            match vantages
                .iter_mut()
                .find(|(name, _)| *name == verifier.vantage)
            {
                Some((_, places)) => places.push(index),
                None => vantages.push((&verifier.vantage, vec![index])),
            }
        }
        vantages
    }

    /// How many votes there can be.
    pub(crate) fn vantages(&self) -> usize {
        self.by_vantage().len()
    }
}

/// How `ringwatch verifier` serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Serving {
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    /// What it wants to hear; a service does not start without.
    pub(crate) token: Option<Token>,
    /// The certificate chain and its key, in PEM, where it speaks TLS.
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
    /// Checks at one time.
    pub(crate) concurrency: u32,
    /// Checks that wait for that.
    pub(crate) queue: u32,
    /// Where it looks from.
    pub(crate) vantage: String,
    /// Part of the world.
    pub(crate) region: String,
    /// Whose machine it is.
    pub(crate) provider: String,
}

impl Reader<'_> {
    /// The list `verifiers`.
    pub(super) fn verifiers(&self) -> anyhow::Result<Verifiers> {
        let key = "verifiers";
        let Some((value, source)) = self.0.get(key) else {
            return Ok(Verifiers::default());
        };
        let accepted = "a list of tables with url, token or token_file, and vantage";
        let Some(tables) = value.as_array() else {
            return refuse(source, key, value.type_str(), accepted);
        };
        if tables.len() > VERIFIERS_MAX {
            let accepted = format!("at most {VERIFIERS_MAX}");
            return refuse(source, key, &tables.len().to_string(), &accepted);
        }
        let parse = |entry: &Value| match entry.as_table() {
            Some(table) => verifier(table, source),
            None => refuse(source, key, entry.type_str(), accepted),
        };
        let all: anyhow::Result<Vec<Verifier>> = tables.iter().map(parse).collect();
        Ok(Verifiers(all?))
    }

    /// The table `[verifier]`.
    pub(super) fn serving(&self) -> anyhow::Result<Serving> {
        let tls = (
            self.path("verifier.tls_cert")?,
            self.path("verifier.tls_key")?,
        );
        let tls = match tls {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) => return self.half_of("verifier.tls_cert", "verifier.tls_key"),
            (None, Some(_)) => return self.half_of("verifier.tls_key", "verifier.tls_cert"),
        };
        let accepted = "an address such as 0.0.0.0:9471";
        Ok(Serving {
            listen: self.parsed("verifier.listen", LISTEN, accepted)?,
            token: self.token()?,
            tls,
            concurrency: self.whole("verifier.concurrency", CONCURRENCY, CONCURRENCY_RANGE)?,
            queue: self.whole("verifier.queue", QUEUE, QUEUE_RANGE)?,
            vantage: self.place("verifier.vantage")?,
            region: self.place("verifier.region")?,
            provider: self.place("verifier.provider")?,
        })
    }

    fn half_of<T>(&self, given: &str, missing: &str) -> anyhow::Result<T> {
        let accepted = format!("it together with {missing}");
        refuse(&self.0.source(given), given, "it alone", &accepted)
    }

    fn token(&self) -> anyhow::Result<Option<Token>> {
        let (direct, file) = ("verifier.token", "verifier.token_file");
        let text = |key: &str| -> anyhow::Result<Option<String>> {
            Ok(Some(self.text(key, "")?).filter(|text| !text.is_empty()))
        };
        match (text(direct)?, text(file)?) {
            (None, None) => Ok(None),
            (given, path) => {
                let key = if given.is_some() { direct } else { file };
                one_token(given, path, &self.0.source(key), key).map(Some)
            }
        }
    }

    fn place(&self, key: &str) -> anyhow::Result<String> {
        let text = self.text(key, "")?;
        if text.is_empty() || is_place(&text) {
            return Ok(text);
        }
        refuse(&self.0.source(key), key, &format!("{text:?}"), PLACE)
    }
}

/// What a place looks like.
const PLACE: &str = "up to 64 letters, digits and signs without blanks, such as fra-1";

fn is_place(text: &str) -> bool {
    text.len() <= PLACE_MAX_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// One entry of the list `verifiers`.
fn verifier(table: &Table, source: &Source) -> anyhow::Result<Verifier> {
    if let Some(unknown) = table.keys().find(|key| !FIELDS.contains(&key.as_str())) {
        let near = hint(unknown, FIELDS);
        let accepted = format!("{}{near}", FIELDS.join(", "));
        return refuse(source, "verifiers", &format!("{unknown:?}"), &accepted);
    }
    let text = |key: &str| -> anyhow::Result<Option<String>> {
        match table.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
            Some(other) => {
                let key = format!("verifiers.{key}");
                refuse(source, &key, other.type_str(), "a string")
            }
        }
    };
    let token = one_token(
        text("token")?,
        text("token_file")?,
        source,
        "verifiers.token",
    )?;
    let url = text("url")?.unwrap_or_default();
    let accepted = "a URL such as https://verifier.example:9471, without a path";
    let url = match TargetUrl::parse(&url) {
        Ok(url) if url.path() == "/" => url,
        _ => return refuse(source, "verifiers.url", &format!("{url:?}"), accepted),
    };
    let vantage = text("vantage")?.unwrap_or_default();
    if vantage.is_empty() || !is_place(&vantage) {
        return refuse(source, "verifiers.vantage", &format!("{vantage:?}"), PLACE);
    }
    Ok(Verifier {
        url,
        token,
        vantage,
        ca_file: text("ca_file")?.map(PathBuf::from),
    })
}

/// The token itself, or what is in its file. Neither is shown where it is refused.
fn one_token(
    given: Option<String>,
    path: Option<String>,
    source: &Source,
    key: &str,
) -> anyhow::Result<Token> {
    let (text, from) = match (given, path) {
        (Some(_), Some(_)) => {
            let accepted = "either the token or the file that holds it";
            return refuse(source, key, "both", accepted);
        }
        (Some(text), None) => (text, "a token".to_owned()),
        (None, Some(path)) => match fs::read_to_string(&path) {
            Ok(text) => (text, format!("the content of {path}")),
            Err(error) => {
                let accepted = "a file that holds the token";
                return refuse(source, key, &format!("{path} ({error})"), accepted);
            }
        },
        (None, None) => (String::new(), "none".to_owned()),
    };
    match Token::parse(&text) {
        Some(token) => Ok(token),
        None => refuse(source, key, &from, "a token of letters, digits and signs"),
    }
}

/// The list as people read it: without its secrets.
pub(super) fn effective(verifiers: &Verifiers) -> Value {
    let entry = |verifier: &Verifier| {
        let mut table = Table::new();
        let mut put = |key: &str, text: String| table.insert(key.to_owned(), Value::String(text));
        put("url", verifier.url.to_string());
        put("token", format!("{:?}", verifier.token));
        put("vantage", verifier.vantage.clone());
        if let Some(path) = &verifier.ca_file {
            put("ca_file", path.display().to_string());
        }
        Value::Table(table)
    };
    Value::Array(verifiers.0.iter().map(entry).collect())
}

/// Every key of the table `[verifier]`, in the order of the list of keys, without its secret.
pub(super) fn effective_serving(serving: &Serving) -> Vec<(&'static str, Value)> {
    let text = |text: &dyn fmt::Display| Value::String(text.to_string());
    let token = serving.token.as_ref().map(|token| format!("{token:?}"));
    let path = |pick: fn(&(PathBuf, PathBuf)) -> &PathBuf| {
        let path = serving
            .tls
            .as_ref()
            .map(|both| pick(both).display().to_string());
        Value::String(path.unwrap_or_default())
    };
    vec![
        ("verifier.listen", text(&serving.listen)),
        ("verifier.token", text(&token.unwrap_or_default())),
        ("verifier.tls_cert", path(|both| &both.0)),
        ("verifier.tls_key", path(|both| &both.1)),
        (
            "verifier.concurrency",
            Value::Integer(serving.concurrency.into()),
        ),
        ("verifier.queue", Value::Integer(serving.queue.into())),
        ("verifier.vantage", text(&serving.vantage)),
        ("verifier.region", text(&serving.region)),
        ("verifier.provider", text(&serving.provider)),
    ]
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Layers};

    fn resolve(file: &str, variables: &[(&str, &str)]) -> anyhow::Result<Config> {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("c.toml");
        std::fs::write(&path, file).expect("written");
        let variables = variables.iter().map(|&(n, v)| (n.to_owned(), v.to_owned()));
        Config::resolve(&Layers::read(Some(&path), variables, Vec::new())?)
    }

    #[test]
    fn a_token_that_goes_over_a_network_in_clear_is_told() {
        let told = |url: &str| {
            let file = format!("verifiers = [{{url='{url}', token='s3cret', vantage='a'}}]");
            let config = resolve(&file, &[]).expect("valid");
            config.verifiers.0[0].in_clear()
        };
        for here in ["http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1"] {
            assert_eq!(told(here), None);
        }
        assert_eq!(told("https://b.example"), None);
        for there in ["http://b.example", "http://192.0.2.1:9471"] {
            let said = told(there).expect("told");
            assert!(said.contains(there) && !said.contains("s3cret"), "{said}");
        }
    }

    #[test]
    fn replicas_of_a_vantage_are_one_vote_and_secrets_are_not_shown() {
        let file = "verifiers = [\n{url='http://127.0.0.1:1', token='s3cret', vantage='a'},\n\
                    {url='https://b.example', token='s3cret', vantage='b'},\n\
                    {url='http://127.0.0.1:2', token='s3cret', vantage='a'}]\n\
                    [verifier]\ntoken = 's3cret'\nvantage = 'c'";
        let config = resolve(file, &[]).expect("valid");
        assert_eq!(config.verifiers.vantages(), 2);
        assert_eq!(config.verifiers.by_vantage()[0], ("a", vec![0, 2]));
        assert_eq!(config.verifiers.0[1].url.port(), 443);
        let layers = Layers::default();
        let shown = format!("{}{config:?}", config.to_toml(&layers));
        assert!(
            !shown.contains("s3cret") && shown.contains("***"),
            "{shown}"
        );
        let text = "[{url='http://[::1]:9', token='t', vantage='z'}]";
        let config = resolve("", &[("RINGWATCH_VERIFIERS", text)]).expect("valid");
        assert_eq!(config.verifiers.0[0].vantage, "z");
    }

    #[test]
    fn a_token_comes_from_its_file_and_a_changed_one_needs_a_restart() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("token");
        let file = format!(
            "verifiers = [{{url='http://127.0.0.1:1', token_file='{}', vantage='a'}}]",
            path.display()
        );
        let of = |token: &str| {
            std::fs::write(&path, token).expect("written");
            resolve(&file, &[])
        };
        let (old, new) = (of("one\n").expect("valid"), of("two").expect("valid"));
        assert_eq!(old.verifiers.0[0].token.secret(), "one");
        assert_eq!(old.needs_restart(&new), ["verifiers"]);
        let error = of(" \n").expect_err("empty").to_string();
        assert!(
            error.contains("verifiers.token: found the content of "),
            "{error}"
        );
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_key_and_without_its_secret() {
        let of = |entry: &str| format!("verifiers = [{{{entry}}}]");
        for (file, key) in [
            (
                of("url='http://a', token=\"s3cret\\u007f\", vantage='a'"),
                "verifiers.token",
            ),
            (of("url='http://a', vantage='a'"), "verifiers.token"),
            (
                of("url='http://a/x', token='s3cret', vantage='a'"),
                "verifiers.url",
            ),
            (
                of("url='ftp://a', token='s3cret', vantage='a'"),
                "verifiers.url",
            ),
            (
                of("url='http://a', token='s3cret', vantage='a b'"),
                "verifiers.vantage",
            ),
            (of("url='http://a', token='s3cret'"), "verifiers.vantage"),
            (of("url=1, token='s3cret', vantage='a'"), "verifiers.url"),
            (
                of("urls='http://a', token='s3cret', vantage='a'"),
                "verifiers",
            ),
            ("verifiers = 'http://a'".to_owned(), "verifiers"),
            ("verifiers = ['s3cret']".to_owned(), "verifiers"),
            ("[verifier]\ntoken = 'a b'".to_owned(), "verifier.token"),
            ("[verifier]\ntls_cert = 'a'".to_owned(), "verifier.tls_cert"),
            ("[verifier]\nlisten = 'a'".to_owned(), "verifier.listen"),
            (
                "[verifier]\nconcurrency = -1".to_owned(),
                "verifier.concurrency",
            ),
            ("[verifier]\nvantage = 'a b'".to_owned(), "verifier.vantage"),
            ("verifier = 1".to_owned(), "verifier"),
        ] {
            let error = resolve(&file, &[]).expect_err(&file).to_string();
            assert!(error.contains(&format!("{key}: found ")), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
        let error = resolve("[verifier]\nlistn = 'x'", &[]).expect_err("unknown");
        assert!(
            error
                .to_string()
                .contains("did you mean `verifier.listen`?")
        );
    }
}
