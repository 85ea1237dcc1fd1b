//! Runs the built `ringwatch` as a user does: no sleeps, port 0 and temporary directories only.

mod bad_input;
mod blocked;
mod busy;
mod check;
mod guide;
mod help;
mod local_end;
mod nginx;
mod node;
mod process;
mod refusal;
mod server;
mod streams;
mod unfit;
