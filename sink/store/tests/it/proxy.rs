//! A proxy on loopback between a store and its server that breaks connections at a chosen point of
//! the protocol. It knows packets (three bytes of length, one of order) and one command: a query
//! that says COMMIT.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

/// What happens at the next COMMIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// It passes, as everything does.
    Nothing,
    /// It never reaches the server.
    Before,
    /// The server does it; its answer is lost.
    After,
    /// Nothing arrives any more, and nobody hears of it.
    Silence,
    /// As silence, and the server does not hear either that the client is gone.
    Vanish,
}

const CUTS: [Cut; 5] = [
    Cut::Nothing,
    Cut::Before,
    Cut::After,
    Cut::Silence,
    Cut::Vanish,
];

/// A command packet with a query.
const COM_QUERY: u8 = 3;

pub(crate) struct Proxy {
    address: SocketAddr,
    /// Port of the server.
    server: u16,
    orders: Arc<Orders>,
    hush: Arc<Hush>,
    closed: Mutex<Receiver<()>>,
}

/// What to do with queries.
#[derive(Default)]
struct Orders {
    /// COMMITs that pass before the cut.
    passes: AtomicU32,
    /// With the next COMMIT then: a place in [`CUTS`].
    cut: AtomicU8,
    /// A query, and what the server hears in its place.
    instead: Mutex<Option<(&'static str, &'static str)>>,
}

impl Orders {
    /// Whether this COMMIT passes, whatever happens to a later one.
    fn passes(&self) -> bool {
        let fewer = |passes: u32| passes.checked_sub(1);
        let update = (self.passes).fetch_update(Ordering::SeqCst, Ordering::SeqCst, fewer);
        update.is_ok()
    }
}

/// Which connections nothing arrives on any more.
#[derive(Default)]
struct Hush {
    /// Connections so far.
    accepted: AtomicU32,
    /// Those with a number below it are hushed.
    below: AtomicU32,
}

impl Proxy {
    /// In front of the server on `port` of loopback.
    pub(crate) fn start(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let orders = Arc::<Orders>::default();
        let (closing, closed) = channel();
        let hush = Arc::new(Hush::default());
        let of_thread = (Arc::clone(&orders), Arc::clone(&hush));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else {
                    continue;
                };
                let (orders, hush) = &of_thread;
                pump((client, server), orders, hush, &closing);
            }
        });
        Self {
            address,
            server: port,
            orders,
            hush,
            closed: Mutex::new(closed),
        }
    }

    /// The address `direct` of the server, by way of the proxy.
    pub(crate) fn address(&self, direct: &str) -> String {
        let server = format!("127.0.0.1:{}/", self.server);
        direct.replace(&server, &format!("{}/", self.address))
    }

    /// Does `cut` once.
    pub(crate) fn next(&self, cut: Cut) {
        self.after(0, cut);
    }

    /// Does `cut` once, when so many COMMITs have passed.
    pub(crate) fn after(&self, passes: u32, cut: Cut) {
        self.orders.passes.store(passes, Ordering::SeqCst);
        let at = CUTS.iter().position(|known| *known == cut);
        self.orders
            .cut
            .store(at.expect("listed") as u8, Ordering::SeqCst);
    }

    /// Connections that were made so far.
    pub(crate) fn connections(&self) -> u32 {
        self.hush.accepted.load(Ordering::SeqCst)
    }

    /// Whether what was asked of [`Proxy::next`] is done.
    pub(crate) fn is_cut(&self) -> bool {
        self.orders.cut.load(Ordering::SeqCst) == 0
    }

    /// From now on the server hears `said` in place of the query `query`.
    pub(crate) fn instead(&self, query: &'static str, said: &'static str) {
        let mut instead = self.orders.instead.lock().expect("nobody panicked");
        *instead = Some((query, said));
    }

    /// From now on nothing that the server says arrives on the connections that there are; they
    /// stay, and the server hears everything.
    pub(crate) fn hush(&self) {
        let accepted = self.hush.accepted.load(Ordering::SeqCst);
        self.hush.below.store(accepted, Ordering::SeqCst);
    }

    /// Waits until the client closed a connection on which nothing arrives any more.
    pub(crate) fn wait_until_closed(&self) {
        let closed = self.closed.lock().expect("nobody panicked");
        closed.recv().expect("the proxy runs");
    }
}

fn pump(
    (client, server): (TcpStream, TcpStream),
    orders: &Arc<Orders>,
    hush: &Arc<Hush>,
    closing: &Sender<()>,
) {
    let (hush, number) = (
        Arc::clone(hush),
        hush.accepted.fetch_add(1, Ordering::SeqCst),
    );
    let (mut from_server, mut to_client) = (clone(&server), clone(&client));
    let lost = Arc::new(AtomicU8::new(0));
    let (orders, of_answers) = (Arc::clone(orders), Arc::clone(&lost));
    let closing = closing.clone();
    std::thread::spawn(move || forward(client, server, &orders, &lost, &closing));
    std::thread::spawn(move || {
        let mut buffer = [0; 4_096];
        while let Ok(count @ 1..) = from_server.read(&mut buffer) {
            if number < hush.below.load(Ordering::SeqCst) {
                continue;
            }
            let is_lost = of_answers.load(Ordering::SeqCst) != 0;
            if is_lost || to_client.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        hang_up(&to_client, &from_server);
    });
}

/// Packets of the client, one by one.
fn forward(
    mut client: TcpStream,
    mut server: TcpStream,
    orders: &Orders,
    lost: &AtomicU8,
    closing: &Sender<()>,
) {
    while let Ok(mut packet) = packet(&mut client) {
        replace(&mut packet, orders);
        let is_commit = packet[4..].first() == Some(&COM_QUERY) && &packet[5..] == b"COMMIT";
        let cut = if is_commit && !orders.passes() {
            CUTS[usize::from(orders.cut.swap(0, Ordering::SeqCst))]
        } else {
            Cut::Nothing
        };
        match cut {
            Cut::Nothing => {}
            Cut::Before => break,
            Cut::After => lost.store(1, Ordering::SeqCst),
            Cut::Silence | Cut::Vanish => {
                // Until the client gives up.
                while packet_or_end(&mut client) {}
                // A test that does not wait for it is over.
                closing.send(()).ok();
                if cut == Cut::Vanish {
                    return;
                }
                break;
            }
        }
        if server.write_all(&packet).is_err() {
            break;
        }
        if cut == Cut::After {
            // The other half hangs up when the answer is there.
            return;
        }
    }
    hang_up(&client, &server);
}

fn replace(packet: &mut Vec<u8>, orders: &Orders) {
    let instead = *orders.instead.lock().expect("nobody panicked");
    if let Some((query, said)) = instead
        && packet[4..].first() == Some(&COM_QUERY)
        && &packet[5..] == query.as_bytes()
    {
        packet.truncate(5);
        packet.extend(said.as_bytes());
        packet[0] = u8::try_from(packet.len() - 4).expect("a short query");
    }
}

fn packet_or_end(client: &mut TcpStream) -> bool {
    packet(client).is_ok()
}

fn packet(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut packet = vec![0; 4];
    stream.read_exact(&mut packet)?;
    let length = u32::from_le_bytes([packet[0], packet[1], packet[2], 0]);
    packet.resize(4 + length as usize, 0);
    stream.read_exact(&mut packet[4..])?;
    Ok(packet)
}

fn clone(stream: &TcpStream) -> TcpStream {
    stream.try_clone().expect("a second handle")
}

fn hang_up(client: &TcpStream, server: &TcpStream) {
    // Whoever was first: the other side may be gone already.
    drop(client.shutdown(Shutdown::Both));
    drop(server.shutdown(Shutdown::Both));
}
