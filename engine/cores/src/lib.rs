//! Pinned probe cores: one thread each, share-nothing, on monoio (io_uring, or epoll where
//! io_uring is refused).
//!
//! [`core::Core`] decides, [`reactor`] moves bytes. A core knows targets, slots, its resolver and
//! its channels; it does not know the sink, the store, or the other cores.

#![deny(unsafe_code)]

mod admission;
mod arena;
mod attempts;
pub mod clock;
pub mod core;
mod destinations;
pub mod histograms;
mod kept;
mod local_end;
mod networks;
pub mod reactor;
mod redirect_names;
mod spawn;
pub mod stats;
mod targets;
mod tick;
pub mod wheel;

pub use attempts::AttemptKey;
pub use clock::Clock;
pub use destinations::DestinationCaps;
pub use histograms::CoreHistograms;
pub use kept::{KeptId, KeptLimits};
pub use local_end::{Close, LocalEnd, Source, SourceError};
pub use networks::{Network, NetworkStats, dark_networks};
pub use spawn::{CoreConfig, CoreError, CoreHandle, Driver, spawn};
pub use stats::{CoreSnapshot, CoreStats, OneShotAccount};
