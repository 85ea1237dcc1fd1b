//! The built farm seen from outside, on each runtime that this machine allows.

mod broken;
mod dns;
mod http;
mod observer;
mod process;
mod running;
mod tls;
