//! Runs the built `ringwatch` as a user does: no sleeps, port 0 and temporary directories only.

mod bad_input;
mod blocked;
mod busy;
mod check;
mod fencing;
mod guide;
mod help;
mod honesty;
mod legacy;
mod local_end;
mod lost_packets;
/// The same server as in the tests of the store, which use more of it.
#[allow(dead_code)]
mod migrate;
mod nginx;
mod node;
mod one_change;
mod operators;
mod process;
mod refusal;
mod server;
mod store_trouble;
mod streams;
mod unfit;
mod verifiers;
