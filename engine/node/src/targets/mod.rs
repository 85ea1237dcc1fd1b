//! Targets on their way in and out: lists, imports, exports, and the slots that they are given.
//! Must not know how targets are probed or which database keeps them.

mod chunks;
pub(crate) mod columns;
pub(crate) mod directory;
pub(crate) mod doubles;
pub(crate) mod export;
pub(crate) mod file;
#[cfg(test)]
mod fuzzing;
pub(crate) mod import;
pub(crate) mod legacy;
pub(crate) mod lines;
pub(crate) mod list;
mod separator;
pub(crate) mod show;
pub(crate) mod slots;
pub(crate) mod state;
