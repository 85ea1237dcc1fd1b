//! A server that refuses the sessions which it gives out, over real sockets: each check is up.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;

use model::Slot;
use model::inbox::CoreCommand;
use model::outcome::flags;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::peers::{SITE, Tls, script};
use super::real::RealRig;
use super::{Rig, drivers, target};

/// A fatal `handshake_failure`, as a record.
const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 40];
/// Connections of one core: a check without a session, one whose session is refused, which makes
/// two, and one that offers none.
const CONNECTIONS: usize = 4;
/// Which of them offers a session.
const REFUSED: usize = 1;

/// Serves the connections of one core, the second of them with an alert.
fn serve(listener: &TcpListener, config: &Arc<ServerConfig>) -> Vec<Vec<u8>> {
    let requests = (0..CONNECTIONS).map(|number| {
        let (mut stream, _) = listener.accept().expect("loopback accepts");
        if number == REFUSED {
            refuse(&mut stream);
            Vec::new()
        } else {
            answer(stream, config)
        }
    });
    requests.collect()
}

fn refuse(stream: &mut TcpStream) {
    let read = stream.read(&mut [0; 4_096]).expect("a hello");
    assert!(read > 0);
    stream.write_all(&ALERT).expect("sent");
}

/// Answers a request, which it gives back.
fn answer(stream: TcpStream, config: &Arc<ServerConfig>) -> Vec<u8> {
    let session = ServerConnection::new(Arc::clone(config)).expect("a valid config");
    let mut stream = StreamOwned::new(session, stream);
    let mut request = vec![0; 2_048];
    let read = stream.read(&mut request).expect("a request");
    request.truncate(read);
    stream.write_all(&script(&request).bytes).expect("sent");
    stream.conn.send_close_notify();
    stream.flush().expect("sent");
    request
}

#[test]
fn a_check_whose_session_is_refused_is_up_by_a_full_handshake() {
    let tls = Tls::new();
    for driver in drivers() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let config = Arc::clone(&tls.good);
        let server = std::thread::spawn(move || serve(&listener, &config));
        let mut rig = RealRig::new(driver, &tls).expect("the kernel gives out this driver");
        let slot = Slot(0);
        rig.tell(CoreCommand::Upsert {
            slot,
            target: target(&format!("https://{SITE}:{port}/ok"), 9_000),
        });
        let of_sessions = flags::TLS_RESUMED | flags::TLS_SESSION_REFUSED;
        for flags in [0, flags::TLS_SESSION_REFUSED, 0] {
            rig.tell(CoreCommand::CheckNow { slot });
            let outcome = rig.outcome();
            assert_eq!(
                (outcome.failure(), outcome.status),
                (None, 200),
                "{driver:?}"
            );
            assert_eq!(outcome.flags & of_sessions, flags, "{driver:?}");
        }
        let stats = Arc::clone(&rig.core.stats);
        Rig::stop(rig);
        let stats = stats.snapshot();
        let counted = (
            stats.tls_full,
            stats.tls_resumed,
            stats.tls_sessions_refused,
        );
        assert_eq!(counted, (3, 0, 1));
        let heard = server.join().expect("every connection came");
        assert!(heard[0].starts_with(b"GET /ok HTTP/1.1\r\n"));
        assert_eq!([&heard[2], &heard[3]], [&heard[0], &heard[0]], "{driver:?}");
    }
}
