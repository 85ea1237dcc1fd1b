//! What hostile bytes must never break: one body per fuzz target, each a plain function that
//! panics when a property fails.
//!
//! The bodies are compiled for this crate's own tests, which replay the corpora with them, and
//! under its feature `fuzzing`, by which `tools/fuzz` links them. They stand beside their machines
//! (`http1::fuzzing`, `http1::coding::fuzzing`, `resolver::fuzzing`, `tls::fuzzing`), where they
//! see what the unit tests there see: no machine is made public for them.

use model::TargetUrl;
use model::limits::{LOCATION_MAX_BYTES, URL_MAX_BYTES};

use crate::http1::coding::fuzzing::coding;
use crate::http1::fuzzing::{chunked, head};
use crate::resolver::fuzzing::message as dns_message;
use crate::resolver::fuzzing::trace::trace as dns_trace;
use crate::tls::fuzzing::{certificate, server_hello};

/// A target's name, which is that of its corpus, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// Every target of this crate.
pub const TARGETS: &[Target] = &[
    ("head", head),
    ("chunked", chunked),
    ("coding", coding),
    ("dns_message", dns_message),
    ("dns_trace", dns_trace),
    ("url", url),
    ("location", location),
    ("server_hello", server_hello),
    ("certificate", certificate),
];

/// A URL that is accepted has one form, which a request line and a log can carry.
fn url(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(url) = TargetUrl::parse(text) else {
        return;
    };
    let shown = url.to_string();
    assert_eq!(TargetUrl::parse(&shown).as_ref(), Ok(&url), "{shown:?}");
    assert!(shown.len() <= URL_MAX_BYTES);
    assert!(
        shown.bytes().all(|byte| byte.is_ascii_graphic()),
        "{shown:?}"
    );
    assert!(!shown.contains('#'), "a fragment: {shown:?}");
    assert!(url.path().starts_with('/') && url.port() != 0);
    let (_, after_scheme) = shown.split_once("://").expect("a URL has a scheme");
    let authority = after_scheme.split('/').next().unwrap_or_default();
    assert!(!authority.contains(['@', '?', '\\']), "{shown:?}");
    assert_eq!(authority, authority.to_ascii_lowercase());
}

/// A redirect leads to a URL that stays itself when it is written down, or nowhere; the first line
/// of `data` is where it starts, the rest the Location.
fn location(data: &[u8]) {
    let end = data.iter().position(|&byte| byte == b'\n');
    let (base, location) = data.split_at(end.unwrap_or(data.len()));
    let Some(base) = std::str::from_utf8(base)
        .ok()
        .and_then(|text| TargetUrl::parse(text).ok())
    else {
        return;
    };
    let Ok(url) = base.join(location.get(1..).unwrap_or_default()) else {
        return;
    };
    let shown = url.to_string();
    assert!(shown.len() <= LOCATION_MAX_BYTES);
    assert!(!shown.contains('#') && url.port() != 0);
    assert_eq!(base.join(shown.as_bytes()).as_ref(), Ok(&url), "{shown:?}");
    if shown.len() <= URL_MAX_BYTES {
        assert_eq!(TargetUrl::parse(&shown).as_ref(), Ok(&url), "{shown:?}");
    }
}

/// `bytes` in pieces of 1 to 64 bytes, by `seed`.
pub(crate) fn pieces(mut bytes: &[u8], seed: u8) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    let mut state = seed;
    while !bytes.is_empty() {
        state = state.wrapping_mul(5).wrapping_add(17);
        let (piece, rest) = bytes.split_at(bytes.len().min(1 + usize::from(state >> 2)));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    const INPUTS_MAX: usize = 200;
    const INPUT_MAX_BYTES: usize = 4_096;

    fn corpora() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
    }

    fn entries(folder: &Path) -> Vec<PathBuf> {
        let listed = std::fs::read_dir(folder).expect("the corpus is checked in");
        let mut entries: Vec<PathBuf> = listed
            .map(|entry| entry.expect("a folder can be read").path())
            .collect();
        entries.sort();
        entries
    }

    #[test]
    fn every_input_of_the_corpora_keeps_the_properties() {
        for (name, body) in TARGETS {
            let inputs = entries(&corpora().join(name));
            assert!(
                (1..=INPUTS_MAX).contains(&inputs.len()),
                "{name}: {} inputs",
                inputs.len()
            );
            for input in inputs {
                // Shown when the body panics.
                println!("{}", input.display());
                let bytes = std::fs::read(&input).expect("a file of the corpus can be read");
                assert!(bytes.len() <= INPUT_MAX_BYTES);
                body(&bytes);
            }
        }
    }

    #[test]
    fn every_corpus_has_its_target() {
        for folder in entries(&corpora()) {
            let known = TARGETS.iter().any(|(name, _)| folder.ends_with(name));
            assert!(known, "{} is nobody's corpus", folder.display());
        }
    }

    #[test]
    fn pieces_are_small_and_add_up() {
        let bytes: Vec<u8> = (0..=255).cycle().take(1_000).collect();
        for seed in [0, 7, 255] {
            let pieces = pieces(&bytes, seed);
            assert!(pieces.iter().all(|piece| (1..=64).contains(&piece.len())));
            assert_eq!(pieces.concat(), bytes);
        }
    }
}
