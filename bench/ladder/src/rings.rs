//! What the kernel gives this process, and so its children, of `io_uring`: asked here, past every
//! runtime, so that a node or a farm which fell back to epoll without need is found out.

use io_uring::IoUring;
use rustix::process::{Resource, getrlimit};

/// Entries of the ring that is asked for: as many as a probe core's.
const RING_ENTRIES: u32 = 4_096;
/// Memory that glommio wants to be allowed to lock, in bytes.
const GLOMMIO_LOCKED_BYTES: u64 = 512 * 1024;

/// The kernel's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rings {
    /// Whoever asks gets one.
    Given,
    /// The same, but glommio would find the limit of locked memory too low for it.
    GivenButToGlommio,
    /// Nobody gets one.
    Refused,
}

impl Rings {
    /// Asks for a ring, and gives it back.
    pub(crate) fn ask() -> Self {
        let locked = getrlimit(Resource::Memlock).current;
        match IoUring::new(RING_ENTRIES) {
            Err(_) => Self::Refused,
            Ok(_) if locked.is_some_and(|bytes| bytes < GLOMMIO_LOCKED_BYTES) => {
                Self::GivenButToGlommio
            }
            Ok(_) => Self::Given,
        }
    }
}
