//! Integration tests of the store: the conformance suite against every backend, and what is
//! special to one backend. Must not know how a backend stores anything, the backends' own files
//! apart.
#![forbid(unsafe_code)]

mod conformance;
mod fixture;
mod mysql;
mod proxy;
mod sqlite;
