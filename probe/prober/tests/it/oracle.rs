//! The corpus read by hyper's client beside ours: what both say is compared, and every difference
//! is a row with a reason in `docs/http-differences.md`, no more and no fewer.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::rt::ReadBufCursor;
use hyper::{Request, Response, body::Incoming};
use model::target::{Method, TargetSpec};
use prober::{AttemptSpec, Rules};

use crate::driver::{End, Script, http, run};
use crate::responses::{self, Case};

/// What a client makes of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    /// Its status, and the bytes of its body; none when it was not read.
    Accepted(u16, Option<u64>),
    /// It is refused, for a reason.
    Refused(String),
    /// More is waited for.
    Waits,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted(status, Some(bytes)) => write!(f, "{status}, {bytes} B"),
            Self::Accepted(status, None) => write!(f, "{status}"),
            Self::Refused(why) => f.write_str(why),
            Self::Waits => f.write_str("waits"),
        }
    }
}

impl Said {
    /// The same, up to the words of a refusal and to bodies that one of both does not read.
    fn agrees(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Accepted(one, None), Self::Accepted(another, _)) => one == another,
            (Self::Refused(_), Self::Refused(_)) => true,
            _ => self == other,
        }
    }
}

/// Our word on the first answer of `case`: whatever its status, without a rule for its body, and
/// without following it anywhere.
fn ours(case: &Case) -> Said {
    let spec = TargetSpec {
        url: "http://e.test/".to_owned(),
        expect_status: Some("100-599".to_owned()),
        redirect: Some("fail".to_owned()),
        ..TargetSpec::default()
    };
    let rules = Rules::from_config(&spec.parse().expect("valid")).expect("not all default");
    let spec = AttemptSpec {
        method: case.method,
        rules: Some(&rules),
        ..http()
    };
    let script = Script::answering(vec![&case.connections[0]], case.end);
    let run = run(&spec, script, false);
    match run.class() {
        None => Said::Accepted(
            run.report().status,
            Some(u64::from(run.attempt.body_bytes())),
        ),
        Some("redirect.refused") => Said::Accepted(run.report().status, None),
        Some("http.timeout") => Said::Waits,
        Some(class) => Said::Refused(class.to_owned()),
    }
}

/// One end of a connection in memory: once something was written to it, it brings its bytes.
struct Wire<'a> {
    bytes: &'a [u8],
    end: End,
    asked: bool,
    reader: Option<Waker>,
}

impl hyper::rt::Read for Wire<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.asked && !self.bytes.is_empty() {
            let (now, later) = self
                .bytes
                .split_at(self.bytes.len().min(buffer.remaining()));
            buffer.put_slice(now);
            self.bytes = later;
            return Poll::Ready(Ok(()));
        }
        self.reader = Some(context.waker().clone());
        match self.end {
            End::Eof if self.asked => Poll::Ready(Ok(())),
            End::Errno(errno) if self.asked => {
                Poll::Ready(Err(io::Error::from_raw_os_error(errno)))
            }
            _ => Poll::Pending,
        }
    }
}

impl hyper::rt::Write for Wire<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.asked = true;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Whether somebody asked to be polled again.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The word of hyper's client, with its defaults, on the first answer of `case`.
fn hypers(case: &Case) -> Said {
    let wire = Wire {
        bytes: &case.connections[0],
        end: case.end,
        asked: false,
        reader: None,
    };
    let request = Request::builder()
        .method(case.method.as_str())
        .uri("/")
        .header("Host", "e.test")
        .body(Empty::<Bytes>::new())
        .expect("a valid request");
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut context = Context::from_waker(&waker);
    let Poll::Ready(pair) = pin!(http1::handshake(wire)).poll(&mut context) else {
        panic!("hyper's handshake has nothing to wait for");
    };
    let (mut sender, connection) = pair.expect("nothing was sent that can fail");
    let mut connection = pin!(connection);
    let mut answer = pin!(async move { judge(sender.send_request(request).await).await });
    let mut open = true;
    loop {
        open = open && connection.as_mut().poll(&mut context).is_pending();
        if let Poll::Ready(said) = answer.as_mut().poll(&mut context) {
            return said;
        }
        if !woken.0.swap(false, Ordering::Relaxed) {
            return Said::Waits;
        }
    }
}

async fn judge(response: hyper::Result<Response<Incoming>>) -> Said {
    let mut response = match response {
        Ok(response) => response,
        Err(error) => return Said::Refused(error.to_string()),
    };
    let mut bytes = 0;
    while let Some(frame) = response.body_mut().frame().await {
        match frame {
            Ok(frame) => bytes += frame.data_ref().map_or(0, Bytes::len) as u64,
            Err(error) => return Said::Refused(error.to_string()),
        }
    }
    Said::Accepted(response.status().as_u16(), Some(bytes))
}

/// The document's rows: case to ours, hyper's and the reason.
fn rows(document: &str) -> BTreeMap<String, [String; 3]> {
    let rows = document.lines().filter(|line| line.starts_with("| `"));
    rows.map(|line| {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        let mut cell = || cells.next().expect(line).to_owned();
        let name = cell().trim_matches('`').to_owned();
        (name, [cell(), cell(), cell()])
    })
    .collect()
}

#[test]
fn every_difference_to_hyper_is_in_the_document_with_its_reason() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/http-differences.md");
    let known = rows(&std::fs::read_to_string(path).expect("the document is checked in"));
    let mut differences = BTreeMap::new();
    for case in responses::all() {
        let (ours, hypers) = (ours(case), hypers(case));
        if !ours.agrees(&hypers) {
            let why = known.get(&case.name).map_or("", |row| row[2].as_str());
            let row = [ours.to_string(), hypers.to_string(), why.to_owned()];
            differences.insert(case.name.clone(), row);
        }
    }
    let explained = differences.values().all(|row| !row[2].is_empty());
    let table: Vec<String> = differences
        .iter()
        .map(|(name, row)| format!("| `{name}` | {} |", row.join(" | ")))
        .collect();
    assert!(
        explained && differences == known,
        "docs/http-differences.md must have exactly these rows, each with its reason:\n{}",
        table.join("\n")
    );
}

#[test]
fn a_difference_is_a_status_a_length_or_that_only_one_refuses() {
    use Said::{Accepted, Refused, Waits};
    let refused = |why: &str| Refused(why.to_owned());
    assert!(Accepted(200, Some(5)).agrees(&Accepted(200, Some(5))));
    assert!(Accepted(302, None).agrees(&Accepted(302, Some(5))));
    assert!(refused("http.malformed").agrees(&refused("invalid HTTP version parsed")));
    for (one, another) in [
        (Accepted(200, Some(5)), Accepted(200, Some(4))),
        (Accepted(200, Some(5)), Accepted(203, Some(5))),
        (Accepted(200, Some(5)), refused("x")),
        (refused("x"), Waits),
    ] {
        assert!(!one.agrees(&another), "{one} is not {another}");
    }
}

#[test]
fn hyper_hears_what_our_client_hears() {
    let named = |name: &str| {
        let mut cases = responses::all().iter();
        cases.find(|case| case.name == name).expect(name)
    };
    assert_eq!(hypers(named("chunked/three")), Said::Accepted(200, Some(5)));
    assert_eq!(
        hypers(named("statuses/16-interims")),
        Said::Accepted(200, Some(2))
    );
    assert_eq!(hypers(named("endings/silence")), Said::Waits);
    assert!(matches!(hypers(named("malformed/ssh")), Said::Refused(_)));
    let head = named("statuses/head-with-length");
    assert_eq!(
        (head.method, hypers(head)),
        (Method::Head, Said::Accepted(200, Some(0)))
    );
}
