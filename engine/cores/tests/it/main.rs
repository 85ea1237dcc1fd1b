//! The core on the simulator (virtual time) and on the real reactors (loopback).

mod accounts;
mod conformance;
mod eyeballs;
mod fleet;
mod honesty;
mod keeping;
mod politeness;
mod resolving;
mod restart;
mod row;
mod soak;
mod world;
