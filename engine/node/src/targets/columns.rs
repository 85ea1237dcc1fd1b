//! Columns of a target list: the header line, and one field of one target each.

use jiff::Timestamp;
use model::suggest::{hint, nearest};
use model::target::Maintenance;
use model::{FieldError, TargetSpec};

macro_rules! columns {
    ($($variant:ident = $name:literal,)*) => {
        /// A column; its name is the name of the field.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Column { $($variant,)* }

        impl Column {
            const NAMES: &'static [&'static str] = &[$($name,)*];

            /// Every column, in the order in which a list is written.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// As a header line has it.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            fn named(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

columns! {
    Id = "id",
    Name = "name",
    GroupId = "group_id",
    Url = "url",
    IntervalS = "interval_s",
    Method = "method",
    Profile = "profile",
    TimeoutMs = "timeout_ms",
    Redirect = "redirect",
    Keyword = "keyword",
    Forbidden = "forbidden",
    Headers = "headers",
    ExpectStatus = "expect_status",
    Send = "send",
    Expect = "expect",
    Maintenance = "maintenance",
    AlertCooldownMin = "alert_cooldown_min",
    MaxLatencyMs = "max_latency_ms",
}

/// Columns of a list without a header line.
pub(crate) const HEADERLESS: [Column; 3] = [Column::Url, Column::IntervalS, Column::Method];

/// Whether the first record of a list is a header line: one of its fields is called `url`; or it
/// has no URL, and a field that is, or nearly is, the name of a column. A header line that is taken
/// for a target would give every column after it another meaning.
pub(crate) fn is_header(fields: &[String]) -> bool {
    let named_url = |field: &String| field.eq_ignore_ascii_case("url");
    let near = |field: &String| nearest(field, Column::NAMES.iter().copied()).is_some();
    let has_url = fields.iter().any(|field| field.contains("://"));
    fields.iter().any(named_url) || (!has_url && fields.iter().any(near))
}

/// The columns of a header line; those of lists may be given several times.
pub(crate) fn header(fields: &[String]) -> Result<Vec<Column>, String> {
    let mut columns = Vec::with_capacity(fields.len());
    for field in fields {
        let name = field.to_ascii_lowercase();
        let Some(column) = Column::named(&name) else {
            let near = hint(&name, Column::NAMES.iter().copied());
            let known = Column::NAMES.join(", ");
            return Err(format!(
                "columns: found {field:?}, accepted are: {known}{near}"
            ));
        };
        let repeatable = matches!(column, Column::Forbidden | Column::Headers | Column::Expect);
        if columns.contains(&column) && !repeatable {
            return Err(format!("columns: found {field:?} twice, accepted is once"));
        }
        columns.push(column);
    }
    if !columns.contains(&Column::Url) {
        let found = fields.join(",");
        return Err(format!(
            "columns: found {found:?}, accepted is a header line with the column url"
        ));
    }
    Ok(columns)
}

/// The target of one record.
pub(crate) fn spec(columns: &[Column], fields: &[String]) -> Result<TargetSpec, FieldError> {
    if fields.len() > columns.len() {
        let accepted = if columns == HEADERLESS {
            "url[,interval_s[,method]], or a header line with the names of the columns".to_owned()
        } else {
            format!("at most {} fields, as in the header line", columns.len())
        };
        return Err(FieldError::new(
            "line",
            &format!("{} fields", fields.len()),
            &accepted,
        ));
    }
    let mut spec = TargetSpec::default();
    for (column, field) in columns
        .iter()
        .zip(fields)
        .filter(|(_, field)| !field.is_empty())
    {
        column.set(&mut spec, field)?;
    }
    Ok(spec)
}

impl Column {
    fn set(self, spec: &mut TargetSpec, text: &str) -> Result<(), FieldError> {
        let owned = || Some(text.to_owned());
        match self {
            Self::Id => spec.id = Some(whole("id", text, "a whole number from 1")?),
            Self::Name => spec.name = owned(),
            Self::GroupId => {
                spec.group_id = Some(whole("group_id", text, "a whole number from 0")?);
            }
            Self::Url => spec.url = url(text)?,
            Self::IntervalS => {
                spec.interval_s = Some(whole("interval_s", text, "seconds, 10 to 86400")?);
            }
            Self::Method => spec.method = owned(),
            Self::Profile => spec.profile = owned(),
            Self::TimeoutMs => {
                spec.timeout_ms = Some(whole("timeout_ms", text, "milliseconds, 100 to 60000")?);
            }
            Self::Redirect => spec.redirect = owned(),
            Self::Keyword => spec.keyword = owned(),
            Self::Forbidden => spec.forbidden.push(text.to_owned()),
            Self::Headers => spec.headers.push(text.to_owned()),
            Self::ExpectStatus => spec.expect_status = owned(),
            Self::Send => spec.send = owned(),
            Self::Expect => spec.expect.push(text.to_owned()),
            Self::Maintenance => spec.maintenance = Some(window(text)?),
            Self::AlertCooldownMin => {
                spec.alert_cooldown_min = Some(whole("alert_cooldown_min", text, "minutes")?);
            }
            Self::MaxLatencyMs => {
                spec.max_latency_ms =
                    Some(whole("max_latency_ms", text, "milliseconds, 1 to 60000")?);
            }
        }
        Ok(())
    }
}

/// A URL in one piece. The URL standard drops tabs and escapes blanks, and so would make one wrong
/// URL of two fields that a tab or a blank separates.
fn url(text: &str) -> Result<String, FieldError> {
    match text.split_once(char::is_whitespace) {
        None => Ok(text.to_owned()),
        // The rest may be any field, a header with a password too.
        Some((url, _)) => Err(FieldError::new(
            "url",
            &format!("{url} …"),
            "a URL without blanks and tabs (%20 is a blank), and ',' before the next field",
        )),
    }
}

fn whole<T: std::str::FromStr>(
    field: &'static str,
    text: &str,
    accepted: &str,
) -> Result<T, FieldError> {
    text.parse()
        .map_err(|_| FieldError::new(field, text, accepted))
}

/// `START/END`, both RFC 3339.
fn window(text: &str) -> Result<Maintenance, FieldError> {
    let refuse = || {
        let accepted = "START/END such as 2026-11-21T01:00:00Z/2026-11-21T02:00:00Z";
        FieldError::new("maintenance", text, accepted)
    };
    let parse = |text: &str| -> Option<u64> {
        let at: Timestamp = text.trim().parse().ok()?;
        u64::try_from(at.as_millisecond()).ok()
    };
    let (start, end) = text.split_once('/').ok_or_else(refuse)?;
    let start_ms = parse(start).ok_or_else(refuse)?;
    Ok(Maintenance {
        start_ms,
        end_ms: parse(end).ok_or_else(refuse)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(line: &str) -> Vec<String> {
        line.split(',').map(ToOwned::to_owned).collect()
    }

    #[test]
    fn every_field_of_a_target_can_be_a_column() {
        let columns = header(&Column::NAMES.map_to_owned()).expect("all known");
        let line = "7,n,9,http://a/,60,GET,full,900,alert,k,f,A: b,200,,,\
                    2026-11-21T01:00:00Z/2026-11-21T02:00:00Z,-1,50";
        let spec = spec(&columns, &fields(line)).expect("valid");
        assert_eq!(
            (spec.id, spec.interval_s, spec.timeout_ms),
            (Some(7), Some(60), Some(900))
        );
        assert_eq!(
            spec.maintenance.map(|w| w.end_ms - w.start_ms),
            Some(3_600_000)
        );
        assert!(spec.parse().is_ok());
    }

    #[test]
    fn a_list_may_have_pages_ports_and_questions() {
        let columns = header(&fields("url,method,send,expect,expect")).expect("all known");
        for (line, refused) in [
            ("dns://a.example?type=MX,,,10 m.example,20 n.example", None),
            ("dns://a.example,,,,", None),
            ("dns://a.example,,,10 m.example,", Some("expect")),
            ("dns://a.example,,x,,", Some("send")),
            ("dns://a.example:53,,,,", Some("url")),
            ("tcp://a:25,,,220,250", Some("expect")),
            (r"tcp://a:25,,EHLO x\r\n,250", None),
            ("http://a/,HEAD,,", None),
            ("tls://a,,,", None),
            ("tcp://a:25,GET,,", Some("method")),
            ("http://a/,,,250", Some("expect")),
        ] {
            let parsed = spec(&columns, &fields(line)).and_then(|spec| spec.parse());
            assert_eq!(parsed.err().map(|error| error.field), refused, "{line}");
        }
    }

    trait MapToOwned {
        fn map_to_owned(&self) -> Vec<String>;
    }

    impl MapToOwned for &[&str] {
        fn map_to_owned(&self) -> Vec<String> {
            self.iter().map(|&text| text.to_owned()).collect()
        }
    }

    #[test]
    fn a_header_is_told_by_its_url_column_or_by_names_without_a_url() {
        assert!(is_header(&fields("name,URL")));
        for typo in ["urls,interval", "id,nmae", "uri", "name,interval_s"] {
            assert!(is_header(&fields(typo)), "{typo}");
        }
        for data in [
            "http://a/,60",
            "a.example,60,GET",
            "nope",
            "http://a/,,name",
            "",
        ] {
            assert!(!is_header(&fields(data)), "{data}");
        }
        assert_eq!(
            header(&fields("url,forbidden,forbidden")).map(|c| c.len()),
            Ok(3)
        );
        assert!(
            header(&fields("url,url"))
                .expect_err("twice")
                .contains("twice")
        );
        let typo = header(&fields("url,intervall_s")).expect_err("unknown");
        assert!(typo.ends_with("did you mean `interval_s`?"), "{typo}");
    }

    #[test]
    fn a_bad_field_is_named() {
        let cases = [
            ("id", "0x7"),
            ("interval_s", "5m"),
            ("timeout_ms", "1.5"),
            ("group_id", "-1"),
            ("maintenance", "tomorrow"),
            ("max_latency_ms", "fast"),
        ];
        for (name, text) in cases {
            let columns = header(&fields(&format!("url,{name}"))).expect("known");
            let error = spec(&columns, &fields(&format!("http://a/,{text}"))).expect_err(name);
            assert_eq!((error.field, error.found.as_str()), (name, text));
        }
    }

    #[test]
    fn a_url_with_a_blank_or_a_tab_in_it_is_refused_and_other_fields_may_have_them() {
        for rest in [" 30", "\t60", "\u{a0}30", " /", "\tAuthorization: Bearer x"] {
            let torn = format!("http://a/b{rest}");
            let error = spec(&HEADERLESS, &[torn]).expect_err(rest);
            assert_eq!((error.field, error.found.as_str()), ("url", "http://a/b …"));
        }
        let columns = header(&fields("url,name,headers,keyword,send")).expect("known");
        let line = "http://a/%20;v=1?q=1;2|3,front page,X-A: b c,two words,";
        let spec = spec(&columns, &fields(line)).expect("valid");
        assert_eq!(spec.url, "http://a/%20;v=1?q=1;2|3");
    }

    #[test]
    fn empty_fields_are_defaults_and_surplus_ones_are_refused() {
        let spec_of = |line: &str| spec(&HEADERLESS, &fields(line));
        assert_eq!(spec_of("http://a/,,HEAD").expect("valid").interval_s, None);
        assert_eq!(
            spec_of("http://a/,60,GET,1").expect_err("surplus").field,
            "line"
        );
    }
}
