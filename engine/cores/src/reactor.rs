//! Reactors: what carries out a core's wishes. Thin: they move bytes and bring back events.

pub mod monoio;
pub mod sim;
