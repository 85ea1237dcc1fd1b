//! Finds rows of one list that contradict each other, as a store would while it imports them.
//! Knows the list alone: what a store holds already is not looked at.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use model::FieldError;

use super::file::Row;

/// What the rows so far said.
#[derive(Default)]
pub(crate) struct Doubles {
    /// By URL, method (none without a request) and name.
    by_key: HashMap<String, Said>,
    /// By the ids that the list gives.
    by_id: HashMap<i64, Said>,
}

/// A row that was seen.
#[derive(Clone, Copy)]
struct Said {
    line: u64,
    id: Option<i64>,
    /// Of its whole configuration.
    print: u64,
}

impl Doubles {
    /// Keeps `row` in mind, or says which earlier row it contradicts.
    pub(crate) fn take(&mut self, row: &Row) -> Result<(), FieldError> {
        let config = &row.config;
        let key = format!(
            "{} {} {}",
            config.check,
            config.check.method_word(),
            config.name
        );
        let mut hasher = DefaultHasher::new();
        format!("{config:?}").hash(&mut hasher);
        let said = Said {
            line: row.line,
            id: row.id.map(model::TargetId::get),
            print: hasher.finish(),
        };
        let holder = self.by_key.get(&key).copied();
        let meant = said.id.and_then(|id| self.by_id.get(&id).copied());
        if let (Some(id), Some(holder)) = (said.id, holder)
            && holder.id != Some(id)
        {
            return Err(taken_key(id, holder));
        }
        if let Some(earlier) = holder.or(meant) {
            if earlier.print != said.print {
                return Err(twice(said.id, &config.name, earlier.line));
            }
            return Ok(());
        }
        self.by_key.insert(key, said);
        if let Some(id) = said.id {
            self.by_id.insert(id, said);
        }
        Ok(())
    }
}

fn taken_key(id: i64, holder: Said) -> FieldError {
    let accepted = format!(
        "that of line {}, which has this URL, method and name already: give both lines one id, or \
         this one another name",
        holder.line
    );
    FieldError::new("id", &id.to_string(), &accepted)
}

/// Of rows with ids none that comes here has the key of a row with another id: it is the id that
/// they share, whatever else.
fn twice(id: Option<i64>, name: &str, line: u64) -> FieldError {
    if let Some(id) = id {
        let accepted = format!(
            "an id used once, and line {line} has it: give this row an id of its own, or remove it"
        );
        return FieldError::new("id", &id.to_string(), &accepted);
    }
    let accepted = format!(
        "one row per URL, method and name in one list, and line {line} is another one: give this \
         row a name of its own, or remove it"
    );
    FieldError::new("name", name, &accepted)
}

#[cfg(test)]
mod tests {
    use super::super::file::TargetFile;
    use super::*;

    /// Lines that contradict earlier ones, with the field that is named.
    fn doubles(text: &str) -> Vec<(u64, &'static str)> {
        let mut file = TargetFile::new("t.csv", text.as_bytes());
        let (mut doubles, mut found) = (Doubles::default(), Vec::new());
        while let Some(next) = file.next().expect("readable") {
            let row = next.expect("a good line");
            if let Err(error) = doubles.take(&row) {
                found.push((row.line, error.field));
            }
        }
        found
    }

    #[test]
    fn equal_rows_and_other_names_or_methods_are_no_contradiction() {
        let text = "id,url,method,name,interval_s\n1,http://a/,,,60\n1,http://a/,,,60\n\
                    ,http://a/,HEAD,,30\n,http://a/,,x,30\n,http://b/,,,\n,http://b/,,,\n";
        assert_eq!(doubles(text), []);
    }

    #[test]
    fn another_row_for_a_key_or_an_id_and_another_id_for_a_key_are_found() {
        let text = "id,url,interval_s\n1,http://a/,60\n,http://a/,30\n1,http://b/,60\n\
                    2,http://a/,60\n,http://c/,\n3,http://c/,\n1,http://a/,30\n";
        let found = [(3, "name"), (4, "id"), (5, "id"), (7, "id"), (8, "id")];
        assert_eq!(doubles(text), found);
    }
}
