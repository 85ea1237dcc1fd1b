//! The attempt machine driven by scripts: orders, classes, splits of bytes, and a real rustls
//! server in memory.

mod attempts;
mod corpus;
mod driver;
mod resolver;
mod splits;
mod tls;
