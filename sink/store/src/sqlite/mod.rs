//! The embedded store: one SQLite file, one connection, one thread.
//!
//! SQLite blocks, so its connection lives on a thread of its own and is asked through a channel
//! that holds one request: whoever comes next waits, and backpressure reaches the caller.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use tokio::sync::{mpsc, oneshot};

use self::connection::Db;
use crate::changes::NoChanges;
use crate::options::OpenOptions;
use crate::schema::MigrationPlan;
use crate::{Result, StoreError};

mod audit;
mod connection;
mod facts;
mod failure;
mod field;
mod freshness;
mod history;
mod import;
mod lease;
mod migrate;
mod operators;
mod queries;
mod taken;
mod targets;

/// What the store at `path` lacks; nothing is changed, nor made.
pub(crate) async fn migration_plan(path: PathBuf, options: OpenOptions) -> Result<MigrationPlan> {
    let store = path.display().to_string();
    let looking = tokio::task::spawn_blocking(move || Db::migration_plan(&path, &options));
    looking.await.map_err(|_| StoreError::Closed { store })?
}

type Work = Box<dyn FnOnce(&mut Db) + Send>;

enum Request {
    Do(Work),
    Close(oneshot::Sender<Result<()>>),
}

/// The asking side of the thread.
#[derive(Clone)]
pub(crate) struct Client {
    requests: mpsc::Sender<Request>,
    path: Arc<PathBuf>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Starts the thread, which opens the file first.
    pub(crate) async fn open(path: PathBuf, options: OpenOptions) -> Result<Self> {
        let (requests, inbox) = mpsc::channel(1);
        let (opened, answer) = oneshot::channel();
        let client = Self {
            requests,
            path: Arc::new(path),
        };
        let path = Arc::clone(&client.path);
        thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || match Db::open(&path, &options) {
                Ok(db) => {
                    if opened.send(Ok(())).is_ok() {
                        serve(db, inbox);
                    }
                }
                // A caller that went away does not miss the reason.
                Err(error) => drop(opened.send(Err(error))),
            })
            .map_err(|cause| StoreError::Thread {
                store: client.path.display().to_string(),
                cause,
            })?;
        answer.await.map_err(|_| client.closed())??;
        Ok(client)
    }

    /// Has `work` done on the thread and waits for its result.
    pub(crate) async fn ask<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Db) -> Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let work: Work = Box::new(move |db| {
            if !reply.is_closed() {
                drop(reply.send(work(db)));
            }
        });
        self.requests
            .send(Request::Do(work))
            .await
            .map_err(|_| self.closed())?;
        answer.await.map_err(|_| self.closed())?
    }

    /// A file has no tables of an older system.
    pub(crate) fn no_legacy(&self) -> StoreError {
        StoreError::NoLegacy {
            store: self.path.display().to_string(),
        }
    }

    pub(crate) fn no_changes(&self) -> StoreError {
        StoreError::NoChanges {
            store: self.path.display().to_string(),
            why: NoChanges::OwnTargets,
        }
    }

    /// Ends the thread after the requests that wait.
    pub(crate) async fn close(self) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        self.requests
            .send(Request::Close(reply))
            .await
            .map_err(|_| self.closed())?;
        answer.await.map_err(|_| self.closed())?
    }

    fn closed(&self) -> StoreError {
        StoreError::Closed {
            store: self.path.display().to_string(),
        }
    }
}

/// The thread: ends with the last [`Client`], or when it is told to.
fn serve(mut db: Db, mut inbox: mpsc::Receiver<Request>) {
    while let Some(request) = inbox.blocking_recv() {
        match request {
            Request::Do(work) => work(&mut db),
            Request::Close(reply) => {
                inbox.close();
                drop(reply.send(db.close()));
                return;
            }
        }
    }
}
