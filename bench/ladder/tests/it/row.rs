//! What a row of the table is made of: a class, what brings it about, and how it must come out.

use model::FailureClass as C;

/// One way to come to one class.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// `None`: nothing that counts as a failure.
    pub(crate) class: Option<C>,
    pub(crate) legacy_code: Option<u8>,
    pub(crate) verdict: &'static str,
    pub(crate) means: Means,
    /// Every phase that is there, without its unit; the others are absent.
    pub(crate) phases: &'static str,
    /// What `--json` must have: a path, and a part of the text or the whole number there.
    pub(crate) says: Says,
}

/// Paths into the answer, and what is found there.
pub(crate) type Says = &'static [(&'static str, &'static str)];

/// What brings a row about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Means {
    /// A site of the farm that suffers a fault with these keys.
    Site {
        https: bool,
        fault: &'static str,
        flags: &'static [&'static str],
    },
    /// A place on this machine.
    Place {
        place: Place,
        flags: &'static [&'static str],
    },
    /// No server of this machine's own network can bring it about: this test does, and takes what
    /// it asserts from the row as the page has it.
    Test {
        file: &'static str,
        name: &'static str,
    },
}

/// A place that is no site of the farm, or a site that is looked at in another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A port without a listener.
    ClosedPort,
    /// A listener whose queue is full.
    FullQueue,
    /// The broadcast address of loopback, which the kernel connects nobody to.
    Broadcast,
    /// A healthy site, on an address that was not allowed.
    NotAllowed,
    /// A healthy site, at the port that speaks one version of TLS.
    OnlyTls12,
    OnlyTls13,
    /// What the name of a healthy site says of itself: its address, and no mail servers.
    Addresses,
    MailServers,
}

impl Place {
    /// What it is, for people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ClosedPort => "a port without a listener",
            Self::FullQueue => "a listener whose queue is full",
            Self::Broadcast => "the broadcast address of loopback",
            Self::NotAllowed => "a loopback address without `--allow`",
            Self::OnlyTls12 => "a site at a port of TLS 1.2 alone",
            Self::OnlyTls13 => "a site at a port of TLS 1.3 alone",
            Self::Addresses => "a site's name, asked by `dns://NAME`",
            Self::MailServers => "a site's name, asked by `dns://NAME?type=MX`",
        }
    }
}

pub(crate) const fn row(
    class: Option<C>,
    legacy_code: Option<u8>,
    verdict: &'static str,
    means: Means,
    phases: &'static str,
    says: Says,
) -> Row {
    Row {
        class,
        legacy_code,
        verdict,
        means,
        phases,
        says,
    }
}

pub(crate) const fn down(
    class: C,
    code: u8,
    means: Means,
    phases: &'static str,
    says: Says,
) -> Row {
    row(Some(class), Some(code), "down", means, phases, says)
}

pub(crate) const fn degraded(
    class: C,
    code: u8,
    means: Means,
    phases: &'static str,
    says: Says,
) -> Row {
    row(Some(class), Some(code), "degraded", means, phases, says)
}

pub(crate) const fn up(means: Means, phases: &'static str, says: Says) -> Row {
    row(None, None, "up", means, phases, says)
}

/// A class that is nobody's fault but ours, held by a test of its own.
pub(crate) const fn ours(class: C, means: Means, phases: &'static str, says: Says) -> Row {
    row(Some(class), None, "unknown", means, phases, says)
}

pub(crate) const fn by_test(file: &'static str, name: &'static str) -> Means {
    Means::Test { file, name }
}

pub(crate) const fn http(fault: &'static str) -> Means {
    http_with(fault, &[])
}

pub(crate) const fn http_with(fault: &'static str, flags: &'static [&'static str]) -> Means {
    Means::Site {
        https: false,
        fault,
        flags,
    }
}

pub(crate) const fn https(fault: &'static str) -> Means {
    https_with(fault, &[])
}

pub(crate) const fn https_with(fault: &'static str, flags: &'static [&'static str]) -> Means {
    Means::Site {
        https: true,
        fault,
        flags,
    }
}

pub(crate) const fn at(place: Place, flags: &'static [&'static str]) -> Means {
    Means::Place { place, flags }
}
