//! Lists whose fields are not separated by commas, told from URLs that have such characters in
//! them: read as commas they would make a wrong target of every line. Knows single records only.

use model::FieldError;
use model::target::Method;

use super::columns::is_header;

/// What spreadsheets and tools write in place of the comma.
const OTHERS: [char; 3] = [';', '\t', '|'];

/// The separator of a header line that is written without commas.
pub(crate) fn of_header(fields: &[String]) -> Option<char> {
    if fields.iter().any(|field| field.contains("://")) {
        return None;
    }
    let names_columns = |other: &char| {
        let words = fields.iter().flat_map(|field| words(field, *other));
        let words: Vec<String> = words.map(ToOwned::to_owned).collect();
        words.len() > fields.len() && is_header(&words)
    };
    OTHERS.into_iter().find(names_columns)
}

/// Refuses a record of a list without a header line whose one field is such a record itself:
/// `url;interval_s;method`. Whoever has a URL that ends like that says so by a header line.
pub(crate) fn refuse_other(fields: &[String]) -> Result<(), FieldError> {
    match of_header(fields).or_else(|| of_target(fields)) {
        None => Ok(()),
        Some(other) => {
            let accepted = format!(
                "',' between fields and not {other:?}; a URL that ends like this needs a list with \
                 the header line url"
            );
            Err(FieldError::new("url", &fields.join(","), &accepted))
        }
    }
}

fn of_target(fields: &[String]) -> Option<char> {
    let [field] = fields else { return None };
    let is_target = |other: &char| match words(field, *other).collect::<Vec<_>>()[..] {
        [_, interval] | [_, interval, ""] => is_number(interval),
        [_, "", method] => method.parse::<Method>().is_ok(),
        [_, interval, method] => is_number(interval) && method.parse::<Method>().is_ok(),
        _ => false,
    };
    OTHERS.into_iter().find(is_target)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// What `other` separates, without blanks and quotes around it.
fn words(field: &str, other: char) -> impl Iterator<Item = &str> {
    field
        .split(other)
        .map(|word| word.trim().trim_matches('"').trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(line: &str) -> Vec<String> {
        line.split(',')
            .map(|field| field.trim().to_owned())
            .collect()
    }

    #[test]
    fn a_header_line_with_another_separator_is_told_by_its_names() {
        for (line, other) in [
            ("url;interval_s", Some(';')),
            ("URL ; Interval_S ; comment", Some(';')),
            ("url;\"interval_s\"", Some(';')),
            ("name;url,x;id", Some(';')),
            ("url\tinterval_s", Some('\t')),
            ("id|url|method", Some('|')),
            ("url,interval_s", None),
            ("url", None),
            ("a;b", None),
            ("http://a/;url", None),
            ("http://a/x;name=url", None),
        ] {
            assert_eq!(of_header(&fields(line)), other, "{line}");
        }
    }

    #[test]
    fn a_record_with_another_separator_is_told_from_a_url_that_has_such_characters() {
        for record in [
            "http://a/x;60",
            "http://a/x ; 60",
            "http://a/x;\"60\"",
            "http://a/x;60;HEAD",
            "http://a/x;;get",
            "http://a/x;60;",
            "http://a/x|60",
            "http://a/x\t60",
            "url;interval_s",
        ] {
            let error = refuse_other(&fields(record)).expect_err(record);
            assert_eq!((error.field, error.found.as_str()), ("url", record));
        }
        for url in [
            "http://a/x;v=1",
            "http://a/x;jsessionid=0A1;y",
            "http://a/x;",
            "http://a/x;;",
            "http://a/;60/x",
            "http://a/?a=1;b=2",
            "http://a/?ids=1;2;3",
            "http://a/?a|b",
            "http://a/x;60,",
            "http://a/x;60,300",
            "http://a/",
            "",
        ] {
            assert_eq!(refuse_other(&fields(url)), Ok(()), "{url}");
        }
    }
}
