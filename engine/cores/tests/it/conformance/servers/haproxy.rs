//! haproxy: a few answers of its own, and the page from an origin behind it, passed on as it comes
//! or packed on the way.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use super::cells::Seen;
use super::{Brand, Coding, Framing, Ports, packed, page, write};
use crate::conformance::peers::SITE;
use model::FailureClass as C;

pub(super) const BRAND: Brand = Brand {
    name: "haproxy",
    configure,
    command,
    ready: "Loading success",
    ways: [
        (Framing::Length, Coding::Identity, Ok("/length")),
        (Framing::Length, Coding::Gzip, Ok("/length-packed")),
        (Framing::Chunked, Coding::Identity, Ok("/chunked")),
        (Framing::Chunked, Coding::Gzip, Ok("/packed-on-the-way")),
        (Framing::Close, Coding::Identity, Ok("/close")),
        (Framing::Close, Coding::Gzip, Ok("/close-packed")),
    ],
    // It closes as soon as no handshake begins.
    unsecured: Seen::down(C::HttpTruncated, 0).unheard(),
};

fn command(folder: &Path) -> Command {
    let mut command = Command::new(rig::program("haproxy"));
    // A master and its worker: the master says when the worker is ready.
    command.arg("-W").arg("-f").arg(folder.join("haproxy.cfg"));
    command
}

fn configure(folder: &Path, ports: Ports) {
    let origin = start_origin();
    let certificate = format!("ssl crt {}/both.pem", folder.display());
    let (http, https) = (ports.http, ports.https);
    let text = format!(
        "global\n maxconn 256\n\
         defaults\n mode http\n timeout connect 10s\n timeout client 30s\n timeout server 30s\n\
         frontend pages\n bind 127.0.0.1:{http}\n bind 127.0.0.1:{https} {certificate}\n \
         bind 127.0.0.1:{} {certificate} ssl-min-ver TLSv1.2 ssl-max-ver TLSv1.2\n \
         bind 127.0.0.1:{} {certificate} ssl-min-ver TLSv1.3\n \
         http-request return status 204 if {{ path /by-method }} METH_HEAD\n \
         http-request return status 200 content-type text/plain string \"by GET\" \
         if {{ path /by-method }}\n \
         http-request return status 204 if {{ path /empty }}\n \
         http-request return status 503 if {{ path /down }}\n \
         http-request return status 404 if {{ path /absent }}\n \
         http-request redirect location /by-method code 301 if {{ path /moved }}\n \
         http-request redirect location https://{SITE}:{https}/by-method code 301 \
         if {{ path /secure }}\n \
         http-request redirect location http://{SITE}:{http}/by-method code 301 \
         if {{ path /plain }}\n \
         http-request redirect location /loop code 301 if {{ path /loop }}\n \
         use_backend packed if {{ path /packed-on-the-way }}\n default_backend plain\n\
         backend plain\n server origin {origin}\n\
         backend packed\n compression algo gzip\n compression type text/plain\n \
         server origin {origin}\n",
        ports.tls12, ports.tls13
    );
    write(folder, "haproxy.cfg", text.as_bytes());
}

/// A server that sends the page in the way that the path names, one connection after the other.
fn start_origin() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (page, packed) = (page().into_bytes(), packed());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.expect("loopback accepts");
            // haproxy is done with it before the end where its own client is.
            let _ = answer(stream, &page, &packed);
        }
    });
    address
}

fn answer(mut stream: TcpStream, page: &[u8], packed: &[u8]) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut piece = [0; 4_096];
    while !request.ends_with(b"\r\n\r\n") {
        let read = stream.read(&mut piece)?;
        if read == 0 {
            return Ok(());
        }
        request.extend_from_slice(&piece[..read]);
    }
    let request = String::from_utf8_lossy(&request);
    let path = request.split(' ').nth(1).unwrap_or_default();
    let (body, coding) = if path.ends_with("-packed") {
        (packed, "Content-Encoding: gzip\r\n")
    } else {
        (page, "")
    };
    let chunked = path == "/chunked";
    let framing = match path {
        "/chunked" => "Transfer-Encoding: chunked\r\n".to_owned(),
        "/close" | "/close-packed" => String::new(),
        _ => format!("Content-Length: {}\r\n", body.len()),
    };
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n";
    write!(stream, "{head}{coding}{framing}\r\n")?;
    if request.starts_with("HEAD") {
        return Ok(());
    }
    if !chunked {
        return stream.write_all(body);
    }
    for chunk in body.chunks(10_000) {
        write!(stream, "{:x}\r\n", chunk.len())?;
        stream.write_all(chunk)?;
        stream.write_all(b"\r\n")?;
    }
    stream.write_all(b"0\r\n\r\n")
}
