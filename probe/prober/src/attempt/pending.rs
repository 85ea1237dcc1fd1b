//! Commands that wait to be given out, besides closes; bits, in their order.

/// Before a connect, which it may serve.
pub(super) const KEEP: u8 = 1;
pub(super) const RESOLVE: u8 = 1 << 1;
pub(super) const WIDEN: u8 = 1 << 2;
/// Before whatever a shell may wait for.
pub(super) const TIMER: u8 = 1 << 3;
pub(super) const CONNECT: u8 = 1 << 4;
/// A connect to the other family.
pub(super) const RACE: u8 = 1 << 5;
pub(super) const SEND: u8 = 1 << 6;
pub(super) const RECV: u8 = 1 << 7;
