//! Remote confirmation: whoever looks from elsewhere whether a target is down (`service`), and the
//! part of a node that asks (`client`).
//!
//! ```text
//!  sink ─Question─► client: gather ► read targets ► one verifier per vantage, in parallel
//!    ▲                                                   │ POST /v2/check, ≤ 64 checks
//!    └─────────────── votes and what is none ◄───────────┤
//!                                                        ▼
//!                     service: token, limits ► executor ► one-shots on probe cores
//! ```
//!
//! What both say to each other is `protocol`, and nowhere else.

pub(crate) mod client;
mod protocol;
pub(crate) mod service;
mod tls;
