//! What an errno says of a target. Linux numbers: the shells run nowhere else.

use model::FailureClass;

use super::spec::ErrnoAt;

const ECONNABORTED: i32 = 103;
const ECONNRESET: i32 = 104;
const ETIMEDOUT: i32 = 110;
const ECONNREFUSED: i32 = 111;
const EPIPE: i32 = 32;

/// One in two bytes: the kernel has none above 4,095.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Errno(u16);

impl Errno {
    pub(super) fn new(errno: i32) -> Self {
        Self(u16::try_from(errno).unwrap_or_default())
    }

    pub(super) fn get(self) -> i32 {
        i32::from(self.0)
    }
}

/// Of a connection that got no answer in its share of the time.
pub(super) const NO_ANSWER: i32 = ETIMEDOUT;

/// Why an address could not be connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// It, or the network on the way to it, said so.
    Remote,
    /// This host has no way to it: no route, no address of its family, no free port towards it, or
    /// no permission.
    NoWay,
    /// This host was short of something that has nothing to do with the address.
    Short,
}

/// Errnos that say what this host is short of: descriptors and memory; cancelled operations too.
fn is_short(errno: i32) -> bool {
    const EINTR: i32 = 4;
    const EBADF: i32 = 9;
    const EAGAIN: i32 = 11;
    const ENOMEM: i32 = 12;
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOBUFS: i32 = 105;
    const ECANCELED: i32 = 125;
    [
        EINTR, EBADF, EAGAIN, ENOMEM, ENFILE, EMFILE, ENOBUFS, ECANCELED,
    ]
    .contains(&errno)
}

/// Errnos that speak of this host, whoever reports them.
fn is_local(errno: i32) -> bool {
    const EPERM: i32 = 1;
    const EACCES: i32 = 13;
    const EINVAL: i32 = 22;
    const EADDRINUSE: i32 = 98;
    const EADDRNOTAVAIL: i32 = 99;
    let no_way = [EPERM, EACCES, EINVAL, EADDRINUSE, EADDRNOTAVAIL];
    is_short(errno) || no_way.contains(&errno)
}

pub(super) fn is_reset(errno: i32) -> bool {
    matches!(errno, ECONNRESET | ECONNABORTED | EPIPE)
}

/// Whether a send that met this errno had a connection that was established: a handshake that is
/// turned down is `ECONNREFUSED`, only what stands can be reset.
pub(super) fn was_established(errno: i32) -> bool {
    is_reset(errno)
}

/// Of a connection that could not be established.
pub(super) fn connect_class(errno: i32, at: ErrnoAt) -> FailureClass {
    match errno {
        _ if at == ErrnoAt::Syscall || is_local(errno) => FailureClass::ConnectLocal,
        ECONNREFUSED => FailureClass::ConnectRefused,
        ETIMEDOUT => FailureClass::ConnectTimeout,
        _ if is_reset(errno) => FailureClass::ConnectReset,
        _ => FailureClass::ConnectUnreachable,
    }
}

/// Of the same.
pub(super) fn connect_cause(errno: i32, at: ErrnoAt) -> Cause {
    match connect_class(errno, at) {
        FailureClass::ConnectLocal if is_short(errno) => Cause::Short,
        FailureClass::ConnectLocal => Cause::NoWay,
        _ => Cause::Remote,
    }
}

/// Of an established connection on which TLS is not ready yet.
pub(super) fn handshake_class(errno: i32) -> FailureClass {
    match errno {
        ETIMEDOUT => FailureClass::TlsTimeout,
        _ if is_local(errno) => FailureClass::ConnectLocal,
        _ => FailureClass::TlsHandshake,
    }
}

/// Of an established connection that carries HTTP.
pub(super) fn exchange_class(errno: i32) -> FailureClass {
    match errno {
        ETIMEDOUT => FailureClass::HttpTimeout,
        _ if is_local(errno) => FailureClass::ConnectLocal,
        _ => FailureClass::HttpReset,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENETUNREACH: i32 = 101;
    const EHOSTUNREACH: i32 = 113;
    const EMFILE: i32 = 24;
    /// What shells say of a connection that they lost sight of, and of errors that the kernel did
    /// not make.
    const EBADF: i32 = 9;
    const ECANCELED: i32 = 125;

    #[test]
    fn an_errno_read_later_is_the_remotes_and_one_of_connect_itself_is_ours() {
        use FailureClass as C;
        for (errno, class) in [
            (ECONNREFUSED, C::ConnectRefused),
            (ECONNRESET, C::ConnectReset),
            (EHOSTUNREACH, C::ConnectUnreachable),
            (ENETUNREACH, C::ConnectUnreachable),
            (ETIMEDOUT, C::ConnectTimeout),
            (EMFILE, C::ConnectLocal),
        ] {
            assert_eq!(connect_class(errno, ErrnoAt::Async), class, "{errno}");
            assert_eq!(
                connect_class(errno, ErrnoAt::Syscall),
                C::ConnectLocal,
                "{errno}"
            );
        }
    }

    #[test]
    fn what_we_are_short_of_is_told_from_a_way_that_we_do_not_have() {
        for (errno, at, cause) in [
            (EMFILE, ErrnoAt::Syscall, Cause::Short),
            (EMFILE, ErrnoAt::Async, Cause::Short),
            (ENETUNREACH, ErrnoAt::Syscall, Cause::NoWay),
            (ENETUNREACH, ErrnoAt::Async, Cause::Remote),
            (EBADF, ErrnoAt::Async, Cause::Short),
            (ECANCELED, ErrnoAt::Async, Cause::Short),
            (99, ErrnoAt::Syscall, Cause::NoWay),
            (ECONNREFUSED, ErrnoAt::Async, Cause::Remote),
        ] {
            assert_eq!(connect_cause(errno, at), cause, "{errno} {at:?}");
        }
    }

    #[test]
    fn an_established_connection_fails_by_what_it_carries() {
        use FailureClass as C;
        for (errno, handshake, exchange) in [
            (ECONNRESET, C::TlsHandshake, C::HttpReset),
            (EPIPE, C::TlsHandshake, C::HttpReset),
            (ETIMEDOUT, C::TlsTimeout, C::HttpTimeout),
            (EMFILE, C::ConnectLocal, C::ConnectLocal),
            (EBADF, C::ConnectLocal, C::ConnectLocal),
            (ECANCELED, C::ConnectLocal, C::ConnectLocal),
        ] {
            assert_eq!(
                (handshake_class(errno), exchange_class(errno)),
                (handshake, exchange)
            );
        }
    }
}
