//! DNS records as checks ask for them: types, and values in one written form, so that what is
//! expected and what came are compared as texts. Both are made of the same [`Field`]s: two values
//! are written alike exactly when they are the same.

mod written;

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::limits::RECORD_MAX_BYTES;
use crate::target::FieldError;

macro_rules! record_types {
    ($($(#[$mark:meta])? $variant:ident = $number:literal, $word:literal, $form:literal;)*) => {
        /// A type of records that can be asked for.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum RecordType {
            $(
                #[doc = concat!("`", $word, "`, written as `", $form, "`")]
                $(#[$mark])?
                $variant = $number,
            )*
        }

        impl RecordType {
            /// Every type, by its number.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its word, in capitals.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// How its values are written.
            fn form(self) -> &'static str {
                match self { $(Self::$variant => $form,)* }
            }
        }
    };
}

record_types! {
    #[default]
    A = 1, "A", "192.0.2.1";
    Ns = 2, "NS", "ns.example.com";
    Cname = 5, "CNAME", "www.example.com";
    Soa = 6, "SOA", "ns.example.com admin.example.com 1 7200 3600 86400 300";
    Ptr = 12, "PTR", "host.example.com";
    Mx = 15, "MX", "10 mail.example.com";
    Txt = 16, "TXT", "v=spf1 -all, or \"v=spf1 \" \"-all\"";
    Aaaa = 28, "AAAA", "2001:db8::1";
    Srv = 33, "SRV", "0 5 5060 sip.example.com";
    Caa = 257, "CAA", "0 issue \"ca.example\"";
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl RecordType {
    /// The type called `word`, in any case.
    pub fn named(word: &str) -> Option<Self> {
        let is_named = |kind: &&Self| kind.as_str().eq_ignore_ascii_case(word);
        Self::ALL.iter().find(is_named).copied()
    }

    /// Its number in messages (IANA).
    pub fn number(self) -> u16 {
        self as u16
    }
}

/// One field of a value, as a message has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    /// An address.
    Address(IpAddr),
    /// A number without needless zeros.
    Number(u32),
    /// The labels of a name, the leftmost first; the root has none. Capitals do not count.
    Name(Vec<Cow<'a, [u8]>>),
    /// A word; capitals do not count.
    Word(Cow<'a, [u8]>),
    /// The strings of a text, joined; in quotes only where it could be misread without them.
    Text(Cow<'a, [u8]>),
    /// A text that is always in quotes.
    Quoted(Cow<'a, [u8]>),
}

/// The value of a record, on one line: numbers without needless zeros, names in lower case and
/// without their last dot, the strings of a text in one piece; what could be misread is escaped as
/// in zone files (RFC 1035 §5.1).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordValue(String);

impl RecordValue {
    /// The value that has these fields.
    pub fn of(fields: &[Field<'_>]) -> Self {
        let mut text = String::new();
        for (at, field) in fields.iter().enumerate() {
            if at > 0 {
                text.push(' ');
            }
            written::write(field, &mut text);
        }
        Self(text)
    }

    /// The value of a record of type `kind` as somebody wrote it.
    ///
    /// # Errors
    /// [`FieldError`] for the field `expect` when it is no value of that type, or longer than
    /// [`RECORD_MAX_BYTES`].
    pub fn parse(kind: RecordType, text: &str) -> Result<Self, FieldError> {
        let refuse = |accepted: &str| FieldError::new("expect", text, accepted);
        let fields = fields(kind, text.trim()).ok_or_else(|| {
            let (kind, form) = (kind.as_str(), kind.form());
            refuse(&format!("values of type {kind} such as {form}"))
        })?;
        let value = Self::of(&fields);
        // Its own form counts too: it is what is kept, and read again.
        if text.len().max(value.0.len()) > RECORD_MAX_BYTES {
            return Err(refuse("at most 1024 bytes"));
        }
        Ok(value)
    }

    /// The written form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RecordValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The fields of a value as people write it, in the form of zone files.
fn fields(kind: RecordType, text: &str) -> Option<Vec<Field<'_>>> {
    let mut words = text.split_ascii_whitespace();
    let mut word = || words.next();
    let fields = match kind {
        RecordType::Txt => return Some(vec![Field::Text(written::text(text)?)]),
        RecordType::Caa => return property(text),
        RecordType::A => vec![Field::Address(word()?.parse::<Ipv4Addr>().ok()?.into())],
        RecordType::Aaaa => vec![Field::Address(word()?.parse::<Ipv6Addr>().ok()?.into())],
        RecordType::Ns | RecordType::Cname | RecordType::Ptr => vec![name(word()?)?],
        RecordType::Mx => vec![small(word()?)?, name(word()?)?],
        RecordType::Srv => {
            let (priority, weight) = (small(word()?)?, small(word()?)?);
            vec![priority, weight, small(word()?)?, name(word()?)?]
        }
        RecordType::Soa => {
            let mut fields = vec![name(word()?)?, name(word()?)?];
            for _ in 0..5 {
                fields.push(Field::Number(word()?.parse().ok()?));
            }
            fields
        }
    };
    words.next().is_none().then_some(fields)
}

/// `flags tag "value"` of a CAA record; the quotes may be left out.
fn property(text: &str) -> Option<Vec<Field<'_>>> {
    let (flags, rest) = text.split_once(char::is_whitespace)?;
    let (tag, value) = rest.trim_start().split_once(char::is_whitespace)?;
    let flags: u8 = flags.parse().ok()?;
    let is_tag = !tag.is_empty() && tag.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let value = written::text(value.trim_start())?;
    is_tag.then(|| {
        let tag = Field::Word(Cow::Borrowed(tag.as_bytes()));
        vec![Field::Number(flags.into()), tag, Field::Quoted(value)]
    })
}

fn small(word: &str) -> Option<Field<'_>> {
    let number: u16 = word.parse().ok()?;
    Some(Field::Number(number.into()))
}

fn name(word: &str) -> Option<Field<'_>> {
    written::labels(word).map(Field::Name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(kind: RecordType, text: &str) -> Option<String> {
        RecordValue::parse(kind, text).ok().map(|value| value.0)
    }

    #[test]
    fn values_have_one_written_form_which_is_read_as_itself() {
        use RecordType as T;
        for (kind, text, form) in [
            (T::A, " 192.0.2.1 ", "192.0.2.1"),
            (T::Aaaa, "2001:DB8:0:0::1", "2001:db8::1"),
            (T::Ns, "NS.Example.com.", "ns.example.com"),
            (T::Ns, "b\u{fc}cher.example", "xn--bcher-kva.example"),
            (T::Cname, "_x.example.com", "_x.example.com"),
            (T::Mx, "010  Mail.Example.com.", "10 mail.example.com"),
            (T::Mx, "0 .", "0 ."),
            (T::Srv, "0 5 5060 Sip.test.", "0 5 5060 sip.test"),
            (T::Soa, r"a. J\.Doe.b. 1 2 3 4 05", r"a j\.doe.b 1 2 3 4 5"),
            (T::Ptr, "host.example.com", "host.example.com"),
            (T::Txt, "v=spf1 -all", "v=spf1 -all"),
            (T::Txt, r#""v=spf1 " "-all""#, "v=spf1 -all"),
            (T::Txt, r#""v=DKIM1\; p=""#, "v=DKIM1; p="),
            (T::Txt, r"a\b", r"a\b"),
            (T::Txt, "a\tB", r#""a\009B""#),
            (T::Txt, r#""\"a\"""#, r#""\"a\"""#),
            (T::Txt, r#"" a""#, r#"" a""#),
            (T::Txt, r#""""#, r#""""#),
            (T::Caa, "0 Issue ca.example", r#"0 issue "ca.example""#),
            (T::Caa, r#"128 iodef "m:a@b""#, r#"128 iodef "m:a@b""#),
            (T::Caa, r#"0 issue ";""#, r#"0 issue ";""#),
        ] {
            assert_eq!(written(kind, text).as_deref(), Some(form), "{kind} {text}");
            assert_eq!(written(kind, form).as_deref(), Some(form), "{kind} {form}");
        }
        for kind in RecordType::ALL {
            let example = kind.form().split(", or ").next().unwrap_or_default();
            assert!(written(*kind, example).is_some(), "{example}");
        }
    }

    #[test]
    fn what_is_no_value_of_its_type_is_refused_with_an_example() {
        use RecordType as T;
        for (kind, text) in [
            (T::A, "2001:db8::1"),
            (T::A, "example.com"),
            (T::A, "192.0.2.1 192.0.2.2"),
            (T::Aaaa, "192.0.2.1"),
            (T::Ns, ""),
            (T::Ns, "a..b"),
            (T::Ns, "a.example b.example"),
            (T::Mx, "mail.example.com"),
            (T::Mx, "70000 mail.example.com"),
            (T::Srv, "0 5 sip.example.com"),
            (T::Soa, "a. b. 1 2 3 4"),
            (T::Caa, "issue ca.example"),
            (T::Caa, "256 issue ca.example"),
            (T::Caa, "0 is-sue ca.example"),
            (T::Txt, "\"a"),
            (T::Txt, "\"a\" b"),
            (T::Txt, ""),
        ] {
            let error = RecordValue::parse(kind, text).expect_err(text);
            let example = format!("values of type {kind} such as {}", kind.form());
            assert_eq!((error.field, error.accepted), ("expect", example), "{text}");
        }
    }

    #[test]
    fn what_is_kept_has_a_limit() {
        let most = "x".repeat(RECORD_MAX_BYTES);
        assert!(written(RecordType::Txt, &most).is_some());
        // The second one is longer once it is written as it is kept.
        let grown = "\t".repeat(RECORD_MAX_BYTES / 4) + "x";
        for text in [most + "x", format!("x{grown}")] {
            let refused = RecordValue::parse(RecordType::Txt, &text).expect_err("too long");
            assert_eq!(refused.accepted, "at most 1024 bytes");
        }
    }

    #[test]
    fn types_are_known_by_their_words_and_numbers() {
        for &kind in RecordType::ALL {
            assert_eq!(RecordType::named(&kind.as_str().to_lowercase()), Some(kind));
        }
        assert_eq!(RecordType::named("AXFR"), None);
        assert_eq!(
            (RecordType::Caa.number(), RecordType::default()),
            (257, RecordType::A)
        );
    }
}
