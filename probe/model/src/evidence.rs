//! Evidence: what a failing check (or a one-shot) saw, bounded to 4 KiB.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::class::FailureClass;
use crate::ids::{Generation, Slot};
use crate::limits::{
    EVIDENCE_ADDRESSES_MAX, EVIDENCE_EXCERPT_MAX_BYTES, EVIDENCE_HEAD_MAX_BYTES,
    EVIDENCE_MAX_BYTES, EVIDENCE_TEXT_MAX_BYTES,
};

/// An address that was tried, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressTried {
    /// Where to.
    pub address: SocketAddr,
    /// `None` when the connection was established.
    pub errno: Option<i32>,
    /// Whether `connect()` itself refused: then the trouble is ours.
    pub local: bool,
}

/// What DNS said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsSeen {
    /// The upstream that answered last, or was asked last.
    pub server: Option<SocketAddr>,
    /// Response code by its IANA number.
    pub rcode: Option<u16>,
    /// Addresses in the answer.
    pub addresses: Vec<IpAddr>,
    /// Tries made.
    pub tries: u8,
}

/// What TLS said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsSeen {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: String,
    /// IANA name of the cipher suite.
    pub cipher: String,
    /// Subjects of the chain, leaf first.
    pub subjects: Vec<String>,
    /// Earliest `notAfter` of the chain, seconds since the Unix epoch.
    pub not_after_unix_s: Option<i64>,
    /// Latest `notBefore` of the chain, seconds since the Unix epoch.
    pub not_before_unix_s: Option<i64>,
}

/// One redirect that was followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HopSeen {
    /// URL that answered with a redirect; one that is too long ends with an ellipsis.
    pub url: String,
    /// Its status.
    pub status: u16,
    /// Its phases in µs, in the order of `Phases::NAMES`.
    pub phases_us: [Option<u32>; 6],
}

/// Everything kept of one failing check. Without the TLS and DNS details it is still useful: when
/// its channel is full only class and errno survive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The slot of the outcome it belongs to.
    #[serde(skip)]
    pub slot: u32,
    /// The generation of the outcome it belongs to.
    #[serde(skip)]
    pub generation: u32,
    /// The sequence number of the outcome it belongs to.
    pub seq: u32,
    /// Number of the failure class, 0 = none.
    pub class: u8,
    /// The errno that ended the attempt.
    pub errno: Option<i32>,
    /// HTTP status, 0 = none.
    pub status: u16,
    /// Bits of [`flags`](crate::outcome::flags), as the outcome has them.
    #[serde(default)]
    pub flags: u16,
    /// Addresses tried, in order.
    pub addresses: Vec<AddressTried>,
    /// DNS details.
    pub dns: Option<DnsSeen>,
    /// TLS details.
    pub tls: Option<TlsSeen>,
    /// Redirects followed, in order; the middle ones of a chain that is too long are left out.
    pub redirects: Vec<HopSeen>,
    /// The response head, ≤ 1 KiB.
    pub head: String,
    /// Body excerpt around a rule hit, ≤ 256 B.
    pub excerpt: String,
    /// What happened, for a person.
    pub text: String,
}

impl Evidence {
    /// An empty record for the outcome (slot, generation, seq).
    pub fn of(slot: Slot, generation: Generation, seq: u32) -> Self {
        Self {
            slot: slot.0,
            generation: generation.0,
            seq,
            ..Self::default()
        }
    }

    /// The failure class.
    pub fn failure(&self) -> Option<FailureClass> {
        FailureClass::from_u8(self.class)
    }

    /// Bytes held, the fixed part included.
    pub fn size_bytes(&self) -> usize {
        let tls = self.tls.as_ref().map_or(0, |tls| {
            tls.version.len()
                + tls.cipher.len()
                + tls
                    .subjects
                    .iter()
                    .map(|subject| subject.len() + 24)
                    .sum::<usize>()
        });
        let dns = self.dns.as_ref().map_or(0, |dns| dns.addresses.len() * 17);
        let hops: usize = self.redirects.iter().map(|hop| hop.url.len() + 56).sum();
        size_of::<Self>()
            + self.addresses.len() * size_of::<AddressTried>()
            + tls
            + dns
            + hops
            + self.head.len()
            + self.excerpt.len()
            + self.text.len()
    }

    /// Cuts every part to its limit and the whole to [`EVIDENCE_MAX_BYTES`], the least telling
    /// parts first.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        cut(&mut self.head, EVIDENCE_HEAD_MAX_BYTES);
        cut(&mut self.text, EVIDENCE_TEXT_MAX_BYTES);
        cut(&mut self.excerpt, EVIDENCE_EXCERPT_MAX_BYTES);
        self.addresses.truncate(EVIDENCE_ADDRESSES_MAX);
        if let Some(dns) = &mut self.dns {
            dns.addresses.truncate(EVIDENCE_ADDRESSES_MAX);
        }
        if let Some(tls) = &mut self.tls {
            tls.subjects.truncate(4);
            tls.subjects
                .iter_mut()
                .for_each(|subject| cut(subject, 200));
        }
        self.bound_redirects();
        if self.size_bytes() > EVIDENCE_MAX_BYTES {
            self.head.clear();
        }
        self.give_back();
        self
    }

    /// Gives back what the parts took before they were cut: a record waits for a store that may be
    /// slow, and its bound is one of memory, whatever a server put into its certificates.
    fn give_back(&mut self) {
        let tls = self.tls.as_mut().map(|tls| {
            tls.subjects.shrink_to_fit();
            tls.subjects.iter_mut()
        });
        let hops = self.redirects.iter_mut().map(|hop| &mut hop.url);
        [&mut self.head, &mut self.excerpt, &mut self.text]
            .into_iter()
            .chain(tls.into_iter().flatten())
            .chain(hops)
            .for_each(String::shrink_to_fit);
        self.addresses.shrink_to_fit();
        self.redirects.shrink_to_fit();
        if let Some(dns) = &mut self.dns {
            dns.addresses.shrink_to_fit();
        }
    }

    /// Makes redirects fit: where each hop led tells most by the beginning of its URL, and of a
    /// chain that is still too long the first hops and the last ones.
    fn bound_redirects(&mut self) {
        for max in [512, 256, 128, 64] {
            if self.size_bytes() <= EVIDENCE_MAX_BYTES {
                return;
            }
            self.redirects
                .iter_mut()
                .for_each(|hop| shorten(&mut hop.url, max));
        }
        while self.size_bytes() > EVIDENCE_MAX_BYTES && self.redirects.len() > 2 {
            self.redirects.remove((self.redirects.len() - 1) / 2);
        }
    }

    /// What is left when the channel is full: class, errno, status and flags.
    #[must_use]
    pub fn truncated(&self) -> Self {
        Self {
            slot: self.slot,
            generation: self.generation,
            seq: self.seq,
            class: self.class,
            errno: self.errno,
            status: self.status,
            flags: self.flags,
            ..Self::default()
        }
    }
}

/// Cuts `text` to at most `max` bytes, an ellipsis at its end.
pub fn shorten(text: &mut String, max: usize) {
    if text.len() > max {
        cut(text, max - '…'.len_utf8());
        text.push('…');
    }
}

/// Cuts `text` to at most `max` bytes on a character boundary.
fn cut(text: &mut String, max: usize) {
    if text.len() > max {
        text.truncate(text.floor_char_boundary(max));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounded_evidence_fits_and_keeps_what_tells_most() {
        let hop = HopSeen {
            url: "http://e/".repeat(100),
            status: 302,
            phases_us: [None; 6],
        };
        let evidence = Evidence {
            head: "é".repeat(4_000),
            text: "refused".repeat(1_000),
            redirects: vec![hop; 10],
            tls: Some(TlsSeen {
                subjects: vec!["CN=x".repeat(200); 9],
                ..TlsSeen::default()
            }),
            ..Evidence::of(Slot(1), Generation(2), 3)
        }
        .bounded();
        assert!(evidence.size_bytes() <= EVIDENCE_MAX_BYTES);
        assert_eq!(evidence.text.len(), EVIDENCE_TEXT_MAX_BYTES);
        assert!(evidence.head.len() <= EVIDENCE_HEAD_MAX_BYTES);
    }

    #[test]
    fn what_was_cut_is_not_held_either() {
        let long = || "CN=x".repeat(15_000);
        let evidence = Evidence {
            head: long(),
            excerpt: long(),
            text: long(),
            redirects: chain(2_000),
            tls: Some(TlsSeen {
                subjects: vec![long(); 100],
                ..TlsSeen::default()
            }),
            dns: Some(DnsSeen {
                addresses: vec![IpAddr::from([192, 0, 2, 1]); 100],
                ..DnsSeen::default()
            }),
            ..Evidence::default()
        };
        let evidence = evidence.bounded();
        let (tls, dns) = (evidence.tls.as_ref(), evidence.dns.as_ref());
        let subjects = &tls.expect("there").subjects;
        let texts = [&evidence.head, &evidence.excerpt, &evidence.text];
        let urls = evidence.redirects.iter().map(|hop| &hop.url);
        let held: usize = texts
            .into_iter()
            .chain(subjects)
            .chain(urls)
            .map(String::capacity)
            .sum();
        assert!(held <= EVIDENCE_MAX_BYTES, "{held}");
        assert!(subjects.capacity() <= 4 && evidence.redirects.capacity() <= 10);
        assert!(dns.expect("there").addresses.capacity() <= EVIDENCE_ADDRESSES_MAX);
    }

    /// A chain of ten hops, the one from `300 + n` to a URL with `n` at both ends.
    fn chain(url_bytes: usize) -> Vec<HopSeen> {
        let hop = |n: u16| HopSeen {
            url: format!("http://{n}.test/{}{n}", "p".repeat(url_bytes - 15)),
            status: 300 + n,
            phases_us: [Some(1); 6],
        };
        (0..10).map(hop).collect()
    }

    #[test]
    fn of_a_chain_of_redirects_urls_go_before_hops_and_middle_hops_before_the_ends() {
        let with = |url_bytes, tls: Option<TlsSeen>| {
            let evidence = Evidence {
                head: "H".repeat(EVIDENCE_HEAD_MAX_BYTES),
                text: "t".repeat(if tls.is_some() { 500 } else { 100 }),
                excerpt: "e".repeat(if tls.is_some() { 256 } else { 0 }),
                redirects: chain(url_bytes),
                tls,
                ..Evidence::of(Slot(1), Generation(2), 3)
            };
            evidence.bounded()
        };
        let fits = with(100, None);
        assert_eq!(fits.redirects, chain(100), "nothing is cut that fits");
        let shortened = with(256, None);
        assert!(shortened.size_bytes() <= EVIDENCE_MAX_BYTES);
        assert_eq!(shortened.head.len(), EVIDENCE_HEAD_MAX_BYTES);
        assert_eq!(shortened.redirects.len(), 10, "each hop is there");
        for (n, hop) in shortened.redirects.iter().enumerate() {
            assert!(hop.url.starts_with(&format!("http://{n}.test/p")));
            assert!(hop.url.ends_with("p…") && hop.url.len() == 128);
        }
        let chatty = TlsSeen {
            subjects: vec!["CN=x".repeat(60); 4],
            ..TlsSeen::default()
        };
        let torn = with(8_000, Some(chatty));
        assert!(torn.size_bytes() <= EVIDENCE_MAX_BYTES);
        let statuses: Vec<u16> = torn.redirects.iter().map(|hop| hop.status).collect();
        let kept = statuses.len() as u16;
        assert!((2..10).contains(&kept), "{statuses:?}");
        let first = (300..).take(usize::from(kept / 2));
        let last = (310 - kept.div_ceil(2))..310;
        let ends: Vec<u16> = first.chain(last).collect();
        assert_eq!(statuses, ends, "the first ones and the last ones");
        assert!(torn.redirects.iter().all(|hop| hop.url.len() == 64));
        assert_eq!(torn.head.len(), EVIDENCE_HEAD_MAX_BYTES);
    }

    #[test]
    fn truncated_evidence_keeps_class_and_errno() {
        let full = Evidence {
            class: 10,
            errno: Some(111),
            text: "x".into(),
            ..Default::default()
        };
        let short = full.truncated();
        assert_eq!(
            (short.class, short.errno, short.text.as_str()),
            (10, Some(111), "")
        );
    }
}
