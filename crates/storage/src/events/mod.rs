//! The event log: what happened, in the order in which it was committed, in a database of its own.
//!
//! Events are stored without being interpreted. There are two ways in. [`EventLog::record`] never waits: what it took is
//! lost if the process dies before the next commit, which is what waits in the queue and the commit under way, and a queue
//! that is full refuses. [`EventLog::append`] returns when its events are durable. One thread writes both, in the order in
//! which they came, so events that were handed over one after another keep their order whichever way they took. It is
//! woken by what comes, waits a moment for more ([`LINGER`]) unless somebody waits for it, and ends when the log is closed
//! or the last handle dropped, after what is queued. Positions are given by the commit: gapless, unique, in commit order.
//!
//! While the disk fails, what was recorded stays queued and is tried again, and what somebody waits for fails at once.
//! Readers go on.
//!
//! The oldest events can be moved to files ([`archive`]). Whoever asks for them here is told so.
//!
//! A writer from outside that must not write twice has a mark changed together with its events
//! ([`EventLog::append_marked`]), or gives its batch a key ([`EventLog::append_once`]).
//!
//! What was spent stands in the same database ([`crate::ledger`]), so that it and the event that tells of it are one
//! transaction.

pub mod archive;
mod cut;
#[cfg(test)]
mod marked_tests;
mod marks;
mod queue;
mod recorder;
mod rows;
#[cfg(test)]
pub(crate) mod tests;

use std::{
    borrow::Cow,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use holdfast_resilience::health::Queue;
use tokio::sync::{Semaphore, oneshot, watch};
use uuid::Uuid;

pub use self::marks::{
    Appended, Before, MARK_BYTES_MAX, MARK_NAME_BYTES_MAX, MARKS_MAX, Mark, ONCE_KEPT_MS, ONCE_KEY_BYTES_MAX,
};
use self::{
    marks::OnceKey,
    queue::{AppendRequest, FlushRequest, Lost, SettleRequest, With},
    recorder::Recorder,
};
pub(crate) use self::{
    queue::{Item, ReserveReply, ReserveRequest, Shared},
    rows::Appender,
};
use crate::{
    DataDirectory, Ledger,
    error::StorageError,
    ledger::{Known, KnownBudgets, Settlement, rows as ledger_rows},
    sql::{self, Database},
};

/// Bytes that an event's body may have.
pub const EVENT_BYTES_MAX: usize = 1 << 20;
/// Bytes that a kind may have.
pub const KIND_BYTES_MAX: usize = 64;
/// Bytes that a tenant, a caller or a session may have.
pub const NAME_BYTES_MAX: usize = 256;
/// Recorded events that may wait for the disk.
pub const QUEUED_EVENTS_MAX: usize = 65_536;
/// Bytes that those may have, with what is kept beside each.
pub const QUEUED_BYTES_MAX: usize = 64 << 20;
/// Events that may be appended at once.
pub const APPEND_EVENTS_MAX: usize = 1_000;
/// Bytes that those may have.
pub const APPEND_BYTES_MAX: usize = 8 << 20;
/// How long recorded events wait for others to share their commit.
pub const LINGER: Duration = Duration::from_millis(10);
/// Events that are looked at for one page, whether they are wanted or not.
pub const SCAN_MAX: usize = 20_000;
/// Bytes of bodies after which a page ends.
const PAGE_BYTES_MAX: usize = 16 << 20;
/// Events of one interaction that are read.
const INTERACTION_EVENTS_MAX: usize = 1_000;
/// Bytes of appended events that may wait, in KiB.
const APPENDS_WAITING_KIB: usize = 64 << 10;
/// Flushes that may wait; a further one waits for a place.
const FLUSHES_WAITING: usize = 64;

/// Something that happened, before it has a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// Its id; version 7, so that ids sort by time.
    pub id: Uuid,
    /// What kind of thing: a stable word of lower-case letters, digits and underscores. Kinds need not be known here.
    pub kind: Cow<'static, str>,
    /// Which form the body of this kind has.
    pub version: u16,
    /// Whose data it is.
    pub tenant: Arc<str>,
    /// The interaction it belongs to.
    pub interaction: Option<Uuid>,
    /// The session it belongs to.
    pub session: Option<Arc<str>>,
    /// Who caused it.
    pub caller: Arc<str>,
    /// When it happened, in Unix milliseconds, by whoever tells of it.
    pub at_ms: i64,
    /// JSON.
    pub body: Vec<u8>,
}

/// An event on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its place in the log, from 1.
    pub position: u64,
    /// Its id.
    pub id: Uuid,
    /// What kind of thing.
    pub kind: Arc<str>,
    /// Which form the body has.
    pub version: u16,
    /// Whose data it is.
    pub tenant: Arc<str>,
    /// The interaction it belongs to.
    pub interaction: Option<Uuid>,
    /// The session it belongs to.
    pub session: Option<Arc<str>>,
    /// Who caused it.
    pub caller: Arc<str>,
    /// When it happened; Unix milliseconds.
    pub at_ms: i64,
    /// JSON.
    pub body: Vec<u8>,
}

/// Which events are wanted; all of them by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Those of these kinds; of any where empty.
    pub kinds: Vec<String>,
    /// Those of this tenant.
    pub tenant: Option<String>,
    /// Those of this caller.
    pub caller: Option<String>,
    /// Those of this session.
    pub session: Option<String>,
}

/// A part of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventPage {
    /// The events that were wanted.
    pub events: Vec<Event>,
    /// How far the log was looked at: where the next page begins. No wanted event between there and where this page
    /// began is missing. At the log's end this is its last position, or 0 where the page ran backwards.
    pub through: u64,
}

/// An event that cannot be stored, now or later.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadEvent {
    /// Its body is too large.
    #[error("an event of {size_bytes} bytes is too large; at most {EVENT_BYTES_MAX} are stored")]
    TooLarge {
        /// How large it is.
        size_bytes: usize,
    },

    /// Its kind is no word.
    #[error("an event's kind is a word of lower-case letters, digits and underscores")]
    Kind,

    /// One of its names is too long, or empty.
    #[error("an event's {what} has from 1 to {NAME_BYTES_MAX} bytes")]
    Name {
        /// Which: tenant, caller or session.
        what: &'static str,
    },
}

/// Why an event was not recorded. It is counted; nobody else needs to do anything about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRecorded {
    /// As much waits for the disk as may.
    #[error("too many events wait for the disk")]
    Overflow,

    /// It cannot be stored.
    #[error(transparent)]
    Bad(#[from] BadEvent),

    /// The log is closed.
    #[error("the event log is closed")]
    Closed,
}

/// Why events were not appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// One of them cannot be stored.
    #[error(transparent)]
    Bad(#[from] BadEvent),

    /// They are too many for once.
    #[error(
        "{count} events of {size_bytes} bytes are too many at once; {APPEND_EVENTS_MAX} of {APPEND_BYTES_MAX} are taken"
    )]
    TooMany {
        /// How many they are.
        count: usize,
        /// Bytes they have.
        size_bytes: usize,
    },

    /// A mark cannot be stored.
    #[error("a mark {problem}")]
    BadMark {
        /// What is wrong with it, continuing the sentence.
        problem: &'static str,
    },

    /// A mark is not what it should have been: somebody has changed it, or an append that seemed lost was written.
    #[error("the mark {name:?} is not what it was taken for")]
    Moved {
        /// Its name.
        name: String,
    },

    /// The caller or the key of a batch that is written once is empty or too long.
    #[error(
        "a batch that is written once has a caller of 1 to {NAME_BYTES_MAX} bytes and a key of 1 to {ONCE_KEY_BYTES_MAX}"
    )]
    BadKey,

    /// The key of a batch was used for another one within the last day.
    #[error("the key was used for another batch of events")]
    KeyReused,

    /// They could not be written. Where a commit failed it is not certain that they are not there.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl NewEvent {
    /// What is kept in memory for it, about.
    fn size_bytes(&self) -> usize {
        const BESIDE_BODY: usize = 256;
        self.body.len() + BESIDE_BODY
    }

    /// Whether it can be stored.
    ///
    /// # Errors
    /// [`BadEvent`] says what is wrong with it.
    pub fn check(&self) -> Result<(), BadEvent> {
        if self.body.len() > EVENT_BYTES_MAX {
            return Err(BadEvent::TooLarge { size_bytes: self.body.len() });
        }
        let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if !(1..=KIND_BYTES_MAX).contains(&self.kind.len()) || !self.kind.bytes().all(is_word) {
            return Err(BadEvent::Kind);
        }
        let names =
            [("tenant", Some(&self.tenant)), ("caller", Some(&self.caller)), ("session", self.session.as_ref())];
        for (what, name) in names {
            if name.is_some_and(|name| !(1..=NAME_BYTES_MAX).contains(&name.len())) {
                return Err(BadEvent::Name { what });
            }
        }
        Ok(())
    }
}

/// A handle to the event log; cloning is shallow.
#[derive(Clone)]
pub struct EventLog {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) database: Database,
    pub(crate) shared: Arc<Shared>,
    pub(crate) budgets: Arc<KnownBudgets>,
    /// KiB of appended events that may still come in.
    appends: Arc<Semaphore>,
    flushes: Arc<Semaphore>,
    recorder: Mutex<Option<thread::JoinHandle<()>>>,
}

impl EventLog {
    /// Opens the log of a data directory, bringing its schema up to date. What a former process had reserved of budgets
    /// and not settled is charged in full first. Blocks.
    pub fn open(directory: &DataDirectory) -> Result<Self, StorageError> {
        Self::open_at(&directory.events())
    }

    /// Opens a database file.
    pub fn open_at(path: &Path) -> Result<Self, StorageError> {
        struct Found {
            last_position: u64,
            budgets: Vec<Known>,
            forfeited: usize,
        }
        let (database, found) = Database::open_after(path, sql::EVENTS, |connection| {
            let forfeited = ledger_rows::forfeit_all(connection)?;
            let budgets = ledger_rows::known(connection)?;
            Ok(Found { last_position: rows::last_position(connection)?, budgets, forfeited })
        })?;
        let shared = Arc::new(Shared::new(found.last_position));
        shared.meters.left_behind.increment(found.forfeited as u64);
        if found.forfeited > 0 {
            tracing::warn!(
                reservations = found.forfeited,
                "calls whose end nobody saw were charged to their budgets in full"
            );
        }
        let recorder = Recorder::new(Arc::clone(&shared), database.clone());
        let recorder = thread::Builder::new()
            .name("holdfast-record".into())
            .spawn(move || recorder.run())
            .map_err(crate::error::file_error("start the recorder of", path))?;
        let inner = Inner {
            database,
            shared,
            budgets: Arc::new(KnownBudgets::new(found.budgets)),
            appends: Arc::new(Semaphore::new(APPENDS_WAITING_KIB)),
            flushes: Arc::new(Semaphore::new(FLUSHES_WAITING)),
            recorder: Mutex::new(Some(recorder)),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What may be spent, and what was.
    pub fn ledger(&self) -> Ledger {
        Ledger::new(self.clone())
    }

    /// Queues an event. Never waits, neither for the disk nor for a place; what is not taken is counted.
    ///
    /// # Errors
    /// [`NotRecorded`], which most callers have no use for.
    pub fn record(&self, event: NewEvent) -> Result<(), NotRecorded> {
        let shared = &self.inner.shared;
        if let Err(bad) = event.check() {
            shared.lost(Lost::Bad, 1);
            return Err(bad.into());
        }
        shared.offer(Box::new(event))
    }

    /// Writes events, one after another and together, and returns their positions once they are durable.
    ///
    /// # Errors
    /// [`AppendError`]; none of them is written, unless it is [`AppendError::Storage`] of a commit that failed.
    pub async fn append(&self, events: Vec<NewEvent>) -> Result<Vec<u64>, AppendError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        Ok(self.hand_over(events, With::Nothing).await?.positions.collect())
    }

    /// Writes events as [`EventLog::append`] does and changes marks with them: either all of it is there or nothing.
    ///
    /// After an error nobody needs to guess. The marks are read again ([`EventLog::marks`]): they tell whether it was
    /// written, since nothing of what failed is tried again here. A future of this that is dropped may be written at any
    /// time later, which [`Before`] guards against.
    ///
    /// # Errors
    /// [`AppendError`]; nothing is written, unless it is [`AppendError::Storage`] of a commit that failed.
    pub async fn append_marked(&self, events: Vec<NewEvent>, marks: Vec<Mark>) -> Result<Vec<u64>, AppendError> {
        if events.is_empty() && marks.is_empty() {
            return Ok(Vec::new());
        }
        marks::check(&marks)?;
        Ok(self.hand_over(events, With::Marks(marks)).await?.positions.collect())
    }

    /// Writes a batch of a caller that came with a key, once: the same again within a day ([`ONCE_KEPT_MS`]) writes
    /// nothing and is told where the events stand. `body_hash` says what the same is, `now_ms` is the present in Unix
    /// milliseconds.
    ///
    /// # Errors
    /// [`AppendError::KeyReused`] where another batch had that key, and what [`EventLog::append`] has. After any error
    /// the same call may be made again.
    pub async fn append_once(
        &self,
        caller: &str,
        key: &str,
        body_hash: [u8; 32],
        events: Vec<NewEvent>,
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        let key = OnceKey { caller: caller.to_owned(), key: key.to_owned(), body_hash, now_ms };
        key.check()?;
        self.hand_over(events, With::Key(key)).await
    }

    /// The marks whose names begin so, with their values, in the order of their names. Blocks for as long as the disk
    /// takes.
    pub fn marks(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StorageError> {
        self.inner.database.read_snapshot(|connection| marks::beginning_with(connection, prefix))
    }

    /// Queues events once there is room for them, and waits until they are durable.
    async fn hand_over(&self, events: Vec<NewEvent>, with: With) -> Result<Appended, AppendError> {
        for event in &events {
            event.check()?;
        }
        let size_bytes = events.iter().map(|event| event.body.len()).sum();
        if events.len() > APPEND_EVENTS_MAX || size_bytes > APPEND_BYTES_MAX {
            return Err(AppendError::TooMany { count: events.len(), size_bytes });
        }
        let with_it = with.load();
        let kib = (size_bytes + with_it.bytes) / 1_024 + events.len() + with_it.events;
        let kib = u32::try_from(kib).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.inner.appends).acquire_many_owned(kib).await.map_err(|_| StorageError::Closed)?;
        let (answer, answered) = oneshot::channel();
        self.inner.shared.push(Item::Append(Box::new(AppendRequest { events, with, answer, _room: room })));
        answered.await.map_err(|_| StorageError::Closed)?
    }

    /// Returns once everything that was recorded before is durable; while the disk fails, that is when it works again.
    ///
    /// # Errors
    /// [`StorageError::Closed`], where that was not to be seen any more.
    pub async fn flush(&self) -> Result<(), StorageError> {
        let place = Arc::clone(&self.inner.flushes).acquire_owned().await.map_err(|_| StorageError::Closed)?;
        let (answer, answered) = oneshot::channel();
        self.inner.shared.push(Item::Flush(FlushRequest { answer, _place: place }));
        answered.await.map_err(|_| StorageError::Closed)
    }

    /// Wanted events after a position, in order. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// [`StorageError::Archived`] where the next ones are no longer here: nothing is passed over in silence.
    pub fn read_after(&self, position: u64, limit: usize, filter: &EventFilter) -> Result<EventPage, StorageError> {
        self.inner.database.read_snapshot(|connection| rows::read_after(connection, position, limit, filter))
    }

    /// Wanted events before a position, or from the end, newest first. Blocks for as long as the disk takes. What was
    /// archived is not among them: where that ends, [`EventLog::first_position`] says.
    pub fn read_before(
        &self,
        position: Option<u64>,
        limit: usize,
        filter: &EventFilter,
    ) -> Result<EventPage, StorageError> {
        self.inner.database.read_snapshot(|connection| rows::read_before(connection, position, limit, filter))
    }

    /// The wanted events of an interaction, in order; the first thousand. Blocks for as long as the disk takes. What was
    /// archived is not among them.
    pub fn of_interaction(&self, interaction: Uuid, filter: &EventFilter) -> Result<Vec<Event>, StorageError> {
        self.inner.database.read_snapshot(|connection| rows::of_interaction(connection, interaction, filter))
    }

    /// The last position that was given to an event that is durable; 0 where there was none. It is never given again,
    /// whatever is archived.
    pub fn last_position(&self) -> u64 {
        self.inner.shared.last_position()
    }

    /// Follows [`EventLog::last_position`]: a consumer waits here for more.
    pub fn positions(&self) -> watch::Receiver<u64> {
        self.inner.shared.positions()
    }

    /// The recorded events that are not durable, of those that may be.
    pub fn queue(&self) -> Queue {
        Queue { name: "events", length: self.inner.shared.queued(), limit: QUEUED_EVENTS_MAX }
    }

    /// Events that were not recorded since the log was opened.
    pub fn lost(&self) -> u64 {
        self.inner.shared.lost_in_all()
    }

    /// Bytes of the log on disk.
    pub fn size_bytes(&self) -> u64 {
        self.inner.database.size_bytes()
    }

    /// Why what was tried last is not written, until something is, or that nobody writes any more.
    pub fn failure(&self) -> Option<String> {
        self.inner.shared.failure().or_else(|| self.inner.database.failure())
    }

    /// A write that changes nothing and reaches the disk: whether the log can be written.
    pub async fn probe(&self) -> Result<(), StorageError> {
        self.inner.database.probe().await
    }

    /// What SQLite's own check of the whole file complains of.
    pub fn integrity(&self) -> Result<Vec<String>, StorageError> {
        self.inner.database.integrity()
    }

    /// Commits what is queued and ends. Later events are refused. A disk that fails is given a few seconds. Blocks, so
    /// not for a thread of an async runtime.
    pub fn close(&self) {
        self.inner.shared.close();
        let recorder = self.inner.recorder.lock().unwrap_or_else(PoisonError::into_inner).take();
        if recorder.is_some_and(|recorder| recorder.join().is_err()) {
            tracing::error!("the recorder of events had panicked");
        }
        self.inner.database.close();
    }

    /// Hands over a settlement; nothing about it can fail that a later start would not make good.
    pub(crate) fn settle(&self, mut settlement: Settlement, answer: Option<oneshot::Sender<Result<(), StorageError>>>) {
        let Settlement { events, ending, .. } = &mut settlement;
        events.retain_mut(|event| {
            let mut checked = event.check();
            if let Err(BadEvent::TooLarge { size_bytes }) = checked {
                tracing::error!(kind = &*event.kind, size_bytes, "an event of a settlement was too large and is cut");
                // What it tells of is charged, so that it cannot be left out.
                event.body = cut::to_fit(&event.body, ending);
                checked = event.check();
            }
            if let Err(bad) = &checked {
                tracing::error!(kind = &*event.kind, %bad, "an event of a settlement cannot be stored");
                self.inner.shared.lost(Lost::Bad, 1);
            }
            checked.is_ok()
        });
        self.inner.shared.push(Item::Settle(Box::new(SettleRequest { settlement, answer })));
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The recorder ends by itself after what is queued; nobody here may wait for it.
        self.shared.close();
    }
}
