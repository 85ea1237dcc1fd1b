//! The attempt machine driven by scripts: orders, classes, splits of bytes, and a real rustls
//! server in memory.

mod attempts;
mod bodies;
mod decoders;
mod driver;
mod families;
mod names;
mod oracle;
mod questions;
mod redirects;
mod resolver;
mod responses;
mod reuse;
mod splits;
mod talks;
mod tls;
