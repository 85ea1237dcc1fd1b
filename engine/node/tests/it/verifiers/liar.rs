//! Verifiers that do not keep to the protocol, each in its own manner.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use serde_json::{Value, json};

/// How it answers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Manner {
    /// Something that is no JSON.
    Unreadable,
    /// Another question.
    WrongRequest,
    /// The question, twice.
    Twice,
    /// Not at all.
    Silent,
    /// From somewhere else.
    WrongVantage,
    /// 503.
    Overloaded,
    /// 504.
    Unknown,
    /// No question.
    Empty,
    /// Half an answer.
    Broken,
    /// The answer, in more bytes than any has.
    Huge,
}

impl Manner {
    /// The name of the vantage.
    pub(super) fn vantage(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::WrongRequest => "wrong_request",
            Self::Twice => "twice",
            Self::Silent => "silent",
            Self::WrongVantage => "wrong_vantage",
            Self::Overloaded => "overloaded",
            Self::Unknown => "unknown",
            Self::Empty => "empty",
            Self::Broken => "broken",
            Self::Huge => "huge",
        }
    }

    /// Status and body of the answer to `asked`.
    fn answer(self, asked: &Value) -> (&'static str, String) {
        let id = asked["requests"][0]["request_id"].clone();
        let vantage = self.vantage();
        let result = |id: &Value| {
            json!({
                "request_id": id, "vantage_id": vantage, "agent_id": "x", "outcome": "down",
                "success": false,
            })
        };
        let all = |results: Vec<Value>| {
            let body = json!({
                "batch_id": asked["batch_id"], "vantage": { "id": vantage }, "results": results,
            });
            ("200 OK", body.to_string())
        };
        match self {
            Self::Unreadable => ("200 OK", "{\"batch_id\":".to_owned()),
            Self::WrongRequest => all(vec![result(&"17".into())]),
            Self::Twice => all(vec![result(&id), result(&id)]),
            Self::WrongVantage => {
                let (status, body) = all(vec![result(&id)]);
                (status, body.replace(vantage, "nowhere"))
            }
            Self::Overloaded => ("503 Service Unavailable", "{}".to_owned()),
            Self::Unknown => ("504 Gateway Timeout", "{}".to_owned()),
            Self::Empty | Self::Silent => all(Vec::new()),
            Self::Broken => all(vec![result(&id)]),
            Self::Huge => {
                let (status, body) = all(vec![result(&id)]);
                (
                    status,
                    " ".repeat(model::limits::VERIFIER_ANSWER_MAX_BYTES) + &body,
                )
            }
        }
    }
}

/// Serves until the test process ends; the address.
pub(super) fn serve(manner: Manner) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let mut silent = Vec::new();
        for stream in listener.incoming().map_while(Result::ok) {
            let Some(asked) = request(&stream) else {
                continue;
            };
            if matches!(manner, Manner::Silent) {
                silent.push(stream);
                continue;
            }
            let (status, body) = manner.answer(&asked);
            let more = usize::from(matches!(manner, Manner::Broken));
            let length = body.len() + more;
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n");
            // An asker that went away needs no answer.
            let _ = (&stream).write_all(format!("{head}{body}").as_bytes());
        }
    });
    address
}

/// The body of the request.
fn request(stream: &TcpStream) -> Option<Value> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let (name, value) = match line.trim().split_once(':') {
            Some(field) => field,
            None if line.trim().is_empty() => break,
            None => continue,
        };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    serde_json::from_slice(&body).ok()
}
