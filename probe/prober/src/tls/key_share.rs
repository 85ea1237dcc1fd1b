//! Our half of the X25519 exchange, made once a second per core and not once per connection: making
//! it is a fourteenth of a handshake's CPU. Every connection still agrees on a secret of its own,
//! since the server's half is new; what is given up is that whoever steals the key out of our
//! memory could read the checks of that second, and not only those in flight (RFC 9325 §7.4
//! warns of hours).

use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey, X25519};
use model::limits::TLS_KEY_SHARE_S;
use rustls::crypto::{ActiveKeyExchange, GetRandomFailed, SharedSecret, SupportedKxGroup};
use rustls::{Error, NamedGroup, PeerMisbehaved};

use super::FedClock;

/// Bytes of a public key of X25519 (RFC 7748 §5).
const PUBLIC_BYTES: usize = 32;

/// X25519 of one core. The mutex is never contended: only the core's thread comes here; the
/// signature of `SupportedKxGroup` (`&self`, `Sync`) forces it.
#[derive(Debug)]
pub(super) struct KeyShares {
    clock: Arc<FedClock>,
    current: Mutex<Option<(u64, Arc<KeyShare>)>>,
}

#[derive(Debug)]
struct KeyShare {
    private: PrivateKey,
    public: [u8; PUBLIC_BYTES],
}

impl KeyShares {
    /// Asked for once per core: it lives as long as the process, since rustls takes groups only so.
    pub(super) fn on(clock: Arc<FedClock>) -> &'static Self {
        Box::leak(Box::new(Self {
            clock,
            current: Mutex::default(),
        }))
    }

    fn share(&self) -> Result<Arc<KeyShare>, Error> {
        let period = self.clock.seconds() / TLS_KEY_SHARE_S;
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, share)) = &*current
            && *of == period
        {
            return Ok(Arc::clone(share));
        }
        let share = Arc::new(KeyShare::new()?);
        *current = Some((period, Arc::clone(&share)));
        Ok(share)
    }
}

impl KeyShare {
    fn new() -> Result<Self, Error> {
        let private = PrivateKey::generate(&X25519).map_err(|_| GetRandomFailed)?;
        let key = private.compute_public_key().map_err(|_| GetRandomFailed)?;
        let mut public = [0; PUBLIC_BYTES];
        public.copy_from_slice(key.as_ref());
        Ok(Self { private, public })
    }
}

impl SupportedKxGroup for KeyShares {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        Ok(Box::new(Exchange(self.share()?)))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

/// One connection's use of a share.
struct Exchange(Arc<KeyShare>);

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let refused = Error::from(PeerMisbehaved::InvalidKeyShare);
        let peer = UnparsedPublicKey::new(&X25519, peer);
        agreement::agree(&self.0.private, peer, refused, |secret| {
            Ok(SharedSecret::from(secret))
        })
    }

    fn pub_key(&self) -> &[u8] {
        &self.0.public
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

#[cfg(test)]
mod tests {
    use model::UnixMs;
    use rustls::crypto::aws_lc_rs::kx_group;

    use super::*;

    fn shares_at(seconds: u64) -> (&'static KeyShares, Arc<FedClock>) {
        let clock = Arc::new(FedClock::default());
        clock.feed(UnixMs(seconds * 1_000));
        (KeyShares::on(Arc::clone(&clock)), clock)
    }

    fn public(shares: &KeyShares) -> Vec<u8> {
        shares.start().expect("random numbers").pub_key().to_vec()
    }

    #[test]
    fn a_share_lives_for_a_second_of_one_core() {
        let (shares, clock) = shares_at(1_000);
        let first = public(shares);
        assert_eq!(public(shares), first);
        clock.feed(UnixMs(1_000_999));
        assert_eq!(public(shares), first);
        clock.feed(UnixMs(1_001_000));
        assert_ne!(public(shares), first);
        // The wall clock is set back: it is another second, not that one again.
        clock.feed(UnixMs(1_000_500));
        assert_ne!(public(shares), first);
        assert_ne!(public(shares_at(1_000).0), first, "of another core");
    }

    #[test]
    fn both_sides_agree_and_two_connections_do_not_share_a_secret() {
        let (shares, _) = shares_at(1);
        let mut secrets = Vec::new();
        for _ in 0..2 {
            let ours = shares.start().expect("random numbers");
            let theirs = kx_group::X25519.start_and_complete(ours.pub_key());
            let theirs = theirs.expect("a good share");
            let secret = ours.complete(&theirs.pub_key).expect("a good share");
            assert_eq!(secret.secret_bytes(), theirs.secret.secret_bytes());
            secrets.push(secret.secret_bytes().to_vec());
        }
        assert_ne!(secrets[0], secrets[1]);
    }

    #[test]
    fn a_share_that_would_force_the_secret_is_refused() {
        let (shares, _) = shares_at(1);
        // Points of small order (RFC 7748 §6.1), and what is no point at all.
        for bad in [&[0; 32][..], &[1; 31], &[]] {
            let ours = shares.start().expect("random numbers");
            let refused = ours.complete(bad).err();
            assert_eq!(refused, Some(PeerMisbehaved::InvalidKeyShare.into()));
        }
    }
}
