//! The events of a binary log, one after the other: which rows of the watched tables changed, and
//! up to where it is known. Pure: no connection, no time.
//!
//! ```text
//!  TABLE_MAP ─► rows ─► keys of the open transaction ── commit ─► ready keys, `reached` moves
//!  a statement that names a table, an event that cannot be read, too many rows ─► lost
//! ```

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::Arc;

use model::TargetId;
use model::limits::CHANGED_ROWS_MAX;
use mysql_async::binlog::EventFlags;
use mysql_async::binlog::EventType;
use mysql_async::binlog::events::{
    Event, EventData, ExecuteLoadQueryEvent, QueryEvent, RotateEvent, RowsEventData, TableMapEvent,
};
use mysql_async::consts::ColumnType;

use super::image::{Broken, How, Images, Layout, Width};
use super::statement::{Kind, first_word, kind, named};
use crate::changes::{Counters, LostChanges, Position};

/// Events of MariaDB that the driver has no names for: statements and rows that are compressed
/// (`log_bin_compress`).
const COMPRESSED_QUERY: u8 = 165;
const COMPRESSED_ROWS: std::ops::RangeInclusive<u8> = 166..=171;
/// Begins a transaction in MariaDB's logs, or a statement that is one by itself: then the flags, a
/// byte behind a number and a domain, have the first bit.
const TRANSACTION: u8 = 162;
const TRANSACTION_FLAGS_AT: usize = 12;
/// Where events begin in a file.
const FIRST: u64 = 4;

/// What the rows of a watched table are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Sites,
    /// Settings of single sites, by their ids.
    Settings,
    /// Settings of blogs, by theirs.
    Blogs,
}

/// A table that is read, as the server describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Watched {
    pub(super) what: What,
    pub(super) name: String,
    /// How many columns it has.
    pub(super) columns: usize,
    /// The columns that are read, rising, that of the key among them.
    pub(super) read: Vec<usize>,
    /// The column that names a row.
    pub(super) key: usize,
    pub(super) key_name: String,
    pub(super) key_is_unsigned: bool,
    /// The column that switches a row on and off, of [`What::Sites`] alone.
    pub(super) switch: Option<usize>,
}

/// Rows that changed, by what names them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Keys {
    /// Sites that came, went, or were switched on or off.
    pub(super) switched: BTreeSet<u64>,
    /// Other sites; some may be among the switched ones, too.
    pub(super) sites: BTreeSet<u64>,
    pub(super) settings: BTreeSet<u64>,
    pub(super) blogs: BTreeSet<u64>,
}

impl Keys {
    pub(super) fn len(&self) -> usize {
        self.switched.len() + self.sites.len() + self.settings.len() + self.blogs.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn of(&mut self, what: What) -> &mut BTreeSet<u64> {
        match what {
            What::Sites => &mut self.sites,
            What::Settings => &mut self.settings,
            What::Blogs => &mut self.blogs,
        }
    }

    /// Every key of a table.
    pub(super) fn all(&self, what: What) -> Vec<u64> {
        match what {
            What::Sites => self.switched.union(&self.sites).copied().collect(),
            What::Settings => self.settings.iter().copied().collect(),
            What::Blogs => self.blogs.iter().copied().collect(),
        }
    }

    pub(super) fn extend(&mut self, mut other: Self) {
        self.switched.append(&mut other.switched);
        for what in [What::Sites, What::Settings, What::Blogs] {
            self.of(what).append(other.of(what));
        }
    }
}

/// Reads the log event by event.
pub(super) struct Gather {
    database: String,
    tables: Vec<Watched>,
    /// Watched tables by the numbers that the current file has for them.
    maps: HashMap<u64, (usize, Layout)>,
    /// The current file, and whether its first event was seen.
    file: String,
    is_described: bool,
    reached: Position,
    in_transaction: bool,
    open: Keys,
    ready: Keys,
    counters: Arc<Counters>,
}

impl Gather {
    /// For a log that is read from `start` on, whose server and time are found out.
    pub(super) fn new(
        database: String,
        tables: Vec<Watched>,
        start: Position,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            database,
            tables,
            maps: HashMap::new(),
            file: start.file.clone(),
            is_described: false,
            reached: start,
            in_transaction: false,
            open: Keys::default(),
            ready: Keys::default(),
            counters,
        }
    }

    pub(super) fn tables(&self) -> &[Watched] {
        &self.tables
    }

    /// Whether the first event of the first file was seen: from then on `reached` is complete.
    pub(super) fn is_described(&self) -> bool {
        self.is_described
    }

    /// Nothing up to here is missing in what was taken, and the ready keys.
    pub(super) fn reached(&self) -> &Position {
        &self.reached
    }

    /// The file whose events come now.
    pub(super) fn file(&self) -> &str {
        &self.file
    }

    /// Keys of transactions that are complete.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// No further event may be taken in before the ready keys are taken out.
    pub(super) fn is_full(&self) -> bool {
        self.ready.len() >= CHANGED_ROWS_MAX
    }

    pub(super) fn take_ready(&mut self) -> Keys {
        std::mem::take(&mut self.ready)
    }

    pub(super) fn event(&mut self, event: &Event) -> Result<(), LostChanges> {
        Counters::add(&self.counters.events, 1);
        let raw = event.header().event_type_raw();
        match EventType::try_from(raw) {
            Ok(EventType::FORMAT_DESCRIPTION_EVENT) => self.describe(event),
            Ok(EventType::ROTATE_EVENT) => self.rotate(event)?,
            Ok(EventType::TABLE_MAP_EVENT) => self.map(event)?,
            Ok(EventType::XID_EVENT | EventType::XA_PREPARE_LOG_EVENT) => self.end(event),
            Ok(EventType::QUERY_EVENT) => self.query(event)?,
            Ok(EventType::EXECUTE_LOAD_QUERY_EVENT) => {
                let load = event.read_event::<ExecuteLoadQueryEvent<'_>>();
                let load = load.map_err(|error| unreadable(&error))?;
                self.statement(load.schema_raw(), load.query_raw())?;
            }
            Ok(
                EventType::WRITE_ROWS_EVENT
                | EventType::UPDATE_ROWS_EVENT
                | EventType::DELETE_ROWS_EVENT
                | EventType::WRITE_ROWS_EVENT_V1
                | EventType::UPDATE_ROWS_EVENT_V1
                | EventType::DELETE_ROWS_EVENT_V1,
            ) => self.rows(event)?,
            Ok(EventType::PARTIAL_UPDATE_ROWS_EVENT) => self.refuse_ours(event, "a partial row")?,
            Ok(EventType::TRANSACTION_PAYLOAD_EVENT) => {
                return Err(not_read("a compressed transaction"));
            }
            Ok(EventType::INCIDENT_EVENT) => {
                return Err(not_read("the server noted that changes are missing"));
            }
            _ if raw == TRANSACTION => {
                let flags = event.data().get(TRANSACTION_FLAGS_AT).copied().unwrap_or(0);
                self.in_transaction = flags & 1 == 0;
            }
            _ if raw == COMPRESSED_QUERY => return Err(not_read("a compressed statement")),
            _ if COMPRESSED_ROWS.contains(&raw) => self.refuse_ours(event, "compressed rows")?,
            _ => {}
        }
        Ok(())
    }

    /// The first event of a file says whose it is.
    fn describe(&mut self, event: &Event) {
        let header = event.header();
        self.maps.clear();
        if self.file != self.reached.file {
            self.reached.file.clone_from(&self.file);
            self.reached.offset = FIRST;
        }
        self.reached.begun = header.timestamp();
        self.reached.server = header.server_id();
        self.is_described = true;
    }

    /// The next file; a server that was killed says it at its next start.
    fn rotate(&mut self, event: &Event) -> Result<(), LostChanges> {
        let rotate = event
            .read_event::<RotateEvent<'_>>()
            .map_err(|error| unreadable(&error))?;
        // The one before the first description is our own question, with or without a checksum.
        if self.is_described {
            self.file = rotate.name().into_owned();
            self.maps.clear();
            self.in_transaction = false;
            // What a crash cut off was never committed.
            self.open = Keys::default();
        }
        Ok(())
    }

    fn map(&mut self, event: &Event) -> Result<(), LostChanges> {
        if self.maps.contains_key(&table_number(event)) {
            return Ok(());
        }
        let map = event
            .read_event::<TableMapEvent<'_>>()
            .map_err(|error| unreadable(&error))?;
        let is = |raw: &[u8], name: &str| raw.eq_ignore_ascii_case(name.as_bytes());
        if !is(map.database_name_raw(), &self.database) {
            return Ok(());
        }
        let mut tables = self.tables.iter();
        let Some(at) = tables.position(|table| is(map.table_name_raw(), &table.name)) else {
            return Ok(());
        };
        let table = &self.tables[at];
        let layout = layout(table, &map).map_err(|detail| LostChanges::Shape {
            table: table.name.clone(),
            detail,
        })?;
        self.maps.insert(map.table_id(), (at, layout));
        Ok(())
    }

    fn rows(&mut self, event: &Event) -> Result<(), LostChanges> {
        let Some((at, layout)) = self.maps.get(&table_number(event)) else {
            return Ok(());
        };
        let table = &self.tables[*at];
        let Some(EventData::RowsEvent(rows)) =
            event.read_data().map_err(|error| unreadable(&error))?
        else {
            return Err(not_read("rows without a form"));
        };
        let is_target = table.what != What::Blogs;
        let open = &mut self.open;
        let changed = |key: u64, how: How| {
            let is_ours =
                !is_target || i64::try_from(key).is_ok_and(|id| TargetId::new(id).is_some());
            if is_ours && open.len() <= CHANGED_ROWS_MAX {
                match how {
                    How::Edited => open.of(table.what).insert(key),
                    How::Switched => open.switched.insert(key),
                };
            }
        };
        let shape = |detail: &str| LostChanges::Shape {
            table: table.name.clone(),
            detail: detail.to_owned(),
        };
        if rows.num_columns() != layout.widths.len() as u64 {
            return Err(shape("an event has another number of columns"));
        }
        let judged = layout.judge(&images(&rows), rows.rows_data(), changed);
        let judged = judged.map_err(|broken| match broken {
            Broken::Cut => shape("an event ends within a row"),
            Broken::NoKey => shape("rows do not say which they are: binlog_row_image"),
        })?;
        Counters::add(&self.counters.rows, judged.seen);
        Counters::add(&self.counters.rows_filtered, judged.same);
        if self.open.len() > CHANGED_ROWS_MAX {
            return Err(LostChanges::TooMany);
        }
        Ok(())
    }

    fn refuse_ours(&self, event: &Event, what: &str) -> Result<(), LostChanges> {
        if self.maps.contains_key(&table_number(event)) {
            return Err(not_read(what));
        }
        Ok(())
    }

    fn query(&mut self, event: &Event) -> Result<(), LostChanges> {
        let query = event
            .read_event::<QueryEvent<'_>>()
            .map_err(|error| unreadable(&error))?;
        match kind(query.query_raw()) {
            Kind::Begin => self.in_transaction = true,
            Kind::End => self.end(event),
            Kind::Other => {
                self.statement(query.schema_raw(), query.query_raw())?;
                if !self.in_transaction {
                    self.end(event);
                }
            }
        }
        Ok(())
    }

    fn statement(&self, within: &[u8], statement: &[u8]) -> Result<(), LostChanges> {
        let tables = self.tables.iter().map(|table| table.name.as_str());
        match named(statement, within, &self.database, tables) {
            None => Ok(()),
            Some(table) => Err(LostChanges::Statement {
                table: table.to_owned(),
                statement: first_word(statement),
            }),
        }
    }

    /// A transaction is complete.
    fn end(&mut self, event: &Event) {
        self.in_transaction = false;
        self.ready.extend(std::mem::take(&mut self.open));
        // The field has 32 bits: from 4 GiB on there is no place to go back to in this file. What
        // the server makes up itself has no place at all.
        let offset = u64::from(event.header().log_pos());
        let is_real = !event
            .header()
            .flags()
            .contains(EventFlags::LOG_EVENT_ARTIFICIAL_F);
        if is_real && self.file == self.reached.file && offset > self.reached.offset {
            self.reached.offset = offset;
        }
    }
}

/// Rows events and table maps begin with the number of their table, in six bytes.
fn table_number(event: &Event) -> u64 {
    let mut whole = [0; 8];
    let number = event.data().get(..6).unwrap_or_default();
    whole[..number.len()].copy_from_slice(number);
    u64::from_le_bytes(whole)
}

/// How the rows of `table` are written, as `map` says.
fn layout(table: &Watched, map: &TableMapEvent<'_>) -> Result<Layout, String> {
    let found = map.columns_count();
    if found != table.columns as u64 {
        return Err(format!("{found} columns instead of {}", table.columns));
    }
    let mut widths = Vec::with_capacity(table.columns);
    for at in 0..table.columns {
        let unknown = || format!("column {} is of a type that is not known", at + 1);
        let kind = map.get_raw_column_type(at).ok().flatten();
        let kind = kind.ok_or_else(unknown)?;
        if at == table.key && !is_whole(kind) {
            return Err(format!("column {} is no whole number", at + 1));
        }
        let meta = map.get_column_metadata(at).unwrap_or_default();
        widths.push(Width::of(kind, meta).ok_or_else(unknown)?);
    }
    Ok(Layout {
        widths,
        read: table.read.clone(),
        key: table.key,
        key_is_unsigned: table.key_is_unsigned,
        switch: table.switch,
    })
}

fn is_whole(kind: ColumnType) -> bool {
    matches!(
        kind,
        ColumnType::MYSQL_TYPE_TINY
            | ColumnType::MYSQL_TYPE_SHORT
            | ColumnType::MYSQL_TYPE_INT24
            | ColumnType::MYSQL_TYPE_LONG
            | ColumnType::MYSQL_TYPE_LONGLONG
    )
}

fn images(rows: &RowsEventData<'_>) -> Images {
    let before = rows.columns_before_image();
    let after = rows.columns_after_image();
    Images {
        before: before.map(|bits| bits.iter().by_vals().collect()),
        after: after.map(|bits| bits.iter().by_vals().collect()),
    }
}

fn unreadable(error: &io::Error) -> LostChanges {
    LostChanges::Unreadable {
        detail: error.to_string(),
    }
}

fn not_read(what: &str) -> LostChanges {
    LostChanges::Unreadable {
        detail: what.to_owned(),
    }
}
