//! Pure parts of this crate for its benches, and for nobody else. No promise is made for any of it.

use crate::legacy::Legacy;
use crate::mysql::{MysqlUrl, freshness};

/// The statement that writes so many rows of freshness into our own table of the server at `url`.
pub fn freshness_text(url: &MysqlUrl, rows: usize) -> String {
    freshness::text(url, rows)
}

/// The statement that writes so many rows of freshness into columns of a legacy table.
pub fn legacy_freshness_text(legacy: &Legacy, rows: usize) -> String {
    freshness::legacy_text(legacy, rows)
}
