//! Public keys of issuers, parsed once per core. Every signature of every chain is verified in
//! every check; but a few hundred authorities sign all chains of the world, and reading an RSA key
//! costs a fifth of what verifying with it does.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::signature::{self, ParsedPublicKey, VerificationAlgorithm};
use model::limits::TLS_ISSUER_KEYS_MAX;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{
    AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id,
};

/// The memories of one core, one per algorithm that chains use.
#[derive(Debug)]
pub(super) struct IssuerKeys(Vec<&'static Remembering>);

impl IssuerKeys {
    /// Keys that are kept.
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|algorithm| algorithm.keys().len()).sum()
    }
}

/// `theirs`, with keys of issuers kept. Asked for once per core: what it makes lives as long as
/// the process, since rustls takes algorithms only so.
pub(super) fn remembering(
    theirs: WebPkiSupportedAlgorithms,
) -> (WebPkiSupportedAlgorithms, IssuerKeys) {
    let mut memories = IssuerKeys(Vec::new());
    let mut with_memory = |&theirs: &Algorithm| match Remembering::of(theirs) {
        Some(memory) => {
            let memory: &'static Remembering = Box::leak(Box::new(memory));
            memories.0.push(memory);
            memory
        }
        None => theirs,
    };
    let all: Vec<Algorithm> = theirs.all.iter().map(&mut with_memory).collect();
    let mapping = theirs.mapping;
    let all = all.leak();
    (WebPkiSupportedAlgorithms { all, mapping }, memories)
}

type Algorithm = &'static dyn SignatureVerificationAlgorithm;

/// What authorities sign with: (their key, the signature, aws-lc's name for both).
const KNOWN: [(
    AlgorithmIdentifier,
    AlgorithmIdentifier,
    &dyn VerificationAlgorithm,
); 5] = [
    (
        alg_id::RSA_ENCRYPTION,
        alg_id::RSA_PKCS1_SHA256,
        &signature::RSA_PKCS1_2048_8192_SHA256,
    ),
    (
        alg_id::RSA_ENCRYPTION,
        alg_id::RSA_PKCS1_SHA384,
        &signature::RSA_PKCS1_2048_8192_SHA384,
    ),
    (
        alg_id::RSA_ENCRYPTION,
        alg_id::RSA_PKCS1_SHA512,
        &signature::RSA_PKCS1_2048_8192_SHA512,
    ),
    (
        alg_id::ECDSA_P256,
        alg_id::ECDSA_SHA256,
        &signature::ECDSA_P256_SHA256_ASN1,
    ),
    (
        alg_id::ECDSA_P384,
        alg_id::ECDSA_SHA384,
        &signature::ECDSA_P384_SHA384_ASN1,
    ),
];

/// One algorithm of one core. The mutex is never contended: only the core's thread comes here; the
/// signature of `SignatureVerificationAlgorithm` (`&self`, `Sync`) forces it.
#[derive(Debug)]
struct Remembering {
    theirs: Algorithm,
    verification: &'static dyn VerificationAlgorithm,
    keys: Mutex<Keys>,
}

type Keys = HashMap<Box<[u8]>, ParsedPublicKey>;

impl Remembering {
    /// `None` when chains hardly use it.
    fn of(theirs: Algorithm) -> Option<Self> {
        let ids = (theirs.public_key_alg_id(), theirs.signature_alg_id());
        let known = KNOWN.iter().find(|known| (known.0, known.1) == ids);
        known.map(|&(_, _, verification)| Self {
            theirs,
            verification,
            keys: Mutex::default(),
        })
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SignatureVerificationAlgorithm for Remembering {
    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.theirs.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.theirs.signature_alg_id()
    }

    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let mut keys = self.keys();
        if let Some(key) = keys.get(public_key) {
            return key
                .verify_sig(message, signature)
                .map_err(|_| InvalidSignature);
        }
        self.theirs
            .verify_signature(public_key, message, signature)?;
        // Only a key that has verified something comes in: webpki starts at the root, so that it
        // is an authority's. Who has an authority of his own could still make many.
        if keys.len() >= TLS_ISSUER_KEYS_MAX {
            keys.clear();
        }
        if let Ok(key) = ParsedPublicKey::new(self.verification, public_key) {
            keys.insert(public_key.into(), key);
        }
        Ok(())
    }

    fn fips(&self) -> bool {
        self.theirs.fips()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{KeyPair, PublicKeyData, SigningKey};

    use super::*;

    fn with_both_memories() -> [Remembering; 2] {
        [
            webpki(alg_id::ECDSA_P256, alg_id::ECDSA_SHA256),
            webpki(alg_id::RSA_ENCRYPTION, alg_id::RSA_PKCS1_SHA256),
        ]
        .map(|theirs| Remembering::of(theirs).expect("chains use it"))
    }

    fn webpki(key: AlgorithmIdentifier, signature: AlgorithmIdentifier) -> Algorithm {
        let all = provider_algorithms().all;
        let mut found = all
            .iter()
            .filter(|one| (one.public_key_alg_id(), one.signature_alg_id()) == (key, signature));
        *found.next().expect("aws-lc has it")
    }

    fn provider_algorithms() -> WebPkiSupportedAlgorithms {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms
    }

    fn remembered(algorithm: &Remembering) -> usize {
        algorithm.keys().len()
    }

    #[test]
    fn a_remembered_key_says_what_webpki_says() {
        let keys = [
            KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256),
        ];
        for (algorithm, key) in with_both_memories().iter().zip(keys) {
            let key = key.expect("generated");
            let signed = key.sign(b"a certificate").expect("signed");
            let says = |message: &[u8], signature: &[u8]| {
                algorithm
                    .verify_signature(key.der_bytes(), message, signature)
                    .is_ok()
            };
            assert!(!says(b"another one", &signed), "a bad one, key unknown");
            assert_eq!(remembered(algorithm), 0, "a key that verified nothing");
            for known in [0, 1, 1] {
                assert_eq!(remembered(algorithm), known);
                assert!(says(b"a certificate", &signed));
            }
            let mut bent = signed.clone();
            *bent.last_mut().expect("not empty") ^= 1;
            assert!(!says(b"another one", &signed), "a bad one, key known");
            assert!(!says(b"a certificate", &bent), "a bent one, key known");
            assert!(!says(b"a certificate", &[]), "an empty one, key known");
        }
    }

    #[test]
    fn keys_without_end_take_no_memory_without_end() {
        let [algorithm, _] = with_both_memories();
        for _ in 0..TLS_ISSUER_KEYS_MAX + 2 {
            let key = KeyPair::generate().expect("generated");
            let signed = key.sign(b"x").expect("signed");
            let verified = algorithm.verify_signature(key.der_bytes(), b"x", &signed);
            assert!(verified.is_ok());
        }
        assert_eq!(remembered(&algorithm), 2);
    }

    #[test]
    fn every_algorithm_stays_in_its_place() {
        let before = provider_algorithms();
        let (after, memories) = remembering(provider_algorithms());
        let ids = |all: &[Algorithm]| -> Vec<_> {
            all.iter()
                .map(|one| (one.public_key_alg_id(), one.signature_alg_id()))
                .collect()
        };
        assert_eq!(ids(before.all), ids(after.all));
        let changed = before.all.iter().zip(after.all);
        let changed = changed.filter(|(one, other)| !std::ptr::addr_eq(**one, **other));
        assert_eq!(changed.count(), KNOWN.len());
        assert_eq!((memories.0.len(), memories.len()), (KNOWN.len(), 0));
    }
}
