//! The incident machine seen from outside: scripted lives of one target, and the properties that
//! hold for all of them.

mod properties;
mod script;
mod stories;
