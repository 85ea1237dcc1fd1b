//! A target list in chunks, which a thread of its own reads ahead of whoever takes them.

use std::path::Path;

use anyhow::bail;
use model::FieldError;
use store::ImportRow;
use tokio::sync::mpsc;

use super::file::{Refused, TargetFile};
use crate::aside;

/// Records read, and rows given to the store, at once.
const CHUNK_RECORDS: u64 = 5_000;

/// A list that is being read. Dropped, it ends the reading as soon as that notices.
pub(super) struct Chunks {
    name: String,
    chunks: mpsc::Receiver<anyhow::Result<Chunk>>,
}

impl Chunks {
    /// Begins to read the list at `path`, one chunk ahead.
    pub(super) fn of(path: &Path) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        let path = path.to_owned();
        let (sender, chunks) = mpsc::channel(1);
        aside::start("target list", move || read(&path, &sender))?;
        Ok(Self { name, chunks })
    }

    /// The next chunk; after the last one there is none.
    ///
    /// # Errors
    /// A list that cannot be opened or read on, and a header line with an unknown column.
    pub(super) async fn next(&mut self) -> anyhow::Result<Chunk> {
        match self.chunks.recv().await {
            Some(chunk) => chunk,
            None => bail!("the target list {} was not read to its end", self.name),
        }
    }

    /// The line of this list that was refused.
    pub(super) fn refused(&self, line: u64, error: FieldError) -> Refused {
        let file = self.name.clone();
        Refused { file, line, error }
    }
}

/// Sends every chunk of the list at `path`, until nobody wants more.
fn read(path: &Path, chunks: &mpsc::Sender<anyhow::Result<Chunk>>) {
    let mut file = match TargetFile::open(path) {
        Ok(file) => file,
        // As below, whoever wanted it may be gone.
        Err(error) => return drop(chunks.blocking_send(Err(error))),
    };
    loop {
        let chunk = Chunk::read(&mut file);
        let goes_on = chunk.as_ref().is_ok_and(|chunk| !chunk.is_last());
        if chunks.blocking_send(chunk).is_err() || !goes_on {
            return;
        }
    }
}

/// The next records of a list.
#[derive(Default)]
pub(super) struct Chunk {
    pub(super) records: u64,
    pub(super) rows: Vec<ImportRow>,
    /// Line of each row.
    pub(super) lines: Vec<u64>,
    pub(super) refused: Vec<Refused>,
}

impl Chunk {
    /// Reads on; a chunk that is not full is the last one.
    fn read<R: std::io::BufRead>(file: &mut TargetFile<R>) -> anyhow::Result<Self> {
        let mut chunk = Self::default();
        while chunk.records < CHUNK_RECORDS
            && let Some(next) = file.next()?
        {
            chunk.records += 1;
            match next {
                Ok(row) => {
                    chunk.lines.push(row.line);
                    chunk.rows.push(ImportRow {
                        id: row.id,
                        config: row.config,
                    });
                }
                Err(refused) => chunk.refused.push(refused),
            }
        }
        Ok(chunk)
    }

    pub(super) fn is_last(&self) -> bool {
        self.records < CHUNK_RECORDS
    }
}
