//! The incident machine seen from outside: scripted lives of one target, and the properties that
//! hold for all of them.

mod beside;
mod model;
mod properties;
mod quiet;
mod script;
mod stories;
mod verifiers;
