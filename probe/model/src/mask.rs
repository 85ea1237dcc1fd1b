//! What of a text may be shown and logged: credentials become `***`. It must not know where the
//! text came from, nor whether it is valid: what was refused is shown too.

use std::borrow::Cow;

/// Stands for what is not shown.
const MASK: &str = "***";

/// Header names with one of these words in them carry credentials.
const SECRET: [&str; 5] = ["authorization", "cookie", "token", "secret", "key"];

/// `text`, taken for a URL, without its user name and password.
pub fn userinfo(text: &str) -> Cow<'_, str> {
    let text = text.trim();
    let start = authority(text);
    let rest = &text[start..];
    let end = rest.find(['/', '\\', '?', '#']).unwrap_or(rest.len());
    let at = rest[..end].rfind('@').or_else(|| {
        // A password with a slash in it is no URL, but is one that somebody typed.
        let (_, port) = rest[..end].split_once(':')?;
        let is_port = port.bytes().all(|byte| byte.is_ascii_digit());
        (!is_port && !rest.starts_with('[')).then(|| rest.rfind('@'))?
    });
    match at {
        Some(at) => Cow::Owned(format!("{}{MASK}{}", &text[..start], &rest[at..])),
        None => Cow::Borrowed(text),
    }
}

/// Where user name and host begin: after `scheme:` and its slashes, as many as there are.
fn authority(text: &str) -> usize {
    let scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    let Some((name, rest)) = text.split_once(':') else {
        return 0;
    };
    let is_web = ["http", "https"].contains(&name.to_ascii_lowercase().as_str());
    if !name.bytes().all(scheme) || !(is_web || rest.starts_with(['/', '\\'])) {
        return 0;
    }
    text.len() - rest.trim_start_matches(['/', '\\']).len()
}

/// The line of a header, `Name: value`, well formed or not, without a value that is a secret.
pub fn header(line: &str) -> Cow<'_, str> {
    let line = line.trim();
    let end = line.find(':').unwrap_or(line.len());
    let has_colon = end < line.len();
    if has_colon && !is_secret(&line[..end]) {
        return Cow::Borrowed(line);
    }
    // What follows the first word of a name may be the value already.
    let word = line[..end].split_whitespace().next().unwrap_or_default();
    if word.len() == line.len() {
        return Cow::Borrowed(line);
    }
    let colon = if word.len() == end { ":" } else { "" };
    Cow::Owned(format!("{word}{colon} {MASK}"))
}

/// The value of the header `name`, unless it is a secret.
pub fn header_value<'a>(name: &str, value: &'a str) -> &'a str {
    if is_secret(name) { MASK } else { value }
}

/// Whether a header called `name` carries credentials, by the words in its name.
pub fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET.iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_user_name_and_password() {
        for (given, shown) in [
            ("https://u:p@a.example/x?y#z", "https://***@a.example/x?y#z"),
            ("https://u:p@ss@a.example/", "https://***@a.example/"),
            ("HTTP:u:p@a.example", "HTTP:***@a.example"),
            ("http:\\\\u:p@a.example\\x", "http:\\\\***@a.example\\x"),
            ("http:///u@a b/", "http:///***@a b/"),
            ("ftp://u:p@a.example/", "ftp://***@a.example/"),
            ("u:p@a.example/x", "***@a.example/x"),
            ("http://u:p/w@a.example/", "http://***@a.example/"),
            (" http://u@a.example ", "http://***@a.example"),
        ] {
            assert_eq!(userinfo(given), shown);
        }
    }

    #[test]
    fn a_url_without_them_is_shown_as_it_is() {
        for given in [
            "https://a.example/@user",
            "https://a.example:99999/@user?m=x@y",
            "http://[::1]:80/a@b",
            "a.example",
            "nope",
            "",
        ] {
            assert_eq!(userinfo(given), given);
        }
    }

    #[test]
    fn a_header_is_shown_without_its_secret_however_it_is_written() {
        for (given, shown) in [
            ("Authorization: Basic dTpw", "Authorization: ***"),
            ("authorization : Basic dTpw", "authorization ***"),
            ("Authorization Bearer abc", "Authorization ***"),
            ("Authorization Basic u:p", "Authorization ***"),
            ("X-Api-Key:1", "X-Api-Key: ***"),
            ("Bearer abc", "Bearer ***"),
            ("Host: x", "Host: x"),
            ("33", "33"),
            ("", ""),
        ] {
            assert_eq!(header(given), shown);
        }
        assert_eq!(header_value("Set-Cookie", "a=b"), "***");
        assert_eq!(header_value("X-Env", "test"), "test");
    }
}
