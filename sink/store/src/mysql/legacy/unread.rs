//! Settings of legacy rows that older systems have and ringwatch does not follow. Counted a slice
//! at a time, by the key of their table, so that they can be told.

use mysql_async::Value;

use super::super::session::{Session, read};
use super::super::targets::whole;
use super::settings_table;
use crate::Result;
use crate::answer::UnreadSlice;
use crate::legacy::{Legacy, Name};

/// What asks for another history than the node's.
const COLUMN: &str = "check_history_mode";

const HAS_COLUMN: &str = "SELECT COUNT(*) FROM information_schema.columns \
    WHERE table_schema = DATABASE() AND table_name = ? AND column_name = ?";

impl Session {
    /// Looks at the next `limit` rows of settings after the key `after`: of blogs, or of targets.
    pub(crate) async fn legacy_unread(
        &mut self,
        of_blogs: bool,
        after: u64,
        limit: usize,
    ) -> Result<UnreadSlice> {
        let legacy = self.named_legacy()?;
        let none = UnreadSlice::default();
        let Some((table, key)) = table(&legacy, of_blogs) else {
            return Ok(none);
        };
        if let Some(named) = named(&legacy, of_blogs) {
            let names = [named.as_str(), COLUMN].map(Value::from);
            if self.number(HAS_COLUMN, names.into()).await? == Some(0) {
                return Ok(none);
            }
        }
        let place = vec![Value::UInt(after), Value::Int(whole(limit))];
        let Some(row) = self.ask(&slice(&table, key), place).await?.pop() else {
            return Ok(none);
        };
        let (last, rows): (Option<u64>, Option<u64>) = read(self.url(), row)?;
        Ok(UnreadSlice {
            rows: rows.unwrap_or(0),
            last,
        })
    }
}

/// The table of settings of targets or of blogs, and its key; of blogs there need be none.
fn table(legacy: &Legacy, of_blogs: bool) -> Option<(String, &'static str)> {
    if of_blogs {
        return Some((legacy.blog_config_table.as_ref()?.quoted(), "blog_id"));
    }
    Some((settings_table(legacy), "source_site_id"))
}

/// Its name, where it is somebody else's table.
fn named(legacy: &Legacy, of_blogs: bool) -> Option<&Name> {
    if of_blogs {
        return legacy.blog_config_table.as_ref();
    }
    legacy.config_table.as_ref()
}

/// An empty word says nothing, as in the other settings.
fn slice(table: &str, key: &str) -> String {
    format!(
        "SELECT CAST(MAX(p.id) AS UNSIGNED), CAST(SUM(p.has) AS UNSIGNED) \
         FROM (SELECT {key} AS id, COALESCE({COLUMN}, '') <> '' AS has FROM {table} \
         WHERE {key} > ? ORDER BY {key} LIMIT ?) AS p"
    )
}
