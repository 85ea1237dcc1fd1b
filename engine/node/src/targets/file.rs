//! A target list as a stream of valid targets and refused lines.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use model::target::TargetConfig;
use model::{FieldError, TargetId};

use super::columns::{self, Column, HEADERLESS};
use super::lines::Lines;
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

/// A list that is being read.
pub(crate) struct TargetFile<R> {
    name: String,
    lines: Lines<R>,
    columns: Option<Vec<Column>>,
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
            columns: None,
        }
    }

    /// The next target or refused line; `None` at the end.
    ///
    /// # Errors
    /// A file that cannot be read on, and a header line with an unknown column.
    pub(crate) fn next(&mut self) -> anyhow::Result<Option<Result<Row, Refused>>> {
        loop {
            let record = match self.lines.next() {
                Ok(Some(record)) => record,
                Ok(None) => return Ok(None),
                Err(error) => anyhow::bail!("the target list {} broke off: {error}", self.name),
            };
            let line = record.line;
            let fields = match record.fields {
                Ok(fields) => fields,
                Err(error) => return Ok(Some(Err(self.refused(line, error)))),
            };
            let Some(columns) = &self.columns else {
                if columns::is_header(&fields) {
                    self.columns = Some(self.header(line, &fields)?);
                    continue;
                }
                self.columns = Some(HEADERLESS.to_vec());
                return Ok(Some(self.row(line, &HEADERLESS, &fields)));
            };
            return Ok(Some(self.row(line, columns, &fields)));
        }
    }

    fn header(&self, line: u64, fields: &[String]) -> anyhow::Result<Vec<Column>> {
        match columns::header(fields) {
            Ok(columns) => Ok(columns),
            Err(sentence) => bad_input(format!("{}:{line}: {sentence}", self.name)),
        }
    }

    fn row(&self, line: u64, columns: &[Column], fields: &[String]) -> Result<Row, Refused> {
        let parse = || -> Result<Row, FieldError> {
            let spec = columns::spec(columns, fields)?;
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
