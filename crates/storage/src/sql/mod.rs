//! A SQLite database: one writer, pooled readers, group commit. There are three, each with a [`Kind`] of its own.
//!
//! Writes are closures queued to one thread. It runs as many as are waiting in one transaction,
//! each in a savepoint of its own so that one failure does not take the others with it, and
//! answers all of them after the commit is synced. The thread is woken by its queue and ends
//! when the last [`Database`] handle is dropped.
//!
//! Readers are connections in a pool; a read blocks its thread for as long as SQLite takes.

pub mod migrate;

use std::{
    fs::OpenOptions,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use holdfast_resilience::health::Queue;
use metrics::{Counter, Histogram, counter, histogram};
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use crate::error::StorageError;
use migrate::Schema;

/// Writes that may wait for the writer; a further one waits for a place.
const QUEUED_WRITES_MAX: usize = 256;
/// Writes that share one commit.
const WRITES_PER_COMMIT_MAX: usize = 64;
const READERS: usize = 4;
const STATEMENTS_CACHED: usize = 128;

/// In what one database differs from another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// What it holds.
    pub schema: &'static Schema,
    /// What its writer's thread is called.
    pub thread: &'static str,
    /// What the queue of its writer is called.
    pub queue: &'static str,
    /// Pages that each connection keeps, in KiB.
    pub cache_kib: u32,
    /// Pages of the write-ahead log that are moved into the database file at a time, while writers wait.
    pub checkpoint_pages: u32,
}

impl Kind {
    fn open_writer(self, path: &Path) -> Result<Connection, StorageError> {
        let connection = self.tuned(open_writer(path, self.schema)?)?;
        connection.execute_batch(&format!("PRAGMA wal_autocheckpoint = {}", self.checkpoint_pages))?;
        Ok(connection)
    }

    fn tuned(self, connection: Connection) -> Result<Connection, StorageError> {
        // Negative numbers are KiB.
        connection.execute_batch(&format!("PRAGMA cache_size = -{}", self.cache_kib))?;
        Ok(connection)
    }
}

/// The main database.
pub(crate) const MAIN: Kind = Kind {
    schema: &migrate::MAIN,
    thread: "holdfast-sql",
    queue: "database_writes",
    cache_kib: 16_000,
    checkpoint_pages: 4_000,
};

/// The event log and the ledger, which is written at its end and read in order: a small cache does. Calls wait for
/// reservations, so checkpoints are small.
pub(crate) const EVENTS: Kind = Kind {
    schema: &migrate::EVENTS,
    thread: "holdfast-events",
    queue: "events_writes",
    cache_kib: 4_000,
    checkpoint_pages: 1_000,
};

/// What is derived from the event log. Nobody waits for its writer but the one who derives.
pub(crate) const LEARNING: Kind = Kind {
    schema: &migrate::LEARNING,
    thread: "holdfast-derive",
    queue: "learning_writes",
    cache_kib: 16_000,
    checkpoint_pages: 4_000,
};

/// A handle to a database; cloning is shallow.
#[derive(Clone)]
pub struct Database {
    kind: Kind,
    writes: mpsc::Sender<Box<dyn Write>>,
    readers: Arc<Readers>,
    path: Arc<Path>,
    /// Why the last commit failed, until one succeeds.
    failure: Arc<Mutex<Option<String>>>,
    writer: Arc<Mutex<Option<thread::JoinHandle<()>>>>,
}

/// A queued write, in the three steps of its life: run in a savepoint, kept or reverted, told
/// how the commit went.
trait Write: Send {
    /// Runs the body; an error asks for the savepoint to be reverted.
    fn run(&mut self, connection: &Connection) -> Verdict;
    /// Answers the caller with the commit's fate.
    fn settle(self: Box<Self>, committed: Result<(), StorageError>);
}

/// What becomes of a write's savepoint.
enum Verdict {
    Keep,
    Revert,
    /// The storage itself failed; nothing of this transaction can stand.
    Abandon(StorageError),
    /// Nothing comes after this one.
    Close,
}

/// The last write there is.
struct Close;

impl Write for Close {
    fn run(&mut self, _connection: &Connection) -> Verdict {
        Verdict::Close
    }

    fn settle(self: Box<Self>, _committed: Result<(), StorageError>) {}
}

type Then<T> = Box<dyn FnOnce(&T) + Send>;

struct Pending<T, F> {
    body: Option<F>,
    result: Option<Result<T, StorageError>>,
    /// What is done with the result once it is durable, whether or not somebody waits for it still.
    then: Option<Then<T>>,
    answer: oneshot::Sender<Result<T, StorageError>>,
}

impl<T, F> Write for Pending<T, F>
where
    T: Send,
    F: FnOnce(&Connection) -> Result<T, StorageError> + Send,
{
    fn run(&mut self, connection: &Connection) -> Verdict {
        let Some(body) = self.body.take() else { return Verdict::Revert };
        let result = body(connection);
        let verdict = match &result {
            Ok(_) => Verdict::Keep,
            Err(
                error @ (StorageError::Full(_)
                | StorageError::Device(_)
                | StorageError::ReadOnly(_)
                | StorageError::Damaged(_)),
            ) => Verdict::Abandon(repeat(error)),
            Err(_) => Verdict::Revert,
        };
        self.result = Some(result);
        verdict
    }

    fn settle(self: Box<Self>, committed: Result<(), StorageError>) {
        let Self { body, result, then, answer } = *self;
        // What a body holds that never ran is its caller's alone by the time the caller hears of it.
        drop(body);
        let result = match (committed, result) {
            (Err(error), _) => Err(error),
            (Ok(()), Some(result)) => result,
            (Ok(()), None) => Err(StorageError::Closed),
        };
        if let (Ok(result), Some(then)) = (&result, then) {
            then(result);
        }
        // A caller that has gone no longer wants the answer; the write stands.
        let _ = answer.send(result);
    }
}

impl Database {
    /// Opens the database at `path`, creating and migrating it where needed.
    pub(crate) fn open(path: &Path, kind: Kind) -> Result<Self, StorageError> {
        Ok(Self::open_after(path, kind, |_| Ok(()))?.0)
    }

    /// The same, with something done before anybody else can write.
    pub(crate) fn open_after<T>(
        path: &Path,
        kind: Kind,
        before: impl FnOnce(&mut Connection) -> Result<T, StorageError>,
    ) -> Result<(Self, T), StorageError> {
        if path.exists() {
            kind.schema.check(&open_reader(path)?)?;
        }
        let mut connection = kind.open_writer(path)?;
        kind.schema.up(&mut connection, kind.schema.newest())?;
        let done = before(&mut connection)?;
        let readers = Readers::open(path, READERS, kind)?;
        let (writes, queue) = mpsc::channel(QUEUED_WRITES_MAX);
        let failure = Arc::<Mutex<Option<String>>>::default();
        let writer = Writer {
            connection: Some(connection),
            path: path.to_owned(),
            queue,
            failure: Arc::clone(&failure),
            closing: false,
            kind,
            meters: Meters::new(kind),
        };
        let writer = thread::Builder::new()
            .name(kind.thread.into())
            .spawn(move || writer.run())
            .map_err(crate::error::file_error("start the writer of", path))?;
        let database = Self {
            kind,
            writes,
            readers: Arc::new(readers),
            path: path.into(),
            failure,
            writer: Arc::new(Mutex::new(Some(writer))),
        };
        Ok((database, done))
    }

    /// Runs `body` in a transaction and returns once it is durable.
    ///
    /// An error from `body` leaves nothing behind.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        body: impl FnOnce(&Connection) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let (answer, answered) = oneshot::channel();
        let write = Pending { body: Some(body), result: None, then: None, answer };
        self.writes.send(Box::new(write)).await.map_err(|_| StorageError::Closed)?;
        answered.await.map_err(|_| StorageError::Closed)?
    }

    /// [`Database::write`], with something done by the writer once it is durable, before any later write is: also where
    /// whoever asked for it has left.
    pub(crate) async fn write_then<T: Send + 'static>(
        &self,
        body: impl FnOnce(&Connection) -> Result<T, StorageError> + Send + 'static,
        then: impl FnOnce(&T) + Send + 'static,
    ) -> Result<T, StorageError> {
        let (answer, answered) = oneshot::channel();
        let write = Pending { body: Some(body), result: None, then: Some(Box::new(then)), answer };
        self.writes.send(Box::new(write)).await.map_err(|_| StorageError::Closed)?;
        answered.await.map_err(|_| StorageError::Closed)?
    }

    /// Ends the writer, after what is queued, with everything in the database file itself. Later
    /// writes are refused. Blocks.
    pub(crate) fn close(&self) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(writer) = writer else { return };
        // A writer that has ended already needs no telling.
        let _ = self.writes.blocking_send(Box::new(Close));
        if writer.join().is_err() {
            tracing::error!(database = self.kind.schema.name, "the database's writer had panicked");
        }
    }

    /// [`Database::write`] for a thread outside the async runtime.
    pub(crate) fn write_blocking<T: Send + 'static>(
        &self,
        body: impl FnOnce(&Connection) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let (answer, answered) = oneshot::channel();
        let write = Pending { body: Some(body), result: None, then: None, answer };
        self.writes.blocking_send(Box::new(write)).map_err(|_| StorageError::Closed)?;
        answered.blocking_recv().map_err(|_| StorageError::Closed)?
    }

    /// Runs `body` on a pooled read-only connection, blocking this thread.
    pub(crate) fn read<T>(&self, body: impl FnOnce(&Connection) -> Result<T, StorageError>) -> Result<T, StorageError> {
        let reader = self.readers.take();
        body(reader.connection())
    }

    /// Like [`Database::read`], with every statement seeing the same state.
    pub(crate) fn read_snapshot<T>(
        &self,
        body: impl FnOnce(&Connection) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let reader = self.readers.take();
        let transaction = reader.connection().unchecked_transaction()?;
        let result = body(&transaction);
        // Read-only: nothing to lose either way.
        transaction.rollback()?;
        result
    }

    /// A write that changes nothing and reaches the disk: whether the database can be written.
    pub(crate) async fn probe(&self) -> Result<(), StorageError> {
        self.write(|connection| {
            // Nothing reads this number; setting it writes a page, whatever it was.
            connection.execute_batch("PRAGMA user_version = 1")?;
            Ok(())
        })
        .await
    }

    /// Why the last commit failed, until one succeeds; that nobody writes any more, where nobody asked for that.
    pub fn failure(&self) -> Option<String> {
        let is_closed = self.writer.lock().unwrap_or_else(PoisonError::into_inner).is_none();
        if !is_closed && self.has_ended() {
            return Some("the database's writer broke off".to_owned());
        }
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether nothing can be written any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.writes.is_closed()
    }

    /// The writes that wait for the writer.
    pub fn queue(&self) -> Queue {
        let length = QUEUED_WRITES_MAX - self.writes.capacity();
        Queue { name: self.kind.queue, length, limit: QUEUED_WRITES_MAX }
    }

    /// How many reading connections are idle, and how many there are.
    pub fn readers(&self) -> (usize, usize) {
        (self.readers.idle.lock().unwrap_or_else(PoisonError::into_inner).len(), READERS)
    }

    /// The database file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the database and its write-ahead log.
    pub fn size_bytes(&self) -> u64 {
        let size = |path: PathBuf| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        let log = PathBuf::from(format!("{}-wal", self.path.display()));
        size(self.path.to_path_buf()) + size(log)
    }

    /// Runs SQLite's own check of the whole file.
    pub(crate) fn integrity(&self) -> Result<Vec<String>, StorageError> {
        let lines = self.read(|connection| {
            let mut statement = connection.prepare("PRAGMA integrity_check(20)")?;
            let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
            Ok(rows.collect::<Result<Vec<_>, _>>()?)
        });
        match lines {
            Ok(lines) if lines == ["ok"] => Ok(Vec::new()),
            // Some damage the check cannot look past: then that it could not is what it complains of.
            Err(StorageError::Damaged(error)) => Ok(vec![error.to_string()]),
            lines => lines,
        }
    }
}

/// The thread that owns the writing connection.
struct Writer {
    /// `None` after a failure of the storage, until the next write opens it anew.
    connection: Option<Connection>,
    path: PathBuf,
    queue: mpsc::Receiver<Box<dyn Write>>,
    failure: Arc<Mutex<Option<String>>>,
    /// Whether the last write has come.
    closing: bool,
    kind: Kind,
    meters: Meters,
}

/// What the writer counts.
struct Meters {
    committed: Counter,
    failed: Counter,
    writes: Counter,
    seconds: Histogram,
}

impl Meters {
    fn new(kind: Kind) -> Self {
        let database = kind.schema.name;
        let commits = |outcome: &'static str| counter!("holdfast_database_commits_total", "database" => database, "outcome" => outcome);
        Self {
            committed: commits("ok"),
            failed: commits("error"),
            writes: counter!("holdfast_database_writes_total", "database" => database),
            seconds: histogram!("holdfast_database_commit_duration_seconds", "database" => database),
        }
    }
}

impl Writer {
    fn run(mut self) {
        let mut waiting = Vec::with_capacity(WRITES_PER_COMMIT_MAX);
        while !self.closing && self.queue.blocking_recv_many(&mut waiting, WRITES_PER_COMMIT_MAX) > 0 {
            self.commit(std::mem::take(&mut waiting));
        }
        if let Some(connection) = self.connection
            && let Err(error) = connection.execute_batch("PRAGMA optimize; PRAGMA wal_checkpoint(TRUNCATE);")
        {
            tracing::warn!(database = self.kind.schema.name, %error, "failed to tidy the database on closing");
        }
    }

    /// One transaction for all of `writes`; each is answered when its fate is certain.
    fn commit(&mut self, mut writes: Vec<Box<dyn Write>>) {
        let began = Instant::now();
        let outcome = self.transact(&mut writes);
        self.meters.seconds.record(began.elapsed().as_secs_f64());
        match &outcome {
            Ok(()) => {
                self.meters.committed.increment(1);
                self.meters.writes.increment(writes.len() as u64);
            }
            Err(_) => self.meters.failed.increment(1),
        }
        if let Err(error) = &outcome {
            tracing::error!(
                error = error as &dyn std::error::Error,
                database = self.kind.schema.name,
                writes = writes.len(),
                "failed to commit to the database"
            );
            // After a failed sync nobody knows what the file holds; a fresh connection asks it.
            self.connection = None;
        }
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = outcome.as_ref().err().map(ToString::to_string);
        for write in writes {
            write.settle(outcome.as_ref().copied().map_err(repeat));
        }
    }

    fn transact(&mut self, writes: &mut [Box<dyn Write>]) -> Result<(), StorageError> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            closed => closed.insert(self.kind.open_writer(&self.path).map_err(as_statement)?),
        };
        let mut transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for write in writes {
            let mut savepoint = transaction.savepoint()?;
            match write.run(&savepoint) {
                Verdict::Keep => {}
                Verdict::Close => self.closing = true,
                Verdict::Revert => savepoint.rollback()?,
                Verdict::Abandon(error) => return Err(error),
            }
            savepoint.commit()?;
        }
        transaction.commit()?;
        Ok(())
    }
}

/// What kept a file from being opened again, as a statement would have met it: whoever waits for a write is told
/// whether it may pass, not that there is no database.
fn as_statement(error: StorageError) -> StorageError {
    use std::io::ErrorKind;
    let StorageError::File { source, .. } = &error else { return error };
    let because = |code| rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), Some(source.to_string()));
    match source.kind() {
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => {
            StorageError::ReadOnly(because(rusqlite::ffi::SQLITE_READONLY))
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StorageError::Full(because(rusqlite::ffi::SQLITE_FULL)),
        _ => StorageError::Device(because(rusqlite::ffi::SQLITE_CANTOPEN)),
    }
}

/// The same failure once more, for the next of several callers.
pub(crate) fn repeat(error: &StorageError) -> StorageError {
    let cause = |source: &rusqlite::Error| match source {
        rusqlite::Error::SqliteFailure(code, text) => rusqlite::Error::SqliteFailure(*code, text.clone()),
        other => rusqlite::Error::ToSqlConversionFailure(other.to_string().into()),
    };
    match error {
        StorageError::Full(source) => StorageError::Full(cause(source)),
        StorageError::Device(source) => StorageError::Device(cause(source)),
        StorageError::ReadOnly(source) => StorageError::ReadOnly(cause(source)),
        StorageError::Damaged(source) => StorageError::Damaged(cause(source)),
        StorageError::Statement(source) => StorageError::Statement(cause(source)),
        _ => StorageError::Closed,
    }
}

/// `FULL` and not `NORMAL`: with `NORMAL` a power loss takes back commits already acknowledged.
fn open_writer(path: &Path, schema: &Schema) -> Result<Connection, StorageError> {
    // Made here and not by SQLite, which would let others read it; the log takes the same mode.
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(crate::error::file_error("open", path))?;
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    prepare(&connection)?;
    if schema.gives_back {
        // Heard by a file that is empty; any other stays as it was made.
        connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL")?;
    }
    connection.execute_batch(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA journal_size_limit = 67108864;
         PRAGMA temp_store = MEMORY;",
    )?;
    Ok(connection)
}

fn open_reader(path: &Path) -> Result<Connection, StorageError> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    prepare(&connection)?;
    connection.execute_batch("PRAGMA query_only = ON;")?;
    Ok(connection)
}

fn prepare(connection: &Connection) -> Result<(), StorageError> {
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
    connection.execute_batch("PRAGMA foreign_keys = ON;")?;
    Ok(())
}

/// A fixed set of reading connections.
struct Readers {
    idle: Mutex<Vec<Connection>>,
    returned: Condvar,
    reads: Counter,
    waits: Counter,
}

impl Readers {
    fn open(path: &Path, count: usize, kind: Kind) -> Result<Self, StorageError> {
        let idle = (0..count).map(|_| kind.tuned(open_reader(path)?)).collect::<Result<_, _>>()?;
        Ok(Self {
            idle: Mutex::new(idle),
            returned: Condvar::new(),
            reads: counter!("holdfast_database_reads_total", "database" => kind.schema.name),
            waits: counter!("holdfast_database_reader_waits_total", "database" => kind.schema.name),
        })
    }

    /// Waits for an idle connection. A read holds one for milliseconds, so the wait is bounded
    /// by the number of threads that read.
    fn take(&self) -> Reader<'_> {
        self.reads.increment(1);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.is_empty() {
            self.waits.increment(1);
        }
        loop {
            if let Some(connection) = idle.pop() {
                return Reader { pool: self, connection: Some(connection) };
            }
            idle = self.returned.wait(idle).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A reading connection on loan.
struct Reader<'a> {
    pool: &'a Readers,
    /// `None` only while it is being given back.
    connection: Option<Connection>,
}

impl Reader<'_> {
    #[expect(clippy::expect_used, reason = "emptied only by `drop`")]
    fn connection(&self) -> &Connection {
        self.connection.as_ref().expect("a reader holds its connection until it is dropped")
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            self.pool.returned.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// The recorder of events takes its batch back once it has the answer.
    #[test]
    fn what_never_ran_is_let_go_of_before_its_failure_is_told() {
        struct Held(oneshot::Receiver<Result<(), StorageError>>, std::sync::mpsc::SyncSender<bool>);
        impl Drop for Held {
            fn drop(&mut self) {
                let is_first = matches!(self.0.try_recv(), Err(oneshot::error::TryRecvError::Empty));
                self.1.send(is_first).unwrap();
            }
        }
        let (answer, answered) = oneshot::channel();
        let (said, heard) = std::sync::mpsc::sync_channel(1);
        let held = Held(answered, said);
        let body = move |_: &Connection| {
            let _held = held;
            Ok(())
        };
        let write = Box::new(Pending { body: Some(body), result: None, then: None, answer });
        write.settle(Err(StorageError::Closed));
        assert!(heard.recv().unwrap());
    }

    #[test]
    fn a_file_that_cannot_be_opened_again_is_trouble_that_may_pass() {
        let told = |kind: io::ErrorKind| {
            let error = as_statement(StorageError::File { action: "open", path: "x".into(), source: kind.into() });
            assert!(error.is_transient() && repeat(&error).is_transient(), "{error:?}");
            error
        };
        assert!(matches!(told(io::ErrorKind::ReadOnlyFilesystem), StorageError::ReadOnly(_)));
        assert!(matches!(told(io::ErrorKind::StorageFull), StorageError::Full(_)));
        let too_many_files = io::Error::from_raw_os_error(24).kind();
        assert!(matches!(told(too_many_files), StorageError::Device(_)));
    }

    #[test]
    fn a_writer_that_broke_off_is_told_of_and_leaves_nobody_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("x.db"), EVENTS).unwrap();
        assert_eq!(database.failure(), None);
        let broken = database.write_blocking::<()>(|_| panic!("a defect"));
        assert!(matches!(broken, Err(StorageError::Closed)), "{broken:?}");
        assert!(matches!(database.write_blocking(|_| Ok(())), Err(StorageError::Closed)));
        assert!(database.failure().is_some());
        database.close();
    }
}
