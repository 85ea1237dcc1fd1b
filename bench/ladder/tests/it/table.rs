//! The table: what brings each failure class about, and exactly how it must come out. Data only;
//! `classes` plays it, `page` shows it.

use model::FailureClass as C;

use crate::row::{
    Place, Row, at, by_test, degraded, down, http, http_with, https, https_with, ours, row, up,
};

/// A deadline that a healthy answer keeps, and that does not make the test long.
const SOON: &[&str] = &["--timeout-ms", "2000"];
/// The same for TLS, whose first hello of a process may stall a core of a busy machine for longer
/// than a tenth of the other one: then it does not judge.
const LATER: &[&str] = &["--timeout-ms", "8000"];
const KEYWORD: &[&str] = &["--keyword", "ringwatch-farm-canary"];

const NAME: &str = "dns total";
const CONNECTION: &str = "dns connect total";
const HANDSHAKE: &str = "dns connect tls total";
const NO_BYTE: &str = "dns connect ttfb total";
const ANSWER: &str = "dns connect ttfb body total";
const SECURE_ANSWER: &str = "dns connect tls ttfb body total";

/// Of what ends a check at any point: the ones before it, and that in which it ended.
const REACHED: &str = "those that it reached, total";

/// Every row, in the order of the classes.
pub(crate) static ROWS: &[Row] = &[
    down(
        C::DnsNxdomain,
        2,
        http("kind = 'dns_nxdomain'"),
        NAME,
        &[
            ("evidence.text", "the name does not exist"),
            ("evidence.dns.rcode", "3"),
            ("evidence.dns.server", "127.0.0.1:"),
        ],
    ),
    down(
        C::DnsNxdomain,
        2,
        http("kind = 'dns_cname_nxdomain'"),
        NAME,
        &[("evidence.dns.rcode", "3")],
    ),
    up(
        http("kind = 'dns_cname_chain'"),
        ANSWER,
        &[("status", "200"), ("evidence.dns.addresses.0", "127.1.0.")],
    ),
    down(
        C::DnsNoAddress,
        2,
        http("kind = 'dns_empty'"),
        NAME,
        &[
            ("evidence.text", "the name has no address"),
            ("evidence.dns.rcode", "0"),
        ],
    ),
    down(
        C::DnsNoAddress,
        2,
        at(Place::MailServers, &[]),
        NAME,
        &[
            ("evidence.text", "the name has no MX record"),
            ("evidence.dns.rcode", "0"),
        ],
    ),
    down(
        C::DnsServfail,
        2,
        http("kind = 'dns_servfail'"),
        NAME,
        &[
            (
                "evidence.text",
                "the name servers of the name failed: our resolver 127.0.0.1:",
            ),
            ("evidence.dns.rcode", "2"),
            ("evidence.dns.server", "127.0.0.1:"),
        ],
    ),
    down(
        C::DnsServfail,
        2,
        // The address of IPv6 is one that no host has a way to.
        http_with("kind = 'dns_a_servfail'", &["--allow", "ff00::/8"]),
        CONNECTION,
        &[
            (
                "evidence.text",
                "it has addresses of IPv6, and this host has no way to them",
            ),
            ("evidence.dns.addresses.0", "ff02::1"),
            ("evidence.addresses.0.local", "true"),
        ],
    ),
    down(
        C::DnsTimeout,
        1,
        http_with("kind = 'dns_timeout'", &["--timeout-ms", "8000"]),
        NAME,
        &[
            ("evidence.text", "the name was not resolved in time"),
            ("evidence.dns.server", "127.0.0.1:"),
            ("evidence.dns.tries", "3"),
        ],
    ),
    down(
        C::DnsTimeout,
        1,
        http_with("kind = 'dns_slow', delay_ms = 60000", SOON),
        NAME,
        &[
            ("evidence.text", "the name was not resolved in time"),
            ("evidence.dns.server", "127.0.0.1:"),
        ],
    ),
    down(
        C::DnsMalformed,
        2,
        http("kind = 'dns_malformed'"),
        NAME,
        &[
            ("evidence.text", "gave an answer that does not parse"),
            ("evidence.dns.server", "127.0.0.1:"),
            ("evidence.dns.tries", "3"),
        ],
    ),
    down(
        C::DnsMalformed,
        2,
        http("kind = 'dns_cname_long'"),
        NAME,
        &[("evidence.text", "does not parse or leads nowhere")],
    ),
    up(http("kind = 'dns_truncated'"), ANSWER, &[("status", "200")]),
    up(
        http("kind = 'dns_slow', delay_ms = 300"),
        ANSWER,
        &[("status", "200")],
    ),
    ours(
        C::DnsResolverSick,
        by_test(
            "engine/cores/tests/it/resolving.rs",
            "while_the_resolvers_are_sick_no_name_is_down",
        ),
        NAME,
        &[
            ("evidence.text", "our resolvers fail for"),
            ("evidence.text", "nothing is known of the site"),
        ],
    ),
    down(
        C::ConnectRefused,
        2,
        http("kind = 'refuse'"),
        CONNECTION,
        &[
            ("evidence.text", "refused the connection"),
            ("evidence.addresses.0.errno", "111"),
            ("evidence.addresses.0.local", "false"),
        ],
    ),
    down(
        C::ConnectRefused,
        2,
        at(Place::ClosedPort, &[]),
        "connect total",
        &[("evidence.errno", "111"), ("address", "127.0.0.1")],
    ),
    down(
        C::ConnectReset,
        2,
        // To Linux a reset in answer to a SYN is a refusal, and one behind the handshake meets TLS
        // or HTTP, but for a bare `tcp://` that looks late: `sockets.rs` of the cores.
        by_test(
            "engine/cores/tests/it/conformance/reset.rs",
            "a_peer_that_gives_up_what_it_began_to_open_is_a_reset",
        ),
        "connect total",
        &[
            ("evidence.text", "reset the connection"),
            ("evidence.errno", "104"),
            ("evidence.addresses.0.errno", "104"),
            ("evidence.addresses.0.local", "false"),
        ],
    ),
    down(
        C::ConnectUnreachable,
        2,
        // A router's word, which loopback has none of.
        by_test(
            "engine/cores/tests/it/conformance/unreachable.rs",
            "a_host_that_a_router_cannot_reach_is_unreachable",
        ),
        "connect total",
        &[
            ("evidence.addresses.0.errno", "113"),
            ("evidence.addresses.0.local", "false"),
        ],
    ),
    down(
        C::ConnectTimeout,
        1,
        http_with("kind = 'black_hole'", SOON),
        CONNECTION,
        &[
            ("evidence.text", "did not accept a connection in time"),
            ("evidence.addresses.0.errno", "110"),
        ],
    ),
    down(
        C::ConnectTimeout,
        1,
        at(Place::FullQueue, SOON),
        "connect total",
        &[
            ("evidence.text", "did not accept a connection in time"),
            ("evidence.addresses.0.errno", "110"),
        ],
    ),
    row(
        Some(C::ConnectLocal),
        None,
        "unknown",
        at(Place::Broadcast, &[]),
        "connect total",
        &[
            ("evidence.text", "this host cannot connect to"),
            ("evidence.errno", "101"),
            ("evidence.addresses.0.local", "true"),
        ],
    ),
    up(
        at(Place::OnlyTls12, &[]),
        SECURE_ANSWER,
        &[("tls.version", "TLSv1.2"), ("status", "200")],
    ),
    up(
        at(Place::OnlyTls13, &[]),
        SECURE_ANSWER,
        &[("tls.version", "TLSv1.3"), ("status", "200")],
    ),
    down(
        C::TlsHandshake,
        3,
        https("kind = 'tls_refused'"),
        HANDSHAKE,
        &[("evidence.text", "TLS alert 40, handshake_failure")],
    ),
    down(
        C::TlsHandshake,
        3,
        https("kind = 'close_at_accept'"),
        HANDSHAKE,
        &[(
            "evidence.text",
            "the server closed the connection instead of an answer",
        )],
    ),
    down(
        C::TlsUntrusted,
        3,
        https("kind = 'tls_self_signed'"),
        HANDSHAKE,
        &[
            ("evidence.text", "does not lead to a trusted authority"),
            ("tls.subjects.0", "CN=*.farm.test"),
        ],
    ),
    down(
        C::TlsUntrusted,
        3,
        https("kind = 'tls_incomplete_chain'"),
        HANDSHAKE,
        &[
            ("evidence.text", "leaves out an intermediate certificate"),
            ("tls.subjects.0", "CN=*.farm.test"),
        ],
    ),
    down(
        C::TlsName,
        3,
        https("kind = 'tls_wrong_name'"),
        HANDSHAKE,
        &[
            ("evidence.text", "but for *.elsewhere.test"),
            ("tls.subjects.0", "CN=*.elsewhere.test"),
        ],
    ),
    down(
        C::TlsAlert,
        3,
        https("kind = 'tls_unknown_name'"),
        HANDSHAKE,
        &[("evidence.text", "TLS alert 112, unrecognized_name")],
    ),
    down(
        C::TlsExpired,
        6,
        https("kind = 'tls_expired'"),
        HANDSHAKE,
        &[
            ("evidence.text", "expired on 2021-01-01"),
            ("tls.not_after_unix_s", "1609459200"),
            ("tls.subjects.1", "ringwatch farm intermediate 1"),
        ],
    ),
    up(
        https("kind = 'tls_expiring'"),
        SECURE_ANSWER,
        &[("tls.version", "TLSv1.3"), ("status", "200")],
    ),
    down(
        C::TlsNotYetValid,
        6,
        https("kind = 'tls_not_yet_valid'"),
        HANDSHAKE,
        &[
            ("evidence.text", "is not valid before 2090-01-01"),
            ("tls.not_before_unix_s", "3786912000"),
        ],
    ),
    down(
        C::TlsTimeout,
        1,
        https_with("kind = 'tls_silence'", LATER),
        HANDSHAKE,
        &[("evidence.text", "did not finish the TLS handshake in time")],
    ),
    down(
        C::TlsTimeout,
        1,
        https_with("kind = 'silence_at_accept'", LATER),
        HANDSHAKE,
        &[("evidence.text", "did not finish the TLS handshake in time")],
    ),
    degraded(
        C::TlsDeprecated,
        7,
        https("kind = 'tls_deprecated'"),
        HANDSHAKE,
        &[
            ("evidence.text", "speaks TLSv1.1 at most"),
            ("tls.version", "TLSv1.1"),
            ("tls.cipher", "TLS_RSA_WITH_AES_128_CBC_SHA"),
        ],
    ),
    degraded(
        C::TlsUnsupported,
        7,
        https("kind = 'tls_unsupported'"),
        HANDSHAKE,
        &[
            ("evidence.text", "cipher suites that clients give up"),
            ("tls.version", "TLSv1.2"),
            ("tls.cipher", "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA"),
        ],
    ),
    down(
        C::HttpStatus,
        0,
        http("kind = 'status', status = 503"),
        ANSWER,
        &[
            ("status", "503"),
            ("evidence.text", "answered with status 503"),
            ("evidence.head", "HTTP/1.1 503 Service Unavailable"),
        ],
    ),
    down(
        C::HttpStatus,
        0,
        https("kind = 'status', status = 404"),
        SECURE_ANSWER,
        &[("status", "404"), ("tls.version", "TLSv1.3")],
    ),
    down(
        C::HttpStatus,
        0,
        http("kind = 'status', status = 500, method = 'GET'"),
        ANSWER,
        &[("status", "500")],
    ),
    up(
        http_with(
            "kind = 'status', status = 500, method = 'GET'",
            &["--method", "HEAD"],
        ),
        ANSWER,
        &[("status", "200")],
    ),
    down(
        C::HttpStatus,
        0,
        http_with(
            "kind = 'status', status = 405, method = 'HEAD'",
            &["--method", "HEAD"],
        ),
        ANSWER,
        &[("status", "405")],
    ),
    down(
        C::HttpTimeout,
        1,
        http_with("kind = 'silence'", SOON),
        NO_BYTE,
        &[("evidence.text", "did not finish its answer in time")],
    ),
    down(
        C::HttpTimeout,
        1,
        http_with("kind = 'silence_at_accept'", SOON),
        NO_BYTE,
        &[("evidence.addresses.0.errno", "null")],
    ),
    down(
        C::HttpTimeout,
        1,
        http_with("kind = 'silence_body'", SOON),
        ANSWER,
        &[("status", "200"), ("evidence.head", "Content-Length: 1024")],
    ),
    down(
        C::HttpTimeout,
        1,
        http_with("kind = 'drip'", SOON),
        ANSWER,
        &[("evidence.head", "H")],
    ),
    down(
        C::HttpTimeout,
        1,
        https_with("kind = 'slow_first_byte', delay_ms = 60000", LATER),
        "dns connect tls ttfb total",
        &[("tls.version", "TLSv1.3")],
    ),
    down(
        C::HttpMalformed,
        2,
        http("kind = 'conflicting_length'"),
        ANSWER,
        &[
            ("evidence.text", "two Content-Length fields differ"),
            ("evidence.head", "Content-Length: 512"),
        ],
    ),
    up(
        http("kind = 'duplicate_length'"),
        ANSWER,
        &[("status", "200"), ("evidence.flags.0", "http_sloppy")],
    ),
    down(
        C::HttpHeaderTooLarge,
        2,
        http("kind = 'large_head'"),
        ANSWER,
        &[
            ("evidence.text", "larger than 64 KiB"),
            ("evidence.head", "X-Large-0: x"),
        ],
    ),
    down(
        C::HttpTooManyHeaders,
        2,
        http("kind = 'header_flood'"),
        ANSWER,
        &[
            ("evidence.text", "more than 128 fields"),
            ("evidence.head", "X-Flood-0: x"),
        ],
    ),
    degraded(
        C::Latency,
        0,
        http_with(
            "kind = 'slow_first_byte', delay_ms = 400",
            &["--max-latency-ms", "200"],
        ),
        ANSWER,
        &[
            ("status", "200"),
            ("evidence.text", "more slowly than max_latency_ms"),
        ],
    ),
    down(
        C::HttpReset,
        8,
        http("kind = 'reset'"),
        NO_BYTE,
        &[
            ("evidence.text", "reset the connection"),
            ("evidence.errno", "104"),
        ],
    ),
    down(
        C::HttpReset,
        8,
        http("kind = 'reset_at_accept'"),
        NO_BYTE,
        &[("evidence.addresses.0.errno", "null")],
    ),
    down(
        C::HttpReset,
        8,
        http("kind = 'reset_head'"),
        ANSWER,
        &[
            ("evidence.errno", "104"),
            ("evidence.head", "HTTP/1.1 200 OK"),
        ],
    ),
    down(
        C::HttpReset,
        8,
        http("kind = 'reset_body'"),
        ANSWER,
        &[("status", "200"), ("evidence.errno", "104")],
    ),
    down(
        C::HttpTruncated,
        8,
        http("kind = 'truncated'"),
        ANSWER,
        &[("status", "200"), ("evidence.head", "Content-Length: 1024")],
    ),
    down(
        C::HttpTruncated,
        8,
        http("kind = 'close_at_accept'"),
        NO_BYTE,
        &[("evidence.text", "closed before the first byte")],
    ),
    down(
        C::HttpBadChunk,
        8,
        http("kind = 'bad_chunk'"),
        ANSWER,
        &[
            ("status", "200"),
            ("evidence.head", "Transfer-Encoding: chunked"),
        ],
    ),
    down(
        C::HttpBadEncoding,
        8,
        http_with("kind = 'bad_gzip'", KEYWORD),
        ANSWER,
        &[
            ("status", "200"),
            ("evidence.head", "Content-Encoding: gzip"),
        ],
    ),
    up(http("kind = 'bad_gzip'"), ANSWER, &[("status", "200")]),
    down(
        C::RedirectLimit,
        4,
        http("kind = 'redirect_chain'"),
        ANSWER,
        &[
            ("evidence.text", "more than 10 redirects: Location: \"/hop/"),
            ("redirects.9.status", "302"),
            ("redirects.9.url", "/hop/9"),
        ],
    ),
    down(
        C::RedirectLoop,
        4,
        http("kind = 'redirect_loop'"),
        ANSWER,
        &[
            ("evidence.text", "that they came from: Location: \"/loop\""),
            ("redirects.0.status", "302"),
            ("evidence.head", "Location: /loop"),
        ],
    ),
    down(
        C::RedirectRefused,
        4,
        http_with("kind = 'redirect_loop'", &["--redirect", "fail"]),
        ANSWER,
        &[
            (
                "evidence.text",
                "`redirect = fail` forbids: Location: \"/loop\"",
            ),
            ("status", "302"),
        ],
    ),
    down(
        C::RedirectBadLocation,
        4,
        http("kind = 'redirect_bad_location'"),
        ANSWER,
        &[
            (
                "evidence.text",
                "neither http nor https: Location: \"mailto:",
            ),
            ("evidence.head", "Location: mailto:"),
        ],
    ),
    down(
        C::BodyKeywordMissing,
        5,
        http_with("kind = 'keyword_missing'", KEYWORD),
        ANSWER,
        &[
            ("evidence.text", "does not have the keyword"),
            ("evidence.excerpt", "something else"),
        ],
    ),
    down(
        C::BodyKeywordMissing,
        5,
        at(Place::Addresses, &["--expect", "192.0.2.1"]),
        NAME,
        &[
            ("evidence.text", "the A records lack the expected 192.0.2.1"),
            ("evidence.head", "127.1.0."),
            ("evidence.dns.server", "127.0.0.1:"),
        ],
    ),
    up(
        at(Place::Addresses, &[]),
        NAME,
        &[("evidence.head", "127.1.0.")],
    ),
    down(
        C::BodyForbidden,
        5,
        http_with(
            "kind = 'forbidden_text'",
            &["--forbidden", "ringwatch-farm-defacement"],
        ),
        ANSWER,
        &[
            ("evidence.text", "ringwatch-farm-defacement"),
            (
                "evidence.excerpt",
                "ringwatch-farm-canary ringwatch-farm-defacement",
            ),
        ],
    ),
    row(
        Some(C::SafetyBlocked),
        Some(9),
        "unknown",
        at(Place::NotAllowed, &[]),
        NAME,
        &[
            ("evidence.text", "is not a public address"),
            ("evidence.dns.addresses.0", "127.1.0."),
        ],
    ),
    row(
        Some(C::SafetyBlocked),
        Some(9),
        "unknown",
        http("kind = 'redirect_private'"),
        ANSWER,
        &[
            ("evidence.text", "10.0.0.1:80 is not a public address"),
            ("redirects.0.status", "302"),
        ],
    ),
    ours(
        C::LocalPressure,
        by_test(
            "engine/cores/tests/it/honesty.rs",
            "a_timeout_while_we_were_stalled_is_ours",
        ),
        REACHED,
        &[("evidence.text", "too busy to judge: it stood still")],
    ),
    ours(
        C::LocalShed,
        by_test(
            "engine/cores/tests/it/honesty.rs",
            "one_shots_beyond_what_may_wait_are_shed_and_told",
        ),
        "none: it never began",
        &[("evidence.text", "too many checks wait")],
    ),
    ours(
        C::LocalCancelled,
        by_test(
            "engine/cores/tests/it/honesty.rs",
            "a_check_that_a_drain_cancels_keeps_the_phases_that_it_reached",
        ),
        REACHED,
        &[("evidence.text", "cancelled")],
    ),
];
