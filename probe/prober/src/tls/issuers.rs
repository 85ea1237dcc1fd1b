//! What is the same in most chains, done once per core: a few hundred authorities sign all chains
//! of the world, and a few dozen of their certificates come with nearly every one.
//!
//! Their public keys are kept parsed: reading an RSA key costs a fifth of what verifying with it
//! does. And a signature that was found good on an authority's own certificate is not computed
//! again: the same key, bytes and signature give the same answer for ever. Everything else about a
//! chain (names, dates, purposes, constraints, roots) is judged in every check, and so is the
//! signature on the server's own certificate.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::signature::{self, ParsedPublicKey, VerificationAlgorithm};
use model::limits::{TLS_ISSUER_KEYS_MAX, TLS_ISSUER_SIGNATURES_MAX, TLS_ISSUER_SIGNED_MAX_BYTES};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{
    AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id,
};

use super::chain;

/// The memories of one core, one per algorithm that chains use.
#[derive(Debug)]
pub(super) struct Issuers(Vec<&'static Remembering>);

impl Issuers {
    /// Keys that are kept.
    pub(super) fn keys(&self) -> usize {
        let keys = |algorithm: &&Remembering| algorithm.memory().keys.len();
        self.0.iter().map(keys).sum()
    }

    /// Signatures that are kept.
    pub(super) fn signatures(&self) -> usize {
        let signatures = |algorithm: &&Remembering| algorithm.memory().signed.len();
        self.0.iter().map(signatures).sum()
    }
}

/// `theirs`, with a memory of issuers. Asked for once per core: what it makes lives as long as
/// the process, since rustls takes algorithms only so.
pub(super) fn remembering(
    theirs: WebPkiSupportedAlgorithms,
) -> (WebPkiSupportedAlgorithms, Issuers) {
    let mut memories = Issuers(Vec::new());
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
    memory: Mutex<Memory>,
}

/// What is kept for one algorithm.
#[derive(Debug, Default)]
struct Memory {
    keys: HashMap<Box<[u8]>, ParsedPublicKey>,
    /// By the signed part of the certificate.
    signed: HashMap<Box<[u8]>, Signed>,
}

/// By whom, and how.
#[derive(Debug)]
struct Signed {
    public_key: Box<[u8]>,
    signature: Box<[u8]>,
}

impl Remembering {
    /// `None` when chains hardly use it.
    fn of(theirs: Algorithm) -> Option<Self> {
        let ids = (theirs.public_key_alg_id(), theirs.signature_alg_id());
        let known = KNOWN.iter().find(|known| (known.0, known.1) == ids);
        known.map(|&(_, _, verification)| Self {
            theirs,
            verification,
            memory: Mutex::default(),
        })
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the signature is good. A key that is not known comes in if it is: webpki starts at
    /// the root, so that it is an authority's.
    fn verify(
        &self,
        keys: &mut HashMap<Box<[u8]>, ParsedPublicKey>,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        if let Some(key) = keys.get(public_key) {
            let verified = key.verify_sig(message, signature);
            return verified.map_err(|_| InvalidSignature);
        }
        self.theirs
            .verify_signature(public_key, message, signature)?;
        if let Ok(key) = ParsedPublicKey::new(self.verification, public_key) {
            make_room(keys, TLS_ISSUER_KEYS_MAX);
            keys.insert(public_key.into(), key);
        }
        Ok(())
    }
}

/// Who has an authority of his own could make things to remember without end.
fn make_room<V>(memory: &mut HashMap<Box<[u8]>, V>, max: usize) {
    if memory.len() >= max {
        memory.clear();
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
        let Memory { keys, signed } = &mut *self.memory();
        let is_known = signed.get(message).is_some_and(|known| {
            *known.public_key == *public_key && *known.signature == *signature
        });
        if is_known {
            return Ok(());
        }
        self.verify(keys, public_key, message, signature)?;
        if message.len() <= TLS_ISSUER_SIGNED_MAX_BYTES && chain::is_authority(message) {
            make_room(signed, TLS_ISSUER_SIGNATURES_MAX);
            let by = Signed {
                public_key: public_key.into(),
                signature: signature.into(),
            };
            signed.insert(message.into(), by);
        }
        Ok(())
    }

    fn fips(&self) -> bool {
        self.theirs.fips()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, PublicKeyData, SigningKey};
    use x509_parser::prelude::{FromDer, X509Certificate};

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
        algorithm.memory().keys.len()
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

    /// The signed part of a certificate that names itself an authority's.
    fn authority(name: &str, key: &KeyPair) -> Vec<u8> {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let certificate = params.self_signed(key).expect("signed");
        let (_, parsed) = X509Certificate::from_der(certificate.der()).expect("parses");
        parsed.tbs_certificate.as_ref().to_vec()
    }

    fn signatures(algorithm: &Remembering) -> usize {
        algorithm.memory().signed.len()
    }

    #[test]
    fn only_the_very_signature_on_an_authoritys_certificate_is_remembered() {
        let [algorithm, _] = with_both_memories();
        let [key, other] = [(); 2].map(|()| KeyPair::generate().expect("generated"));
        let says = |key: &KeyPair, message: &[u8], signature: &[u8]| {
            let verified = algorithm.verify_signature(key.der_bytes(), message, signature);
            verified.is_ok()
        };
        let message = authority("ca.test", &key);
        let signed = key.sign(&message).expect("signed");
        assert!(!says(
            &key,
            &message,
            &other.sign(&message).expect("signed")
        ));
        assert_eq!(signatures(&algorithm), 0, "a bad one");
        let leaf_signed = key.sign(b"a leaf").expect("signed");
        assert!(says(&key, b"a leaf", &leaf_signed));
        assert_eq!(signatures(&algorithm), 0, "not on an authority's");
        for _ in 0..2 {
            assert!(says(&key, &message, &signed));
            assert_eq!(signatures(&algorithm), 1);
        }
        let mut bent = signed.clone();
        *bent.last_mut().expect("not empty") ^= 1;
        assert!(!says(&key, &message, &bent), "another signature");
        assert!(!says(&other, &message, &signed), "another key");
        assert!(
            !says(&key, &authority("cb.test", &key), &signed),
            "other bytes"
        );
        // ECDSA signs the same bytes differently each time.
        assert!(says(&key, &message, &key.sign(&message).expect("signed")));
        assert_eq!(signatures(&algorithm), 1);
    }

    #[test]
    fn what_is_remembered_is_not_computed() {
        let [algorithm, _] = with_both_memories();
        let key = KeyPair::generate().expect("generated");
        let message = authority("ca.test", &key);
        let by = Signed {
            public_key: key.der_bytes().into(),
            signature: (*b"no signature at all").into(),
        };
        algorithm.memory().signed.insert(message[..].into(), by);
        let said = algorithm.verify_signature(key.der_bytes(), &message, b"no signature at all");
        assert!(said.is_ok());
    }

    #[test]
    fn certificates_without_end_take_no_memory_without_end() {
        let [algorithm, _] = with_both_memories();
        let key = KeyPair::generate().expect("generated");
        for number in 0..TLS_ISSUER_SIGNATURES_MAX + 2 {
            let message = authority(&format!("ca-{number}.test"), &key);
            let signed = key.sign(&message).expect("signed");
            let verified = algorithm.verify_signature(key.der_bytes(), &message, &signed);
            assert!(verified.is_ok());
        }
        assert_eq!((signatures(&algorithm), remembered(&algorithm)), (2, 1));
    }

    #[test]
    fn a_large_certificate_is_verified_each_time() {
        let [algorithm, _] = with_both_memories();
        let key = KeyPair::generate().expect("generated");
        for (label_bytes, remembered) in [(60, 1), (5_000, 1)] {
            let name = "a".repeat(60);
            let names = vec![format!("{name}.test"); label_bytes / 60];
            let mut params = CertificateParams::new(names).expect("names");
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let certificate = params.self_signed(&key).expect("signed");
            let (_, parsed) = X509Certificate::from_der(certificate.der()).expect("parses");
            let message = parsed.tbs_certificate.as_ref();
            assert_eq!(
                message.len() > TLS_ISSUER_SIGNED_MAX_BYTES,
                label_bytes > 60
            );
            let signed = key.sign(message).expect("signed");
            let verified = algorithm.verify_signature(key.der_bytes(), message, &signed);
            assert!(verified.is_ok());
            assert_eq!(signatures(&algorithm), remembered);
        }
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
        assert_eq!(memories.0.len(), KNOWN.len());
        assert_eq!((memories.keys(), memories.signatures()), (0, 0));
    }
}
