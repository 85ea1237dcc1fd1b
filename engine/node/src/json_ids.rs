//! Ids in JSON: text above 2⁵³, where numbers of other languages lose digits.

use serde_json::Value;

/// Largest whole number that a double holds exactly.
const SAFE_MAX: i64 = 1 << 53;

/// `id` as a number, or as text when it is too large for one.
pub(crate) fn json_id(id: i64) -> Value {
    if id > SAFE_MAX {
        Value::String(id.to_string())
    } else {
        id.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_ids_are_text() {
        assert_eq!(json_id(1 << 53), Value::from(9_007_199_254_740_992i64));
        assert_eq!(json_id((1 << 53) + 1), Value::from("9007199254740993"));
    }
}
