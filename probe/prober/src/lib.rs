//! Sans-IO probe machines: attempt, resolver, HTTP/1.1, TLS.
//!
//! Every machine here is pure: events and `now` go in, commands come out. Nothing in this crate
//! reads a clock, opens a socket, spawns or logs; the shells in `cores` move the bytes. The same
//! script gives the same result, whatever the sizes of the pieces in which bytes arrive.

#![forbid(unsafe_code)]

pub mod attempt;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod guard;
mod http1;
pub mod resolver;
mod rules;
mod shared;
mod tls;

pub use attempt::{
    Attempt, AttemptSpec, Buffers, Command, Conn, ErrnoAt, Event, HostRef, Report, Rules,
};
pub use error::ProberError;
pub use guard::{Allowed, Cidr, Guard, PrivateNames};
pub use shared::{DEFAULT_USER_AGENT, Roots, Shared, SharedConfig, TlsPolicy};
pub use tls::server_hello::{ServerHelloSeen, sniff_server_hello};
