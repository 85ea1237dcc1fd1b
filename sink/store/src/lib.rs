//! Facts, targets and freshness in a database.
