//! Responses with the verdict that each of them must get.

use model::target::Method;

use crate::driver::{ECONNRESET, End};

pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) method: Method,
    pub(crate) bytes: Vec<u8>,
    pub(crate) end: End,
    pub(crate) class: Option<&'static str>,
    pub(crate) status: u16,
    pub(crate) sloppy: bool,
}

const UP: Option<&str> = None;
const MALFORMED: Option<&str> = Some("http.malformed");
const TRUNCATED: Option<&str> = Some("http.truncated");
const BAD_CHUNK: Option<&str> = Some("http.bad_chunk");
const TIMEOUT: Option<&str> = Some("http.timeout");
const STATUS: Option<&str> = Some("http.status");
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

fn case(
    name: &'static str,
    text: impl Into<Vec<u8>>,
    end: End,
    class: Option<&'static str>,
    status: u16,
) -> Case {
    let bytes = text.into();
    Case {
        name,
        method: Method::Get,
        bytes,
        end,
        class,
        status,
        sloppy: false,
    }
}

fn sloppy(case: Case) -> Case {
    Case {
        sloppy: true,
        ..case
    }
}

fn chunked(body: &str) -> String {
    format!("{CHUNKED}{body}")
}

fn fields(fields: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}")
}

pub(crate) fn all() -> Vec<Case> {
    [
        good(),
        interims(),
        statuses(),
        tolerated(),
        malformed(),
        chunks(),
        broken_chunks(),
        endings(),
        large(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn good() -> Vec<Case> {
    use End::{Eof, Silence};
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let head = |name, text: &str| Case {
        method: Method::Head,
        ..case(name, text, Silence, UP, 200)
    };
    vec![
        case("length", ok, Silence, UP, 200),
        case(
            "length then more",
            format!("{ok}GARBAGE\0\r\n"),
            Silence,
            UP,
            200,
        ),
        case(
            "empty",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            Silence,
            UP,
            200,
        ),
        case("to the close", "HTTP/1.0 200 OK\r\n\r\nhello", Eof, UP, 200),
        case(
            "to the close, empty",
            "HTTP/1.1 200 OK\r\n\r\n",
            Eof,
            UP,
            200,
        ),
        case(
            "to the close, never closed",
            "HTTP/1.1 200 OK\r\n\r\nhello",
            Silence,
            UP,
            200,
        ),
        case(
            "no reason",
            "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
            Silence,
            UP,
            200,
        ),
        case(
            "event stream",
            fields("Content-Type: text/event-stream\r\n", ""),
            Silence,
            UP,
            200,
        ),
        head(
            "HEAD with a length",
            "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n",
        ),
        head("HEAD chunked", CHUNKED),
        case(
            "to the close, with a type",
            fields("Content-Type: a/b;\tc=d\r\n", "x"),
            Eof,
            UP,
            200,
        ),
    ]
}

fn interims() -> Vec<Case> {
    use End::{Eof, Silence};
    let early = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    vec![
        case("one interim", format!("{early}{ok}"), Silence, UP, 200),
        case(
            "16 interims",
            format!("{}{ok}", early.repeat(16)),
            Silence,
            UP,
            200,
        ),
        case(
            "17 interims",
            format!("{}{ok}", early.repeat(17)),
            Silence,
            MALFORMED,
            0,
        ),
        case("interim then close", early, Eof, TRUNCATED, 0),
    ]
}

fn statuses() -> Vec<Case> {
    use End::Silence;
    let with = |status: u16| format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
    vec![
        case("204", "HTTP/1.1 204 No Content\r\n\r\n", Silence, UP, 204),
        case(
            "304",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
            Silence,
            UP,
            304,
        ),
        case("301 without Location", with(301), Silence, UP, 301),
        case("399", with(399), Silence, UP, 399),
        case("400", with(400), Silence, STATUS, 400),
        case(
            "404 with a broken body",
            format!("{}zz", with(404)),
            Silence,
            STATUS,
            404,
        ),
        case(
            "503 chunked",
            CHUNKED.replace("200", "503") + "broken",
            Silence,
            STATUS,
            503,
        ),
        case("599", with(599), Silence, STATUS, 599),
        case(
            "101",
            "HTTP/1.1 101 Switching\r\n\r\n\0\x01",
            Silence,
            STATUS,
            101,
        ),
    ]
}

fn tolerated() -> Vec<Case> {
    use End::Silence;
    let ok = |name, text: &str| sloppy(case(name, text, Silence, UP, 200));
    vec![
        ok("bare LF", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok"),
        ok(
            "one bare LF",
            "HTTP/1.1 200 OK\r\nA: b\nContent-Length: 2\r\n\r\nok",
        ),
        ok(
            "empty lines first",
            "\r\n\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        ),
        ok(
            "obs-fold",
            &fields("A: b\r\n\tc\r\nContent-Length: 2\r\n", "ok"),
        ),
        ok(
            "space before colon",
            &fields("Content-Length : 2\r\n", "ok"),
        ),
        ok(
            "equal lengths",
            &fields("Content-Length: 2\r\nContent-Length: 2\r\n", "ok"),
        ),
        ok(
            "a list of equal lengths",
            &fields("Content-Length: 2, 2\r\n", "ok"),
        ),
        ok(
            "trailing space in a number",
            &fields("Content-Length: 2 \r\n", "ok"),
        ),
        ok(
            "TE and CL",
            &fields(
                "Content-Length: 99\r\nTransfer-Encoding: chunked\r\n",
                "0\r\n\r\n",
            ),
        ),
        ok(
            "control byte in a value",
            &fields("A: \u{1}\r\nContent-Length: 2\r\n", "ok"),
        ),
        ok("HTTP/1.7", "HTTP/1.7 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        ok(
            "sloppy interim",
            "HTTP/1.1 100 Go\n\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        ),
        ok(
            "HTTP/1.0 chunked",
            &fields("Transfer-Encoding: chunked\r\n", "0").replace("1.1", "1.0"),
        ),
    ]
}

fn malformed() -> Vec<Case> {
    use End::{Eof, Silence};
    let bad = |name, text: &str| case(name, text, Silence, MALFORMED, 0);
    vec![
        bad("another protocol", "SSH-2.0-OpenSSH_9.6\r\n"),
        bad("HTTP/2", "HTTP/2 200 OK\r\n\r\n"),
        bad("HTTP/0.9", "<html>hello</html>"),
        bad("status of two digits", "HTTP/1.1 20 OK\r\n"),
        bad("status 600", "HTTP/1.1 600 OK\r\n"),
        bad("status 99", "HTTP/1.1 099 OK\r\n\r\n"),
        bad("NUL in the reason", "HTTP/1.1 200 O\0K\r\n"),
        bad(
            "conflicting lengths",
            &fields("Content-Length: 2\r\nContent-Length: 3\r\n", "ok"),
        ),
        bad(
            "length not a number",
            &fields("Content-Length: two\r\n", "ok"),
        ),
        bad(
            "length overflows",
            &fields("Content-Length: 99999999999999999999\r\n", "ok"),
        ),
        bad("negative length", &fields("Content-Length: -2\r\n", "ok")),
        bad("NUL in a value", &fields("A: b\0\r\n", "")),
        bad("bare CR in a value", &fields("A: b\rc\r\n", "")),
        bad("no colon", &fields("hello\r\n", "")),
        bad("space in a name", &fields("a b: c\r\n", "")),
        bad("no name", &fields(": c\r\n", "")),
        case("half a status line", "HTTP/1.1 20", Eof, TRUNCATED, 0),
        case(
            "status 600 and close",
            "HTTP/1.1 600 OK\r\n",
            Eof,
            MALFORMED,
            0,
        ),
        case(
            "bad field, never ended",
            "HTTP/1.1 200 OK\r\nhello\r\n",
            Silence,
            TIMEOUT,
            0,
        ),
    ]
}

fn chunks() -> Vec<Case> {
    use End::{Eof, Silence};
    vec![
        case(
            "chunks",
            chunked("5\r\nhello\r\n0\r\n\r\n"),
            Silence,
            UP,
            200,
        ),
        case(
            "chunks and trailers",
            chunked("1;x=y\r\nh\r\n0\r\nA: b\r\n\r\n"),
            Silence,
            UP,
            200,
        ),
        case(
            "chunks never ended",
            chunked("5\r\nhello\r\n"),
            Silence,
            UP,
            200,
        ),
        case(
            "gzip, chunked",
            CHUNKED.replace(": c", ": gzip, c") + "0\r\n\r\n",
            Silence,
            UP,
            200,
        ),
        case(
            "chunked, gzip",
            CHUNKED.replace("d\r", "d, gzip\r") + "zz",
            Eof,
            UP,
            200,
        ),
        case("last size line, then close", chunked("0\r\n"), Eof, UP, 200),
        sloppy(case(
            "chunks with bare LF",
            chunked("5\nhello\n0\n\n"),
            Silence,
            UP,
            200,
        )),
        sloppy(case(
            "blank after a size",
            chunked("5 \r\nhello\r\n0\r\n\r\n"),
            Silence,
            UP,
            200,
        )),
    ]
}

fn broken_chunks() -> Vec<Case> {
    use End::{Eof, Silence};
    let bad = |name, body: &str| case(name, chunked(body), Silence, BAD_CHUNK, 200);
    vec![
        case("close in a chunk", chunked("5\r\nhel"), Eof, TRUNCATED, 200),
        case(
            "close between chunks",
            chunked("5\r\nhello\r\n"),
            Eof,
            TRUNCATED,
            200,
        ),
        case(
            "close in a trailer",
            chunked("0\r\nA: b\r\n"),
            Eof,
            TRUNCATED,
            200,
        ),
        bad("size not hexadecimal", "5\r\nhello\r\nxyz\r\n"),
        bad("chunk longer than its size", "4\r\nhello\r\n"),
        bad("size overflows", "fffffffffffffffff\r\n"),
        bad("trailer without a colon", "0\r\nhello\r\n\r\n"),
        bad("no size", "\r\n"),
    ]
}

fn endings() -> Vec<Case> {
    use End::{Eof, Errno, Silence};
    let reset = Errno(ECONNRESET);
    let half = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf";
    let broken = Some("http.reset");
    vec![
        case("close before any byte", "", Eof, TRUNCATED, 0),
        case("reset before any byte", "", reset, broken, 0),
        case("silence", "", Silence, TIMEOUT, 0),
        case(
            "close in the head",
            "HTTP/1.1 200 OK\r\nA: b\r\n",
            Eof,
            TRUNCATED,
            0,
        ),
        case(
            "reset in the head",
            "HTTP/1.1 200 OK\r\nA: b\r\n",
            reset,
            broken,
            0,
        ),
        case(
            "silence in the head",
            "HTTP/1.1 200 OK\r\nA: b\r\n",
            Silence,
            TIMEOUT,
            0,
        ),
        case("close in the body", half, Eof, TRUNCATED, 200),
        case("reset in the body", half, reset, broken, 200),
        case("silence in the body", half, Silence, TIMEOUT, 200),
        case(
            "reset of a body to the close",
            "HTTP/1.1 200 OK\r\n\r\nx",
            reset,
            broken,
            200,
        ),
        case(
            "reset after the end",
            format!("{half}-done"),
            reset,
            UP,
            200,
        ),
    ]
}

fn large() -> Vec<Case> {
    use End::{Eof, Silence};
    let head = |length: usize| format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    let sent = |length: usize, body: usize| [head(length).into_bytes(), vec![b'x'; body]].concat();
    let mib = 1024 * 1024;
    let many = |count: usize| fields(&"A: b\r\n".repeat(count), "");
    let too_large = Some("http.header_too_large");
    let long = format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "x".repeat(70_000));
    vec![
        case("a mebibyte", sent(mib, mib), Silence, UP, 200),
        case(
            "a mebibyte less one",
            sent(mib, mib - 1),
            Eof,
            TRUNCATED,
            200,
        ),
        case("more than a mebibyte", sent(mib + 1, mib), Silence, UP, 200),
        case("a long body cut", sent(mib + 1, 1_000), Eof, TRUNCATED, 200),
        case(
            "a long body that is slow",
            sent(mib + 1, 1_000),
            Silence,
            UP,
            200,
        ),
        case("128 fields", many(128), Eof, UP, 200),
        case(
            "129 fields",
            many(129),
            Eof,
            Some("http.too_many_headers"),
            0,
        ),
        case("70 kB of head", long.clone(), Silence, too_large, 0),
        case(
            "70 kB of head, status 600",
            long.replace("200", "600"),
            Silence,
            MALFORMED,
            0,
        ),
        case(
            "70 kB of empty lines",
            "\r\n".repeat(35_000),
            Silence,
            too_large,
            0,
        ),
    ]
}
