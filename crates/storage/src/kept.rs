//! Bytes kept by key in a file of their own: a cache that outlives the process, bounded, and never missed.
//!
//! Nothing here is a record of anything: what cannot be read is not there, what cannot be written is not kept, and a
//! damaged file begins anew. Every entry carries a checksum, since what is read is used without another look. One thread
//! opens the file and writes to it; it is woken by what is to be kept and ends when the last handle is dropped. When it
//! falls behind, entries are given up; where the file cannot be opened, it is tried again with later ones. The oldest
//! entries go first.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, ErrorCode, OptionalExtension};

use crate::error::StorageError;

/// Entries that wait for the writer.
const QUEUED_MAX: usize = 4_096;
/// Entries that share a commit.
const COMMIT_MAX: usize = 256;
/// Bytes of an entry beside its own: the key twice, the checksum, the page's share.
const ENTRY_BYTES: u64 = 128;
const CHECKSUM_BYTES: usize = 8;
/// The pause before a file that could not be opened is tried again.
const OPEN_PAUSE: Duration = Duration::from_secs(10);
const SCHEMA: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA temp_store = MEMORY;
    CREATE TABLE IF NOT EXISTS kept (age INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, value BLOB NOT NULL) STRICT;";

/// What an entry is found by.
pub type KeptKey = [u8; 32];

/// A file of entries; cloning is shallow.
#[derive(Clone, Debug)]
pub struct Kept {
    shared: Arc<Shared>,
    writes: SyncSender<(KeptKey, Vec<u8>)>,
}

/// What readers and the writer have in common.
#[derive(Debug)]
struct Shared {
    /// None until the file is open, and where it cannot be.
    reader: Mutex<Option<Connection>>,
    /// A reader found that the file is not what it should be.
    damaged: AtomicBool,
}

impl Kept {
    /// A file of at most so many bytes, about, which is opened or begun in the background.
    ///
    /// # Errors
    ///
    /// [`StorageError::File`] when there is no thread for it.
    pub fn open(path: &Path, bytes_max: u64) -> Result<Self, StorageError> {
        let shared = Arc::new(Shared { reader: Mutex::default(), damaged: AtomicBool::new(false) });
        let (writes, queue) = sync_channel(QUEUED_MAX);
        let writer = Writer { path: path.to_owned(), shared: Arc::clone(&shared), bytes_max };
        thread::Builder::new()
            .name("kept".to_owned())
            .spawn(move || writer.run(&queue))
            .map_err(crate::error::file_error("start a thread for", path))?;
        Ok(Self { shared, writes })
    }

    /// What is kept under each key. Reads the disk.
    pub fn get(&self, keys: &[KeptKey]) -> Vec<Option<Vec<u8>>> {
        let reader = self.shared.lock();
        let Some(reader) = &*reader else { return vec![None; keys.len()] };
        keys.iter()
            .map(|key| {
                find(reader, key).unwrap_or_else(|error| {
                    tracing::debug!(%error, "a kept entry cannot be read: {error}");
                    self.shared.damaged.fetch_or(is_damage(&error), Ordering::Relaxed);
                    None
                })
            })
            .collect()
    }

    /// Keeps something, unless too much waits to be written.
    pub fn put(&self, key: KeptKey, value: Vec<u8>) {
        // Full or ended: it is not kept, and nothing depends on it.
        drop(self.writes.try_send((key, value)));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Option<Connection>> {
        // A reader that panicked left nothing half done.
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The database file, or one of those that SQLite has beside it.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut file = path.as_os_str().to_owned();
    file.push(suffix);
    PathBuf::from(file)
}

fn begin_anew(path: &Path) -> io::Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        match fs::remove_file(beside(path, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn is_damage(error: &rusqlite::Error) -> bool {
    // The last is a statement that does not fit the table: one of another shape is no better.
    let code = error.sqlite_error_code();
    matches!(code, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown))
}

fn find(reader: &Connection, key: &KeptKey) -> rusqlite::Result<Option<Vec<u8>>> {
    let mut statement = reader.prepare_cached("SELECT value FROM kept WHERE key = ?1")?;
    let value: Option<Vec<u8>> = statement.query_row([key.as_slice()], |row| row.get(0)).optional()?;
    Ok(value.and_then(|mut value| {
        let checksum = value.split_off(value.len().checked_sub(CHECKSUM_BYTES)?);
        (checksum == checksum_of(key, &value)).then_some(value)
    }))
}

fn checksum_of(key: &KeptKey, value: &[u8]) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(key).update(value);
    hasher.finalize().as_bytes()[..CHECKSUM_BYTES].to_vec()
}

/// The thread that opens and writes.
struct Writer {
    path: PathBuf,
    shared: Arc<Shared>,
    bytes_max: u64,
}

/// A file that is open.
struct Open {
    connection: Connection,
    /// Bytes of all entries, about.
    bytes: u64,
}

impl Writer {
    fn run(self, queue: &Receiver<(KeptKey, Vec<u8>)>) {
        let mut open = self.open_or_begin_anew();
        let mut tried = Instant::now();
        self.measure();
        while let Ok(first) = queue.recv() {
            let batch: Vec<_> = std::iter::once(first).chain(queue.try_iter().take(COMMIT_MAX - 1)).collect();
            if open.is_none() && tried.elapsed() >= OPEN_PAUSE {
                open = self.open_or_begin_anew();
                tried = Instant::now();
            }
            let Some(file) = &mut open else { continue };
            let mut damaged = self.shared.damaged.swap(false, Ordering::Relaxed);
            if !damaged && let Err(error) = file.write(batch, self.bytes_max) {
                tracing::debug!(%error, "entries could not be kept: {error}");
                damaged = is_damage(&error);
            }
            if damaged {
                tracing::warn!("kept embeddings are damaged and are begun anew");
                *self.shared.lock() = None;
                drop(open.take());
                open = self.begin_anew();
                tried = Instant::now();
            }
            self.measure();
        }
    }

    /// Sets the gauge of what the file and its log take.
    fn measure(&self) {
        let size = |path: PathBuf| fs::metadata(path).map_or(0, |metadata| metadata.len());
        let bytes = size(self.path.clone()) + size(beside(&self.path, "-wal"));
        metrics::gauge!("holdfast_embedding_cache_disk_bytes").set(bytes as f64);
    }

    fn open_or_begin_anew(&self) -> Option<Open> {
        match self.open() {
            Ok(open) => Some(open),
            Err(error) => {
                let damaged = matches!(error, StorageError::Damaged(_))
                    || matches!(&error, StorageError::Statement(statement) if is_damage(statement));
                tracing::warn!(error = &error as &dyn std::error::Error, damaged, "kept embeddings cannot be opened");
                if damaged { self.begin_anew() } else { None }
            }
        }
    }

    fn begin_anew(&self) -> Option<Open> {
        let begun =
            begin_anew(&self.path).map_err(crate::error::file_error("remove", &self.path)).and_then(|()| self.open());
        begun
            .inspect_err(|error| {
                tracing::warn!(
                    error = error as &dyn std::error::Error,
                    "embeddings are not kept, since there is no file to keep them in"
                );
            })
            .ok()
    }

    /// Opens the file for itself and for those who read.
    fn open(&self) -> Result<Open, StorageError> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder).map_err(crate::error::file_error("create", folder))?;
        }
        let connection = Connection::open(&self.path)?;
        connection.execute_batch(SCHEMA)?;
        let sum = "SELECT coalesce(sum(length(value) + ?1), 0) FROM kept";
        let bytes = connection.query_row(sum, [ENTRY_BYTES], |row| row.get(0))?;
        *self.shared.lock() = Some(Connection::open(&self.path)?);
        Ok(Open { connection, bytes })
    }
}

impl Open {
    /// Keeps some entries, instead of what was under their keys, and gives up the oldest beyond the bound.
    fn write(&mut self, batch: Vec<(KeptKey, Vec<u8>)>, bytes_max: u64) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        let mut bytes = self.bytes;
        for (key, mut value) in batch {
            let checksum = checksum_of(&key, &value);
            value.extend(checksum);
            let before: Option<u64> = transaction
                .prepare_cached("DELETE FROM kept WHERE key = ?1 RETURNING length(value)")?
                .query_row([key.as_slice()], |row| row.get(0))
                .optional()?;
            transaction
                .prepare_cached("INSERT INTO kept (key, value) VALUES (?1, ?2)")?
                .execute((key.as_slice(), &value))?;
            bytes += value.len() as u64 + ENTRY_BYTES;
            bytes = bytes.saturating_sub(before.map_or(0, |length| length + ENTRY_BYTES));
        }
        while bytes > bytes_max {
            let oldest = "DELETE FROM kept WHERE age = (SELECT min(age) FROM kept) RETURNING length(value)";
            let Some(length) = transaction.prepare_cached(oldest)?.query_row([], |row| row.get(0)).optional()? else {
                bytes = 0;
                break;
            };
            let length: u64 = length;
            bytes = bytes.saturating_sub(length + ENTRY_BYTES);
        }
        transaction.commit()?;
        self.bytes = bytes;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> KeptKey {
        *blake3::hash(&number.to_le_bytes()).as_bytes()
    }

    /// Asks until something is there.
    fn until<T>(what: &str, ask: impl Fn() -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = ask() {
                return found;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "{what} never came");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until what was put is there.
    fn there(kept: &Kept, number: u32) -> Vec<u8> {
        until("an entry", || kept.get(&[key(number)]).remove(0))
    }

    /// Changes the file behind its back.
    fn spoil(kept: &Kept, statement: &str) {
        until("the file", || kept.shared.lock().as_ref().map(|reader| reader.execute(statement, []).unwrap()));
    }

    #[test]
    fn what_is_put_outlives_the_handle() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache/kept.db");
        let kept = Kept::open(&path, 1 << 20).unwrap();
        kept.put(key(1), vec![7; 100]);
        kept.put(key(2), Vec::new());
        assert_eq!(there(&kept, 1), [7; 100]);
        assert!(there(&kept, 2).is_empty());
        assert_eq!(kept.get(&[key(3)]), [None]);
        drop(kept);
        assert_eq!(there(&Kept::open(&path, 1 << 20).unwrap(), 1), [7; 100]);
    }

    #[test]
    fn its_bytes_are_bounded_and_the_oldest_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept.db");
        let kept = Kept::open(&path, 50_000).unwrap();
        for number in 0..400 {
            kept.put(key(number), vec![1; 1_000]);
            // The same once more takes no more room.
            kept.put(key(399), vec![1; 1_000]);
        }
        kept.put(key(400), Vec::new());
        there(&kept, 400);
        let found = (0..400).filter(|number| kept.get(&[key(*number)])[0].is_some()).count();
        assert!((30..=50).contains(&found), "{found}");
        assert_eq!(kept.get(&[key(0)]), [None]);
    }

    #[test]
    fn a_damaged_entry_is_not_there_and_makes_room_for_a_whole_one() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept::open(&folder.path().join("kept.db"), 1 << 20).unwrap();
        kept.put(key(1), vec![7; 100]);
        there(&kept, 1);
        for damage in ["zeroblob(108)", "zeroblob(3)"] {
            spoil(&kept, &format!("UPDATE kept SET value = {damage}"));
            assert_eq!(kept.get(&[key(1)]), [None]);
        }
        kept.put(key(1), vec![8; 100]);
        assert_eq!(there(&kept, 1), [8; 100]);
    }

    #[test]
    fn a_damaged_file_begins_anew_at_the_start_and_later() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept.db");
        fs::write(&path, b"this is no database at all, but it is long enough to look like one").unwrap();
        let kept = Kept::open(&path, 1 << 20).unwrap();
        kept.put(key(1), vec![7; 100]);
        there(&kept, 1);
        spoil(&kept, "DROP TABLE kept");
        assert_eq!(kept.get(&[key(1)]), [None]);
        // What comes with the news of the damage is given up; what comes after it is kept.
        until("another entry", || {
            kept.put(key(2), vec![7; 100]);
            kept.get(&[key(2)]).remove(0)
        });
    }

    #[test]
    fn without_a_file_nothing_is_kept_and_nothing_fails() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), b"").unwrap();
        let kept = Kept::open(&folder.path().join("file/kept.db"), 1 << 20).unwrap();
        kept.put(key(1), vec![7; 100]);
        // Its writer lives on, and takes what it cannot keep.
        for number in 0..10 * QUEUED_MAX as u32 {
            kept.put(key(number), Vec::new());
        }
        until("the writer", || kept.writes.try_send((key(1), Vec::new())).ok());
        assert_eq!(kept.get(&[key(1)]), [None]);
    }
}
