//! What a packed body really holds is no more than it is counted with: counted by the allocator.
//! One test in a process of its own, since the count is of the whole process.

#[path = "../it/driver.rs"]
#[allow(dead_code)]
mod driver;

use std::alloc::System;
use std::io::Write;

use flate2::write::ZlibEncoder;
use flate2::{Compression, GzBuilder};
use model::target::TargetSpec;
use prober::{Attempt, Rules, Shared};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use driver::{begun_with, shared};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The most that a field of a gzip header has where it has a length.
const FIELD_BYTES: usize = u16::MAX as usize;

/// A check that has read the head and `body`, which is not all of it.
fn begun(shared: &Shared, rules: &Rules, coding: &str, body: &[u8]) -> Attempt {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {}\r\n\r\n",
        body.len() + 1_000
    );
    let pieces = [head.as_bytes()].into_iter().chain(body.chunks(4_096));
    let attempt = begun_with(shared, rules, pieces);
    assert_eq!(attempt.report().class, None, "{coding}: it goes on");
    attempt
}

/// Text that fills the window of deflate, and more.
fn page() -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b' ' + (state >> 24) as u8 % 90
    };
    (0..200_000).map(|_| next()).collect()
}

/// Without its last bytes.
fn gzip(body: &[u8], field_bytes: usize) -> Vec<u8> {
    let field = vec![b'x'; field_bytes];
    let builder = GzBuilder::new()
        .extra(field.clone())
        .filename(field.clone())
        .comment(field);
    let mut encoder = builder.write(Vec::new(), Compression::default());
    encoder.write_all(body).expect("memory");
    let mut whole = encoder.finish().expect("memory");
    whole.truncate(whole.len() - 20);
    whole
}

fn zlib(body: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).expect("memory");
    let mut whole = encoder.finish().expect("memory");
    whole.truncate(whole.len() - 20);
    whole
}

#[test]
fn a_packed_body_holds_no_more_than_it_is_counted_with() {
    let shared = shared();
    let spec = TargetSpec {
        url: "http://e.test/".to_owned(),
        keyword: Some("absent".to_owned()),
        ..TargetSpec::default()
    };
    let rules = Rules::from_config(&spec.parse().expect("valid")).expect("not all default");
    let held = |coding: &str, body: &[u8]| {
        let region = Region::new(ALLOCATOR);
        let attempt = begun(&shared, &rules, coding, body);
        let change = region.change();
        let counted = shared.decoder_bytes();
        drop(attempt);
        assert_eq!(shared.decoder_bytes(), 0);
        let held = change.bytes_allocated - change.bytes_deallocated;
        (held, counted)
    };
    let page = page();
    let (without, _) = held("identity", &page);
    assert!(without < 16 * 1_024, "{without} bytes for a plain body");
    let long = gzip(&page, FIELD_BYTES);
    for (coding, body) in [
        ("gzip", &long[..100_000]),
        ("gzip", &long[..2 * FIELD_BYTES + 100]),
        ("gzip", &long[..3 * FIELD_BYTES]),
        ("gzip", &long),
        ("gzip", &gzip(&page, 0)),
        ("deflate", &zlib(&page)),
        ("gzip, deflate", &zlib(&long)),
    ] {
        let (held, counted) = held(coding, body);
        let begun = body.len();
        assert!(
            held <= without + counted,
            "{coding}, {begun} bytes: {held} are held, {counted} counted"
        );
        assert!(counted > 0, "{coding}");
    }
}
