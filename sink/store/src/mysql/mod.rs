//! A MySQL or MariaDB server: a few connections by role, on one thread.
//!
//! ```text
//!  Client ──► facts     (1 connection) ┐
//!         ──► freshness (1)            ├─ thread "store", tokio
//!         ──► control   (4)            ┘
//! ```
//!
//! Half of a large batch of facts goes over the connection of freshness ([`halves`]).
//!
//! The thread makes it the same for every caller, whatever runtime it is on: a caller that goes
//! away never leaves a connection half-way, because its connection is given up. Each lane's channel
//! holds one request: whoever comes next waits, and backpressure reaches the caller.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;

use tokio::runtime::Builder;
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::timeout;

use self::halves::Divides;
use self::session::KEEP_ALIVE;
use crate::options::OpenOptions;
use crate::{Result, StoreError};

mod address;
mod audit;
mod by_key;
mod facts;
mod failure;
pub(crate) mod freshness;
mod halves;
mod history;
mod import;
mod insert;
mod lease;
mod legacy;
mod migrate;
mod operators;
mod queries;
mod rights;
mod session;
mod structure;
mod taken;
mod targets;
pub(crate) mod time_indexes;

pub use address::MysqlUrl;
pub(crate) use address::masked;
pub(crate) use migrate::{migrate, migration_plan};
pub(crate) use session::{Lane, Session};

type Working<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;
type Work = Box<dyn for<'a> FnOnce(&'a mut Session) -> Working<'a> + Send>;

enum Request {
    Do(Work),
    Close,
}

/// The asking side of the thread.
#[derive(Clone)]
pub(crate) struct Client {
    /// In the order of [`Lane::ALL`].
    lanes: [mpsc::Sender<Request>; Lane::ALL.len()],
    url: Arc<MysqlUrl>,
    options: OpenOptions,
    divides: Arc<Divides>,
    ended: watch::Receiver<()>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Starts the thread and looks whether the server has our tables, as this build knows them.
    pub(crate) async fn open(url: MysqlUrl, options: OpenOptions) -> Result<Self> {
        let url = Arc::new(url);
        let channels = Lane::ALL.map(|_| mpsc::channel(1));
        let lanes = channels.each_ref().map(|(sender, _)| sender.clone());
        let inboxes = channels.map(|(_, inbox)| inbox);
        let (ending, ended) = watch::channel(());
        let of_thread = (Arc::clone(&url), options.clone());
        thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || {
                serve(&of_thread.0, &of_thread.1, inboxes);
                drop(ending);
            })
            .map_err(|cause| StoreError::Thread {
                store: url.to_string(),
                cause,
            })?;
        let client = Self {
            lanes,
            url,
            options,
            divides: Arc::default(),
            ended,
        };
        client
            .ask(Lane::Control, async |session: &mut Session| {
                migrate::require_current(session).await?;
                session.require_legacy().await
            })
            .await?;
        Ok(client)
    }

    /// Has `work` done on a connection of `lane` and waits for its result.
    pub(crate) async fn ask<T, F>(&self, lane: Lane, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: AsyncFnOnce(&mut Session) -> Result<T> + Send + 'static,
    {
        let (mut reply, answer) = oneshot::channel();
        let work: Work = Box::new(move |session| {
            Box::pin(async move {
                if reply.is_closed() {
                    return;
                }
                let done = tokio::select! {
                    done = work(session) => Some(done),
                    () = reply.closed() => None,
                };
                if let Some(done) = done {
                    drop(reply.send(done));
                }
                session.settle();
            })
        });
        let at = Lane::ALL.iter().position(|(known, _)| *known == lane);
        let at = at.expect("every lane is in the list of all");
        self.lanes[at]
            .send(Request::Do(work))
            .await
            .map_err(|_| self.closed())?;
        answer.await.map_err(|_| self.closed())?
    }

    /// Ends the thread after the requests that wait.
    pub(crate) async fn close(mut self) -> Result<()> {
        for lane in &self.lanes {
            lane.send(Request::Close).await.map_err(|_| self.closed())?;
        }
        // Nothing is ever sent: the end of the thread is the end of the channel.
        self.ended.changed().await.ok();
        Ok(())
    }

    fn closed(&self) -> StoreError {
        StoreError::Closed {
            store: self.url.to_string(),
        }
    }
}

/// The thread: ends with the last [`Client`], or when it is told to.
fn serve(
    url: &Arc<MysqlUrl>,
    options: &OpenOptions,
    inboxes: [mpsc::Receiver<Request>; Lane::ALL.len()],
) {
    let Ok(runtime) = Builder::new_current_thread().enable_all().build() else {
        // Without a runtime the channels end, and every request is told that the store is closed.
        return;
    };
    LocalSet::new().block_on(&runtime, async {
        let mut workers = JoinSet::new();
        for ((lane, connections), inbox) in Lane::ALL.into_iter().zip(inboxes) {
            let inbox = Rc::new(Mutex::new(inbox));
            for _ in 0..connections {
                let session = Session::new(Arc::clone(url), lane, options.clone());
                workers.spawn_local(work(session, Rc::clone(&inbox)));
            }
        }
        while workers.join_next().await.is_some() {}
    });
}

/// One connection's life.
async fn work(mut session: Session, inbox: Rc<Mutex<mpsc::Receiver<Request>>>) {
    loop {
        match timeout(KEEP_ALIVE, next(&inbox)).await {
            Ok(Some(Request::Do(work))) => work(&mut session).await,
            Ok(Some(Request::Close)) => {}
            Ok(None) => break,
            Err(_) => session.keep_alive().await,
        }
    }
    session.end().await;
}

/// The next request; after the one to close nothing more is taken in.
async fn next(inbox: &Mutex<mpsc::Receiver<Request>>) -> Option<Request> {
    let mut inbox = inbox.lock().await;
    let request = inbox.recv().await;
    if matches!(request, Some(Request::Close)) {
        inbox.close();
    }
    request
}
