//! The life of a connection and of the loops, written once for every shell.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::dns::Transport;
use crate::farm::Farm;
use crate::faults::FaultKind;
use crate::hello::{self, Hello};
use crate::holds::Hold;
use crate::pages::{End, Pace, Plan};
use crate::request::{self, Parsed};
use crate::shell::{Shell, Stream};
use crate::tls::{TlsConnection, Versions};

/// Time between two ticks.
const TICK: Duration = Duration::from_millis(10);
/// Connections accepted and datagrams answered before other tasks have a turn.
const BATCH: usize = 64;
/// Pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
/// From one byte to the next of an answer that drips.
const DRIP: Duration = Duration::from_secs(1);
/// Room that a read is given at least, in bytes.
const READ_BYTES: usize = 1_024;
/// Longest DNS message over UDP that is read, in bytes.
const DATAGRAM_BYTES: usize = 4_096;
/// First byte of a TLS handshake record (RFC 8446 §5.1).
const TLS_HANDSHAKE: u8 = 22;

/// What is spoken on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speech {
    Http,
    Https(Versions),
    /// HTTP or HTTPS, by the first byte, unless something happens at the accept of this gate.
    Gate(usize),
    Dns,
}

/// The sockets of a farm; those of the gates are the farm's own.
pub(crate) struct Sockets {
    pub(crate) listeners: Vec<(TcpListener, Speech)>,
    pub(crate) dns: UdpSocket,
}

/// Serves until the farm is asked to end; `ready` is called once when every port is open.
pub(crate) async fn run<S: Shell>(
    farm: Rc<Farm>,
    sockets: Sockets,
    ready: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    for (socket, speech) in sockets.listeners {
        S::spawn(accept_all::<S>(
            Rc::clone(&farm),
            S::listener(socket)?,
            speech,
        ));
    }
    S::spawn(datagrams::<S>(Rc::clone(&farm), S::udp(sockets.dns)?));
    let clock = farm.world.clock;
    let mut lag_us = 0;
    let mut ready = Some(ready);
    while farm.tick(lag_us, |gate, socket| open_gate::<S>(&farm, gate, socket)) {
        if let Some(ready) = ready.take() {
            ready()?;
        }
        let due_us = clock.now_us() + TICK.as_micros() as u64;
        S::sleep(TICK).await;
        lag_us = clock.now_us().saturating_sub(due_us);
    }
    Ok(())
}

fn open_gate<S: Shell>(farm: &Rc<Farm>, gate: usize, socket: TcpListener) {
    match S::listener(socket) {
        Ok(listener) => {
            let speech = Speech::Gate(gate);
            S::spawn(accept_all::<S>(Rc::clone(farm), listener, speech));
        }
        Err(error) => {
            eprintln!("farm: the runtime refused the listener of a port with faults: {error}");
        }
    }
}

/// Accepts until the listener is shut down.
async fn accept_all<S: Shell>(farm: Rc<Farm>, listener: S::Listener, speech: Speech) {
    loop {
        for _ in 0..BATCH {
            match S::accept(&listener).await {
                Ok(stream) => {
                    farm.gauges.accepted.add(1);
                    S::spawn(connection::<S>(Rc::clone(&farm), stream, speech));
                }
                Err(error) if is_shut_down(&error) => return,
                Err(_) => {
                    farm.gauges.accept_errors.add(1);
                    S::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        S::pause().await;
    }
}

/// EINVAL from accept: the socket does not listen any more.
fn is_shut_down(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error())
}

/// One connection. An error is the peer's, and the observer has seen what there was to see.
async fn connection<S: Shell>(farm: Rc<Farm>, stream: S::Stream, speech: Speech) {
    let hold = farm.open.enter(farm.now_ms());
    let link = Link {
        stream,
        tls: None,
        wire: Vec::new(),
    };
    let _ = match speech {
        Speech::Dns => dns_stream::<S>(&farm, link, hold).await,
        Speech::Gate(gate) => match farm.at_accept(gate) {
            // What was accepted before the gate moved is served.
            None | Some(FaultKind::Refuse | FaultKind::BlackHole) => {
                http::<S>(&farm, link, hold, speech).await
            }
            Some(fault) => break_accepted(&farm, link, hold, fault).await,
        },
        Speech::Http | Speech::Https(_) => http::<S>(&farm, link, hold, speech).await,
    };
}

/// A connection that comes to nothing whatever the peer says.
async fn break_accepted<S: Stream>(
    farm: &Farm,
    mut link: Link<S>,
    hold: Hold,
    fault: FaultKind,
) -> io::Result<()> {
    match fault {
        FaultKind::ResetAtAccept => link.stream.reset_on_close(),
        FaultKind::CloseAtAccept => {
            // What is unread at the close would make it a reset: it waits for the peer's.
            link.stream.end_output();
            stay_silent(farm, link, hold).await;
        }
        _ => stay_silent(farm, link, hold).await,
    }
    Ok(())
}

async fn http<S: Shell>(
    farm: &Rc<Farm>,
    mut link: Link<S::Stream>,
    hold: Hold,
    speech: Speech,
) -> io::Result<()> {
    let mut head = farm.take_buffer();
    if speech != Speech::Http && hold.wait(link.stream.read(&mut head)).await.is_none() {
        return Ok(());
    }
    let speaks_tls = head.first() == Some(&TLS_HANDSHAKE);
    let versions = match speech {
        Speech::Https(versions) => Some(versions),
        Speech::Gate(_) if speaks_tls => Some(Versions::Both),
        _ => None,
    };
    if let Some(versions) = versions {
        if farm.breaks_handshakes {
            let broken = broken_handshake(farm, &mut link, &hold, &mut head).await?;
            if let Some((bytes, end)) = broken {
                link.stream.write_all(&bytes).await?;
                return end_as(farm, link, hold, end).await;
            }
        }
        link.start_tls(farm, versions, &mut head).await?;
    }
    let parsed = loop {
        match request::parse(&head, &farm.world.sites) {
            Parsed::Partial => {}
            parsed => break parsed,
        }
        match hold.wait(link.read(&mut head)).await {
            None | Some(Ok(0)) => return Ok(()),
            Some(read) => read?,
        };
    };
    farm.give_buffer(head);
    if link.tls.is_some() {
        farm.gauges.tls_handshakes.add(1);
    }
    let plan = farm.plan(parsed, farm.now_ms());
    if plan.delay_ms > 0 {
        S::sleep(Duration::from_millis(u64::from(plan.delay_ms))).await;
    }
    carry_out::<S>(farm, link, hold, &plan).await
}

/// What the site of a client answers, and how it ends, when its fault is in the handshake itself.
/// `wire` gathers what the client says.
async fn broken_handshake<S: Stream>(
    farm: &Farm,
    link: &mut Link<S>,
    hold: &Hold,
    wire: &mut Vec<u8>,
) -> io::Result<Option<(Vec<u8>, End)>> {
    loop {
        match hello::read(wire, &farm.world.sites) {
            Hello::Partial => {}
            Hello::Of { site, suites } => {
                let fault = site.and_then(|site| farm.in_handshake(site));
                return Ok(fault.map(|fault| hello::answer(fault, &suites)));
            }
            Hello::Unreadable => return Ok(None),
        }
        wire.reserve(READ_BYTES);
        match hold.wait(link.stream.read(wire)).await {
            None | Some(Ok(0)) => return Ok(Some((Vec::new(), End::Close))),
            Some(read) => read?,
        };
    }
}

/// Writes what the plan says and ends as it says.
async fn carry_out<S: Shell>(
    farm: &Farm,
    mut link: Link<S::Stream>,
    hold: Hold,
    plan: &Plan<'_>,
) -> io::Result<()> {
    match plan.pace {
        Pace::AtOnce if plan.bytes.is_empty() => {}
        Pace::AtOnce => link.write_all(plan.bytes, plan.end == End::Close).await?,
        Pace::BytePerSecond => {
            drop(hold);
            let dripping = farm.silent.enter(farm.now_ms());
            for byte in plan.bytes.chunks(1) {
                link.write_all(byte, false).await?;
                if dripping.wait(S::sleep(DRIP)).await.is_none() {
                    break;
                }
            }
            return end_as(farm, link, dripping, plan.end).await;
        }
    }
    end_as(farm, link, hold, plan.end).await
}

async fn end_as<S: Stream>(farm: &Farm, mut link: Link<S>, hold: Hold, end: End) -> io::Result<()> {
    match end {
        End::Close | End::Cut => link.stream.finish(),
        End::Reset => link.stream.reset_on_close(),
        End::Silence => stay_silent(farm, link, hold).await,
    }
    Ok(())
}

/// Says nothing until the peer closes, or until silence takes too long.
async fn stay_silent<S: Stream>(farm: &Farm, mut link: Link<S>, hold: Hold) {
    drop(hold);
    let silence = farm.silent.enter(farm.now_ms());
    let mut ignored = farm.take_buffer();
    while let Some(Ok(1..)) = silence.wait(link.stream.read(&mut ignored)).await {
        ignored.clear();
    }
    farm.give_buffer(ignored);
}

/// DNS over TCP: messages with a length of two bytes in front (RFC 7766), until the peer closes.
async fn dns_stream<S: Shell>(
    farm: &Farm,
    mut link: Link<S::Stream>,
    hold: Hold,
) -> io::Result<()> {
    let (mut bytes, mut answer, mut framed) = (farm.take_buffer(), Vec::new(), Vec::new());
    loop {
        while let Some((query, consumed)) = first_frame(&bytes) {
            if let Some(delay_ms) = farm.answer_dns(query, Transport::Tcp, &mut answer) {
                framed.clear();
                framed.extend_from_slice(&(answer.len() as u16).to_be_bytes());
                framed.extend_from_slice(&answer);
                let delay = Duration::from_millis(u64::from(delay_ms));
                if delay_ms > 0 && hold.wait(S::sleep(delay)).await.is_none() {
                    return Ok(());
                }
                link.stream.write_all(&framed).await?;
            }
            bytes.drain(..consumed);
        }
        bytes.reserve(READ_BYTES);
        match hold.wait(link.stream.read(&mut bytes)).await {
            None | Some(Ok(0)) => return Ok(()),
            Some(read) => read?,
        };
    }
}

/// The first whole message in `bytes`, and how many bytes it takes with its length.
fn first_frame(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let length = usize::from(u16::from_be_bytes(*length));
    rest.get(..length).map(|message| (message, length + 2))
}

/// DNS over UDP.
async fn datagrams<S: Shell>(farm: Rc<Farm>, udp: S::Udp) {
    let udp = Rc::new(udp);
    let mut query = vec![0; DATAGRAM_BYTES];
    let mut answer = Vec::with_capacity(DATAGRAM_BYTES);
    loop {
        for _ in 0..BATCH {
            // An error here is the ICMP echo of an answer that its asker did not wait for.
            let Ok((length, from)) = S::receive(&udp, &mut query).await else {
                break;
            };
            match farm.answer_dns(&query[..length], Transport::Udp, &mut answer) {
                None => {}
                Some(0) => {
                    let sent = S::send(&udp, &answer, from).await;
                    farm.gauges.dns_dropped.add(u64::from(sent.is_err()));
                }
                Some(delay_ms) => {
                    let delay = Duration::from_millis(u64::from(delay_ms));
                    let (farm, udp) = (Rc::clone(&farm), Rc::clone(&udp));
                    S::spawn(send_later::<S>(farm, udp, answer.clone(), from, delay));
                }
            }
        }
        S::pause().await;
    }
}

/// Sends an answer after a while; it is lost when too many wait.
async fn send_later<S: Shell>(
    farm: Rc<Farm>,
    udp: Rc<S::Udp>,
    answer: Vec<u8>,
    to: SocketAddr,
    delay: Duration,
) {
    let wait = farm.silent.enter(farm.now_ms());
    let waited = wait.wait(S::sleep(delay)).await.is_some();
    if !waited || S::send(&udp, &answer, to).await.is_err() {
        farm.gauges.dns_dropped.add(1);
    }
}

/// A stream with or without TLS in front.
struct Link<S> {
    stream: S,
    tls: Option<Box<TlsConnection>>,
    /// Bytes of the wire on their way in or out, under TLS.
    wire: Vec<u8>,
}

impl<S: Stream> Link<S> {
    /// Begins TLS; `head` holds the first bytes of the wire and then the first plain bytes.
    async fn start_tls(
        &mut self,
        farm: &Farm,
        versions: Versions,
        head: &mut Vec<u8>,
    ) -> io::Result<()> {
        let config = Arc::clone(farm.tls.of(versions));
        let mut tls = Box::new(TlsConnection::new(config)?);
        self.wire = farm.take_buffer();
        let mut out = Vec::new();
        let received = tls.receive(head, &mut self.wire, &mut out);
        std::mem::swap(head, &mut self.wire);
        self.tls = Some(tls);
        if !out.is_empty() {
            self.stream.write_all(&out).await?;
        }
        if received.is_err() {
            farm.gauges.tls_errors.add(1);
        }
        received
    }

    /// Appends the next plain bytes to `into`; 0: the peer has closed.
    async fn read(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        into.reserve(READ_BYTES);
        let Some(tls) = &mut self.tls else {
            return self.stream.read(into).await;
        };
        let before = into.len();
        let mut out = Vec::new();
        while into.len() == before {
            self.wire.clear();
            self.wire.reserve(READ_BYTES);
            if self.stream.read(&mut self.wire).await? == 0 {
                return Ok(0);
            }
            let received = tls.receive(&self.wire, into, &mut out);
            if !out.is_empty() {
                self.stream.write_all(&out).await?;
                out.clear();
            }
            received?;
        }
        Ok(into.len() - before)
    }

    /// Writes plain bytes; `last`: and says that nothing follows.
    async fn write_all(&mut self, bytes: &[u8], last: bool) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            return self.stream.write_all(bytes).await;
        };
        self.wire.clear();
        tls.send(bytes, &mut self.wire)?;
        if last {
            tls.close(&mut self.wire)?;
        }
        self.stream.write_all(&self.wire).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_taken_only_when_it_is_whole() {
        assert_eq!(first_frame(&[]), None);
        assert_eq!(first_frame(&[0]), None);
        assert_eq!(first_frame(&[0, 2, 7]), None);
        assert_eq!(first_frame(&[0, 2, 7, 8, 9]), Some((&[7, 8][..], 4)));
        assert_eq!(first_frame(&[0, 0]), Some((&[][..], 2)));
    }
}
