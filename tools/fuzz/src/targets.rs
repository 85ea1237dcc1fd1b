//! The part of `node::targets` that reads lists, and its fuzz body.

#[path = "../../../engine/node/src/targets/columns.rs"]
pub(crate) mod columns;
#[allow(dead_code, reason = "the node uses more of it than a list needs")]
#[path = "../../../engine/node/src/targets/file.rs"]
pub(crate) mod file;
#[path = "../../../engine/node/src/targets/fuzzing.rs"]
pub(crate) mod fuzzing;
#[path = "../../../engine/node/src/targets/lines.rs"]
pub(crate) mod lines;
#[path = "../../../engine/node/src/targets/separator.rs"]
pub(crate) mod separator;
