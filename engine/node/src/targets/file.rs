//! A target list as a stream of valid targets and refused lines.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use model::target::TargetConfig;
use model::{FieldError, TargetId, TargetSpec};

use super::columns::{self, Column, HEADERLESS};
use super::lines::{Broken, Lines};
use super::separator;
use crate::exit::bad_input;

/// A valid target and the line it stands in.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// From 1.
    pub(crate) line: u64,
    /// Its id when the list has ids.
    pub(crate) id: Option<TargetId>,
    /// What its owner configures.
    pub(crate) config: TargetConfig,
}

/// A refused line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Name of the file as it was given.
    pub(crate) file: String,
    /// From 1.
    pub(crate) line: u64,
    /// Which field and why.
    pub(crate) error: FieldError,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.error)
    }
}

/// What the first record of a list says about all of them.
enum Form {
    /// There is no header line: `url[,interval_s[,method]]`.
    Headerless,
    /// As the header line names the fields.
    Headed(Vec<Column>),
}

impl Form {
    fn spec(&self, fields: &[String]) -> Result<TargetSpec, FieldError> {
        match self {
            Self::Headerless => {
                separator::refuse_other(fields)?;
                columns::spec(&HEADERLESS, fields)
            }
            Self::Headed(columns) => columns::spec(columns, fields),
        }
    }
}

/// A list that is being read.
pub(crate) struct TargetFile<R> {
    name: String,
    lines: Lines<R>,
    form: Option<Form>,
}

impl TargetFile<BufReader<File>> {
    /// Opens the list at `path`.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        match File::open(path) {
            Ok(file) => Ok(Self::new(&name, BufReader::with_capacity(1 << 20, file))),
            Err(error) => bad_input(format!(
                "the target list {name} cannot be read ({error}): check the path and its rights"
            )),
        }
    }
}

impl<R: BufRead> TargetFile<R> {
    /// The list in `reader`, called `name` in messages.
    pub(crate) fn new(name: &str, reader: R) -> Self {
        Self {
            name: name.to_owned(),
            lines: Lines::new(reader),
            form: None,
        }
    }

    /// The next target or refused line; `None` at the end.
    ///
    /// # Errors
    /// A file that cannot be read on or is in UTF-16, a header line with an unknown column or
    /// another separator, and a first line that is no record.
    pub(crate) fn next(&mut self) -> anyhow::Result<Option<Result<Row, Refused>>> {
        loop {
            let record = match self.lines.next() {
                Ok(Some(record)) => record,
                Ok(None) => return Ok(None),
                Err(Broken::Utf16) => return self.refuse_whole(1, &Broken::Utf16.to_string()),
                Err(Broken::Io(error)) => {
                    anyhow::bail!("the target list {} broke off: {error}", self.name)
                }
            };
            let line = record.line;
            let fields = match record.fields {
                Ok(fields) => fields,
                // It may be the header line, without which the others mean something else.
                Err(error) if self.form.is_none() => {
                    return self.refuse_whole(line, &error.to_string());
                }
                Err(error) => return Ok(Some(Err(self.refused(line, error)))),
            };
            if let Some(form) = &self.form {
                return Ok(Some(self.row(line, form, &fields)));
            }
            let Some(columns) = self.header(line, &fields)? else {
                self.form = Some(Form::Headerless);
                return Ok(Some(self.row(line, &Form::Headerless, &fields)));
            };
            self.form = Some(Form::Headed(columns));
        }
    }

    /// The columns of the first record, if it is a header line.
    fn header(&self, line: u64, fields: &[String]) -> anyhow::Result<Option<Vec<Column>>> {
        if let Some(other) = separator::of_header(fields) {
            let sentence = format!("separator: found {other:?}, accepted is ','");
            return self.refuse_whole(line, &sentence);
        }
        if !columns::is_header(fields) {
            return Ok(None);
        }
        match columns::header(fields) {
            Ok(columns) => Ok(Some(columns)),
            Err(sentence) => self.refuse_whole(line, &sentence),
        }
    }

    /// No line of the list can be trusted.
    fn refuse_whole<T>(&self, line: u64, sentence: &str) -> anyhow::Result<T> {
        bad_input(format!("{}:{line}: {sentence}", self.name))
    }

    fn row(&self, line: u64, form: &Form, fields: &[String]) -> Result<Row, Refused> {
        let parse = || -> Result<Row, FieldError> {
            let spec = form.spec(fields)?;
            let id = match spec.id {
                None => None,
                Some(raw) => Some(TargetId::new(raw).ok_or_else(|| {
                    FieldError::new("id", &raw.to_string(), "a whole number from 1")
                })?),
            };
            Ok(Row {
                line,
                id,
                config: spec.parse()?,
            })
        };
        parse().map_err(|error| self.refused(line, error))
    }

    /// A refusal of `line`.
    pub(crate) fn refused(&self, line: u64, error: FieldError) -> Refused {
        Refused {
            file: self.name.clone(),
            line,
            error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> anyhow::Result<(Vec<Row>, Vec<String>)> {
        let mut file = TargetFile::new("t.csv", text.as_bytes());
        let (mut rows, mut refused) = (Vec::new(), Vec::new());
        while let Some(next) = file.next()? {
            match next {
                Ok(row) => rows.push(row),
                Err(line) => refused.push(line.to_string()),
            }
        }
        Ok((rows, refused))
    }

    #[test]
    fn a_bad_line_is_refused_with_its_place_and_the_rest_is_read() {
        let text = "# my sites\nhttp://a.example/\nftp://b.example/\nhttp://c.example/,5\n\
                    http://d.example/,60,HEAD\n";
        let (rows, refused) = read(text).expect("readable");
        assert_eq!(rows.iter().map(|row| row.line).collect::<Vec<_>>(), [2, 5]);
        assert_eq!(
            refused,
            [
                "t.csv:3: url: found \"ftp://b.example/\", accepted is a URL that starts with \
                 http://, https://, tcp://, tls:// or dns://",
                "t.csv:4: interval_s: found \"5\", accepted is 10 to 86400",
            ]
        );
    }

    #[test]
    fn a_header_names_the_columns_in_any_order() {
        let text = "\n# c\ninterval_s,url,id\n60,http://a.example/,7\n,http://b.example/,-3\n";
        let (rows, refused) = read(text).expect("readable");
        assert_eq!(
            (rows[0].id.map(TargetId::get), rows[0].config.interval_s),
            (Some(7), 60)
        );
        assert_eq!(
            refused,
            ["t.csv:5: id: found \"-3\", accepted is a whole number from 1"]
        );
    }

    /// Lesson: without its header line the rest was read as `url, interval_s`, and loaded.
    #[test]
    fn a_header_line_that_is_no_record_refuses_the_whole_list() {
        let rest = b"\nhttp://a.example/,500\n";
        for header in [&b"url,\"timeout_ms"[..], b"url,timeout_ms,\xe9"] {
            let text = [header, rest].concat();
            let mut file = TargetFile::new("t.csv", &text[..]);
            let refused = file.next().expect_err("as a whole").to_string();
            assert!(refused.starts_with("t.csv:1: "), "{refused}");
        }
    }

    #[test]
    fn a_header_without_the_column_url_is_refused_and_not_read_as_a_target() {
        let refused = |text| read(text).expect_err("no header").to_string();
        let typo = refused("# c\nurls,interval\nhttp://a.example/,60\n");
        assert!(
            typo.starts_with("t.csv:2: columns: found \"urls\""),
            "{typo}"
        );
        assert!(typo.ends_with("did you mean `url`?"), "{typo}");
        let without = "t.csv:1: columns: found \"name,interval_s\", accepted is a header line with \
                       the column url";
        assert_eq!(refused("name,interval_s\nhttp://a.example/,60\n"), without);
    }

    #[test]
    fn a_list_with_another_separator_loads_no_wrong_target() {
        let refused = |text: &str| read(text).expect_err("another separator").to_string();
        for (header, other) in [
            ("url;interval_s", "';'"),
            ("url\tinterval_s", "'\\t'"),
            ("\"url\"|\"interval_s\"", "'|'"),
        ] {
            let said = format!("t.csv:2: separator: found {other}, accepted is ','");
            assert_eq!(refused(&format!("# c\n{header}\nhttp://a/\n")), said);
        }
        let headerless = "http://h/a;60\nhttp://h/a;60;HEAD\n\"http://h/a\";\"60\"\n\
                          http://h/a\t60\nhttp://h/b 30\nhttp://h/c|60\nurl;interval_s\n";
        let (rows, lines) = read(headerless).expect("readable");
        assert_eq!((rows.len(), lines.len()), (0, 7));
        assert_eq!(
            lines[0],
            "t.csv:1: url: found \"http://h/a;60\", accepted is ',' between fields and not ';'; a \
             URL that ends like this needs a list with the header line url"
        );
    }

    #[test]
    fn urls_with_such_characters_in_them_stay_legal() {
        let headerless = " http://h/a;v=1 , 60 \nhttp://h/?a=1;b=2\nhttp://h/a;60,60\n\
                          \" http://h/x;y,z \",60\n# a;60\nhttp://h/?x|y\n";
        let headed = "url,headers,name\nhttp://h/a;60,X-A: b; c d,my shop; 60\nhttp://h/b|60,,\n";
        for (text, urls) in [
            (
                headerless,
                &["/a;v=1", "/?a=1;b=2", "/a;60", "/x;y,z", "/?x|y"][..],
            ),
            (headed, &["/a;60", "/b|60"][..]),
            ("url\nhttp://h/a;60\n", &["/a;60"][..]),
        ] {
            let (rows, refused) = read(text).expect("readable");
            assert_eq!(refused, Vec::<String>::new());
            let read: Vec<String> = rows
                .iter()
                .map(|row| row.config.check.to_string())
                .collect();
            let urls: Vec<String> = urls.iter().map(|path| format!("http://h{path}")).collect();
            assert_eq!(read, urls);
        }
    }

    #[test]
    fn a_list_in_utf_16_is_refused_with_what_to_do() {
        let text = "\u{feff}url\tinterval_s\r\nhttp://a.example/\t60\r\n";
        let said = "t.csv:1: found UTF-16 text, accepted is UTF-8: save the list as \"CSV UTF-8\"";
        for bytes_of in [u16::to_le_bytes, u16::to_be_bytes] {
            let bytes: Vec<u8> = text.encode_utf16().flat_map(bytes_of).collect();
            let mut file = TargetFile::new("t.csv", &bytes[..]);
            let error = file.next().expect_err("not UTF-8");
            assert!(error.is::<crate::exit::BadInput>());
            assert_eq!(error.to_string(), said);
        }
    }

    #[test]
    fn every_list_of_the_guide_is_read_without_a_refusal() {
        let guide = include_str!("../../../../docs/guide.md");
        let (_, section) = guide.split_once("## Target lists").expect("the section");
        let (section, _) = section.split_once("\n## ").expect("the next one");
        let blocks = section.split("```\n").skip(1).step_by(2);
        let mut headers = 0;
        for list in blocks.filter(|block| block.starts_with("url")) {
            let (rows, refused) = read(list).expect("readable");
            assert_eq!(refused, Vec::<String>::new(), "{list}");
            assert!(!rows.is_empty(), "{list}");
            let of = |row: &Row| match &row.config.check {
                model::Check::Http(page) => page.headers.len(),
                _ => 0,
            };
            headers = rows.iter().map(of).fold(headers, usize::max);
        }
        assert_eq!(headers, 2, "one list shows how several headers are given");
    }

    #[test]
    fn an_unknown_column_refuses_the_file() {
        let error = read("url,metod\nhttp://a/,GET")
            .expect_err("unknown column")
            .to_string();
        assert!(
            error.starts_with("t.csv:1: columns: found \"metod\""),
            "{error}"
        );
        assert!(error.ends_with("did you mean `method`?"), "{error}");
    }
}
