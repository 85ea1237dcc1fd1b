//! The address of a MySQL store: `mysql://USER:PASS@HOST:PORT/DB?option=value`. It opens nothing,
//! and never shows its password.

use std::fmt::{self, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::StoreError;

const PORT: u16 = 3306;
/// Prefix of our tables.
const PREFIX: &str = "jetpack_monitor_";
/// Longest prefix: names of MySQL end at 64 characters, ours need 34 of them behind it.
const PREFIX_MAX: usize = 30;
/// Longest name of a database in MySQL.
const DATABASE_MAX: usize = 64;
/// What stands for a password where the address is shown.
const MASK: &str = "***";
const FORM: &str = "write mysql://USER:PASS@HOST:PORT/DB";

/// How the connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tls {
    /// Not at all.
    Off,
    /// Encrypted, whoever the server is.
    Required,
    /// Encrypted, and the server proves its name.
    Verify,
}

impl Tls {
    /// As an address has it.
    fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Required => "required",
            Self::Verify => "verify",
        }
    }
}

/// Where a MySQL or MariaDB server keeps a store, and how to get in. `Display` and `Debug` mask
/// the password.
///
/// Options behind `?`, separated by `&`: `tls` (`verify`, `required` or `off`; by default `off` for
/// sockets and loopback, else `verify`), `tls_ca` (PEM file of the authority, instead of the
/// built-in ones), `socket` (path of a Unix socket; the host is not asked then) and `prefix` (of
/// the tables, by default `jetpack_monitor_`). `%XX` stands for any byte in every part.
#[derive(Clone, PartialEq, Eq)]
pub struct MysqlUrl {
    pub(super) user: String,
    pub(super) password: Option<String>,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) database: String,
    pub(super) socket: Option<PathBuf>,
    pub(super) tls: Tls,
    pub(super) tls_ca: Option<PathBuf>,
    pub(super) prefix: String,
}

impl MysqlUrl {
    /// Whether both are the same tables of the same server, as far as names tell.
    pub fn is_same_place(&self, other: &Self) -> bool {
        let place = |url: &Self| {
            let Self {
                host,
                port,
                database,
                socket,
                prefix,
                ..
            } = url.clone();
            (host, port, database, socket, prefix)
        };
        place(self) == place(other)
    }

    /// `sql` with the tables of this store: ours are written with the default prefix. What is
    /// quoted is a name of somebody else, and stays.
    pub(super) fn named(&self, sql: &str) -> String {
        if self.prefix == PREFIX {
            return sql.to_owned();
        }
        let part = |(at, part): (usize, &str)| match at % 2 {
            0 => part.replace(PREFIX, &self.prefix),
            _ => part.to_owned(),
        };
        let parts: Vec<String> = sql.split('`').enumerate().map(part).collect();
        parts.join("`")
    }

    /// The name of our table `rest`.
    pub(super) fn table(&self, rest: &str) -> String {
        format!("{}{rest}", self.prefix)
    }

    /// A name for a lock of the server that this store alone has.
    pub(super) fn lock_name(&self, purpose: &str) -> String {
        let place = format!("{}/{}", self.database, self.prefix);
        let hash = crate::schema::checksum(&place) as u64;
        format!("ringwatch.{purpose}.{hash:016x}")
    }

    fn is_local(&self) -> bool {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        let loopback = bare
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback());
        self.socket.is_some() || loopback || bare == "localhost"
    }

    /// What it is unless somebody says otherwise.
    fn default_tls(&self) -> Tls {
        if self.is_local() {
            Tls::Off
        } else {
            Tls::Verify
        }
    }

    fn option(&mut self, key: &str, value: String, tls: &mut Option<Tls>) -> Result<(), String> {
        match key {
            "tls" => {
                *tls = Some(match value.as_str() {
                    "off" => Tls::Off,
                    "required" => Tls::Required,
                    "verify" => Tls::Verify,
                    other => {
                        return Err(format!(
                            "tls is {other:?}, accepted are verify, required and off"
                        ));
                    }
                });
            }
            "tls_ca" => self.tls_ca = Some(PathBuf::from(value)),
            "socket" => self.socket = Some(PathBuf::from(value)),
            "prefix" if is_prefix(&value) => self.prefix = value,
            "prefix" => {
                return Err(format!(
                    "prefix is {value:?}, accepted are 1 to {PREFIX_MAX} of a-z, 0-9 and _"
                ));
            }
            other => {
                return Err(format!(
                    "there is no option {other:?}, only tls, tls_ca, socket and prefix"
                ));
            }
        }
        Ok(())
    }
}

fn is_prefix(text: &str) -> bool {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
    (1..=PREFIX_MAX).contains(&text.len()) && text.bytes().all(allowed)
}

impl FromStr for MysqlUrl {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        parse(text).map_err(|why| StoreError::BadUrl {
            given: masked(text),
            why,
        })
    }
}

/// Passwords with odd characters that nobody escaped are understood while they can be: the last
/// `@` ends them.
fn parse(text: &str) -> Result<MysqlUrl, String> {
    let rest = text.split_once("://").map_or("", |(_, rest)| rest);
    let (credentials, place) = rest.rsplit_once('@').unwrap_or(("", rest));
    let (place, options) = place.split_once('?').unwrap_or((place, ""));
    let (host, database) = place.split_once('/').unwrap_or((place, ""));
    let (user, password) = match credentials.split_once(':') {
        Some((user, password)) => (user, Some(decoded(password)?)),
        None => (credentials, None),
    };
    if password.as_deref() == Some(MASK) {
        return Err(
            "its password is masked: give the whole address with --store, RINGWATCH_STORE or \
             store_file"
                .to_owned(),
        );
    }
    let (host, port) = host_and_port(host)?;
    let database = decoded(database)?;
    if !(1..=DATABASE_MAX).contains(&database.len()) || database.contains(['/', '`', '\0']) {
        return Err(format!("it names no database: {FORM}"));
    }
    let mut url = MysqlUrl {
        user: decoded(user)?,
        password,
        host,
        port,
        database,
        socket: None,
        tls: Tls::Off,
        tls_ca: None,
        prefix: PREFIX.to_owned(),
    };
    let mut tls = None;
    for option in options.split('&').filter(|option| !option.is_empty()) {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        url.option(key, decoded(value)?, &mut tls)?;
    }
    url.tls = tls.unwrap_or(url.default_tls());
    if url.user.is_empty() {
        return Err(format!("it names no user: {FORM}"));
    }
    Ok(url)
}

fn host_and_port(text: &str) -> Result<(String, u16), String> {
    let text = decoded(text)?;
    let port_at = text.rfind(':').filter(|at| !text[*at..].contains(']'));
    let (host, port) = match port_at {
        None => (text.as_str(), PORT),
        Some(at) => {
            let port = text[at + 1..].parse().ok().filter(|port| *port != 0);
            let accepted = "a port is a number from 1 to 65535";
            (&text[..at], port.ok_or(accepted)?)
        }
    };
    if host.is_empty() {
        return Err(format!("it names no host: {FORM}"));
    }
    Ok((host.to_owned(), port))
}

fn decoded(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            let code = after
                .get(..2)
                .and_then(|code| std::str::from_utf8(code).ok());
            let code = code.and_then(|code| u8::from_str_radix(code, 16).ok());
            bytes.push(code.ok_or("% must be followed by two hexadecimal digits")?);
            rest = &after[2..];
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())
}

/// `text` such that [`decoded`] gives it back.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'/' => {
                out.push(byte.into());
            }
            other => write!(out, "%{other:02X}").expect("a String takes every write"),
        }
    }
    out
}

/// `text` with the password between `user:` and the last `@` of its authority replaced. Who forgot
/// the `@` or the `//` has a password there all the same.
pub(crate) fn masked(text: &str) -> String {
    let start = text.find("://").map_or(0, |at| at + 3);
    let (scheme, rest) = text.split_at(start);
    let (credentials, host) = match rest.rsplit_once('@') {
        Some((credentials, host)) => (credentials, format!("@{host}")),
        None => (rest, String::new()),
    };
    match credentials.split_once(':') {
        Some((user, _)) => format!("{scheme}{user}:{MASK}{host}"),
        None => text.to_owned(),
    }
}

impl fmt::Display for MysqlUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mask = if self.password.is_some() {
            format!(":{MASK}")
        } else {
            String::new()
        };
        write!(
            f,
            "mysql://{}{mask}@{}:{}/{}",
            encoded(&self.user),
            self.host,
            self.port,
            encoded(&self.database)
        )?;
        let path = |path: &Option<PathBuf>| {
            path.as_ref()
                .map(|path| encoded(&path.display().to_string()))
        };
        let prefix = (self.prefix != PREFIX).then(|| self.prefix.clone());
        let tls = (self.tls != self.default_tls()).then(|| self.tls.word().to_owned());
        let options = [
            ("socket", path(&self.socket)),
            ("tls", tls),
            ("tls_ca", path(&self.tls_ca)),
            ("prefix", prefix),
        ];
        let mut separator = '?';
        for (key, value) in options {
            if let Some(value) = value {
                write!(f, "{separator}{key}={value}")?;
                separator = '&';
            }
        }
        Ok(())
    }
}

impl fmt::Debug for MysqlUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} ({:?})", self.tls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> MysqlUrl {
        text.parse().expect(text)
    }

    #[test]
    fn every_part_of_an_address_is_read() {
        let full =
            url("mysql://u%40x:p%3Aw@db.test:3307/watch?tls=required&tls_ca=/a%20b&prefix=x_");
        assert_eq!(
            (&*full.user, full.password.as_deref()),
            ("u@x", Some("p:w"))
        );
        assert_eq!(
            (&*full.host, full.port, &*full.database),
            ("db.test", 3307, "watch")
        );
        assert_eq!((full.tls, &*full.prefix), (Tls::Required, "x_"));
        assert_eq!(full.tls_ca, Some(PathBuf::from("/a b")));
        let short = url("mariadb://u@[::1]/d?socket=/run/s");
        assert_eq!(
            (short.port, &*short.host, short.password.as_deref()),
            (3306, "[::1]", None)
        );
        assert_eq!(short.socket, Some(PathBuf::from("/run/s")));
        let raw = url("mysql://u:a@b/c:d@h/d");
        assert_eq!(
            (raw.password.as_deref(), &*raw.host),
            (Some("a@b/c:d"), "h")
        );
    }

    #[test]
    fn only_a_server_on_this_machine_is_reached_without_tls_unless_asked() {
        for (text, tls) in [
            ("mysql://u@127.0.0.1/d", Tls::Off),
            ("mysql://u@[::1]/d", Tls::Off),
            ("mysql://u@localhost/d", Tls::Off),
            ("mysql://u@db.test/d?socket=/s", Tls::Off),
            ("mysql://u@db.test/d", Tls::Verify),
            ("mysql://u@192.0.2.1/d", Tls::Verify),
            ("mysql://u@192.0.2.1/d?tls=off", Tls::Off),
            ("mysql://u@127.0.0.1/d?tls=verify", Tls::Verify),
        ] {
            assert_eq!(url(text).tls, tls, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_and_the_password_is_not() {
        for (text, why) in [
            ("mysql://u:s3cret@h", "no database"),
            ("mysql://u:s3cret@h/", "no database"),
            ("mysql://u:s3cret@/d", "no host"),
            ("mysql://:s3cret@h/d", "no user"),
            ("mysql://u:s3cret@h:0/d", "from 1 to 65535"),
            ("mysql://u:s3cret@h:x/d", "from 1 to 65535"),
            ("mysql://u:s3cret@h/d?tls=maybe", "verify, required and off"),
            ("mysql://u:s3cret@h/d?prefix=A-", "a-z"),
            ("mysql://u:s3cret@h/d?ssl=1", "only tls"),
            ("mysql://u:s3cret%zz@h/d", "hexadecimal"),
            ("mysql://u:***@h/d", "masked"),
        ] {
            let error = text.parse::<MysqlUrl>().expect_err(text);
            let sentence = format!("{error} {error:?}");
            assert!(sentence.contains(why), "{sentence}");
            assert!(!sentence.contains("s3cret"), "{sentence}");
        }
    }

    #[test]
    fn an_address_is_shown_without_its_password_and_names_the_same_place() {
        let text = "mysql://u:s3cret@h:3307/d?prefix=x_";
        let shown = url(text).to_string();
        assert_eq!(shown, "mysql://u:***@h:3307/d?prefix=x_");
        assert!(!format!("{:?}", url(text)).contains("s3cret"));
        let other = url("mysql://v@h:3307/d?prefix=x_&tls=off");
        assert!(url(text).is_same_place(&other));
        assert!(!url(text).is_same_place(&url("mysql://u@h:3307/d")));
        assert_eq!(url("mysql://u@h/d").to_string(), "mysql://u@h:3306/d");
        for shown in [
            "mysql://u@h:3306/d?tls=off",
            "mysql://u@localhost:3306/d?tls=verify",
            "mysql://u@h:3306/d?tls=required&tls_ca=/a&prefix=x_",
        ] {
            assert_eq!(url(shown).to_string(), shown);
        }
    }

    #[test]
    fn tables_and_locks_follow_the_prefix_and_the_database() {
        let (own, other) = (url("mysql://u@h/d"), url("mysql://u@h/d?prefix=x_"));
        let sql = "SELECT 1 FROM jetpack_monitor_jobs";
        assert_eq!(own.named(sql), sql);
        assert_eq!(other.named(sql), "SELECT 1 FROM x_jobs");
        let quoted = "UPDATE `jetpack_monitor_sites` s, jetpack_monitor_jobs SET s.`a` = 1";
        assert_eq!(own.named(quoted), quoted);
        assert_eq!(
            other.named(quoted),
            "UPDATE `jetpack_monitor_sites` s, x_jobs SET s.`a` = 1"
        );
        assert_ne!(own.lock_name("writer"), other.lock_name("writer"));
        assert!(own.lock_name("migrate").len() <= 64);
    }
}
