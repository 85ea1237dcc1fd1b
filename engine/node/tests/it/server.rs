//! A web server of few words on a free port of loopback.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

/// What it answers to every request.
#[derive(Clone, Copy)]
pub(crate) enum Answer {
    /// This response, then close.
    Say(&'static str),
    /// The same, but only after this time.
    SayAfter(Duration, &'static str),
    /// Nothing, ever.
    Silence,
}

/// A complete response with status 200.
pub(crate) const OK: Answer =
    Answer::Say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi");

/// A complete response with status 503.
pub(crate) const UNAVAILABLE: Answer =
    Answer::Say("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");

/// Serves until the test process ends; the address.
pub(crate) fn serve(answer: Answer) -> SocketAddr {
    serve_on(
        TcpListener::bind("127.0.0.1:0").expect("a free port"),
        answer,
    )
}

/// The same where this one listens.
pub(crate) fn serve_on(listener: TcpListener, answer: Answer) -> SocketAddr {
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let mut silent = Vec::new();
        for stream in listener.incoming().map_while(Result::ok) {
            match answer {
                Answer::Say(response) => reply(stream, response),
                Answer::SayAfter(pause, response) => {
                    std::thread::spawn(move || {
                        // Nobody sends: the channel only keeps the time.
                        let (_sender, never) = channel::<()>();
                        let _ = never.recv_timeout(pause);
                        reply(stream, response);
                    });
                }
                Answer::Silence => silent.push(stream),
            }
        }
    });
    address
}

fn reply(mut stream: TcpStream, response: &str) {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(read) => head.extend_from_slice(&buffer[..read]),
        }
    }
    // A probe that went away needs no answer.
    let _ = stream.write_all(response.as_bytes());
}

/// Serves 200 while the switch is on, else 503.
pub(crate) fn serve_by(switch: &Arc<AtomicBool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let switch = Arc::clone(switch);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let answer = if switch.load(Ordering::SeqCst) {
                OK
            } else {
                UNAVAILABLE
            };
            if let Answer::Say(response) = answer {
                reply(stream, response);
            }
        }
    });
    address
}
