//! Connections that are opened beside the I/O under way of an attempt, each by a task of its own.
//! The one that the attempt goes on with is handed over to the task that drives the attempt.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;

use monoio::net::TcpStream;
use prober::attempt::{Conn, ErrnoAt, Event};

use super::dns::{Stop, until_closed};
use super::streams::Streams;
use super::{Shell, dial, sockets};
use crate::attempts::AttemptKey;
use crate::core::Side;

/// Connections that are being opened beside, and those that wait to be taken over.
#[derive(Default)]
pub(super) struct Besides {
    /// By the attempt's index and the connection's number.
    opening: RefCell<HashMap<(u32, u8), Rc<Stop>>>,
    won: RefCell<Vec<(AttemptKey, Conn, TcpStream)>>,
}

impl Besides {
    /// Adds to `streams` what was opened beside for the attempt and is its own now.
    pub(super) fn take_over(&self, key: AttemptKey, streams: &mut Streams) {
        if self.won.borrow().is_empty() {
            return;
        }
        let mut won = self.won.borrow_mut();
        while let Some(at) = won.iter().position(|(of, ..)| *of == key) {
            let (_, conn, stream) = won.swap_remove(at);
            streams.open(conn, stream);
        }
    }
}

/// Carries out what the core wants beside.
pub(super) fn pump(shell: &Rc<Shell>) {
    loop {
        let side = shell.core.borrow_mut().next_side();
        match side {
            None => return,
            Some(Side::Open { key, conn, address }) => {
                let stop = Rc::new(Stop::default());
                let place = (key.index, conn.0);
                let opening = &shell.besides.opening;
                let before = opening.borrow_mut().insert(place, Rc::clone(&stop));
                debug_assert!(before.is_none(), "a number is used again once it is closed");
                monoio::spawn(open(Rc::clone(shell), key, conn, address, stop));
            }
            Some(Side::LetGo { kept }) => shell.kept.let_go(kept),
            Some(Side::Close { key, conn }) => {
                let opening = &shell.besides.opening;
                let stop = opening.borrow_mut().remove(&(key.index, conn.0));
                if let Some(stop) = stop {
                    stop.stop();
                }
            }
        }
    }
}

/// Opens one connection and brings what came of it, unless it was given up before.
async fn open(shell: Rc<Shell>, key: AttemptKey, conn: Conn, address: SocketAddr, stop: Rc<Stop>) {
    let Some(opened) = until_closed(&stop, connected(&shell, address)).await else {
        return;
    };
    let place = (key.index, conn.0);
    shell.besides.opening.borrow_mut().remove(&place);
    let event = match &opened {
        Ok(_) => Event::Connected { conn, sent: false },
        Err((errno, at)) => Event::ConnectError {
            conn,
            errno: *errno,
            at: *at,
        },
    };
    let now = shell.now();
    let goes_on = shell.core.borrow_mut().side_event(key, event, now);
    if let Some(stream) = opened.ok().filter(|_| goes_on) {
        shell.besides.won.borrow_mut().push((key, conn, stream));
    }
    shell.pump();
}

async fn connected(shell: &Shell, address: SocketAddr) -> Result<TcpStream, (i32, ErrnoAt)> {
    let started = dial::start(shell, address, false);
    let mut stream = started.map_err(|refused| (refused.errno, refused.at))?;
    let stands = sockets::established(&mut stream).await;
    stands.map_err(|errno| (errno, ErrnoAt::Async))?;
    Ok(stream)
}
