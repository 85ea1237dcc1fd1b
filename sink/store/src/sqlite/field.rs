//! The values of SQLite as the columns of a target have them, and back.

use rusqlite::types::ValueRef;

use crate::columns::Field;

pub(super) fn field(value: ValueRef<'_>) -> Field<'_> {
    match value {
        ValueRef::Null => Field::Null,
        ValueRef::Integer(number) => Field::Whole(number),
        ValueRef::Text(bytes) => Field::Text(bytes),
        ValueRef::Real(_) => Field::Other("Real"),
        ValueRef::Blob(_) => Field::Other("Blob"),
    }
}

/// What none of our columns holds is never written: it becomes NULL.
pub(super) fn value(field: Field<'_>) -> ValueRef<'_> {
    match field {
        Field::Null | Field::Other(_) => ValueRef::Null,
        Field::Whole(number) => ValueRef::Integer(number),
        Field::Text(bytes) => ValueRef::Text(bytes),
    }
}
