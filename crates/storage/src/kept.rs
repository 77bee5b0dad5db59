//! Bytes kept by key in a file of their own: a cache that outlives the process, bounded, and never missed.
//!
//! Nothing here is a record of anything: what cannot be read is not there, what cannot be written is not kept, and a
//! damaged file begins anew. Every entry carries a checksum, since what is read is used without another look. Writes go
//! to one thread, which is woken by them and ends when the last handle is dropped; when it falls behind, entries are
//! given up. The oldest entries go first.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use rusqlite::{Connection, OptionalExtension};

use crate::error::StorageError;

/// Entries that wait for the writer.
const QUEUED_MAX: usize = 4_096;
/// Entries that share a commit.
const COMMIT_MAX: usize = 256;
/// Bytes of an entry beside its own: the key twice, the checksum, the page's share.
const ENTRY_BYTES: u64 = 128;
const CHECKSUM_BYTES: usize = 8;
const SCHEMA: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA temp_store = MEMORY;
    CREATE TABLE IF NOT EXISTS kept (age INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, value BLOB NOT NULL) STRICT;";

/// What an entry is found by.
pub type KeptKey = [u8; 32];

/// A file of entries; cloning is shallow.
#[derive(Clone, Debug)]
pub struct Kept {
    reader: Arc<Mutex<Connection>>,
    writes: SyncSender<(KeptKey, Vec<u8>)>,
}

impl Kept {
    /// Opens a file of at most so many bytes, about, or begins one.
    ///
    /// # Errors
    ///
    /// [`StorageError`] when not even an empty file can be made.
    pub fn open(path: &Path, bytes_max: u64) -> Result<Self, StorageError> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(crate::error::file_error("create", folder))?;
        }
        let (connection, reader) = match connect(path) {
            Ok(both) => both,
            Err(error) => {
                tracing::warn!(%error, "kept embeddings cannot be read and are begun anew: {error}");
                begin_anew(path).map_err(crate::error::file_error("remove", path))?;
                connect(path)?
            }
        };
        let (writes, queue) = sync_channel(QUEUED_MAX);
        let writer = Writer { connection, bytes: 0, bytes_max };
        thread::Builder::new()
            .name("kept".to_owned())
            .spawn(move || writer.run(&queue))
            .map_err(crate::error::file_error("start a thread for", path))?;
        Ok(Self { reader: Arc::new(Mutex::new(reader)), writes })
    }

    /// What is kept under each key. Reads the disk.
    pub fn get(&self, keys: &[KeptKey]) -> Vec<Option<Vec<u8>>> {
        let reader = self.lock();
        keys.iter()
            .map(|key| {
                find(&reader, key).unwrap_or_else(|error| {
                    tracing::debug!(%error, "a kept entry cannot be read: {error}");
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

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A reader that panicked left nothing half done.
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection to write with, and one to read with.
fn connect(path: &Path) -> Result<(Connection, Connection), StorageError> {
    let writer = Connection::open(path)?;
    writer.execute_batch(SCHEMA)?;
    let whole: String = writer.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if whole != "ok" {
        return Err(StorageError::Damaged(rusqlite::Error::InvalidQuery));
    }
    let reader = Connection::open(path)?;
    Ok((writer, reader))
}

fn begin_anew(path: &Path) -> io::Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let mut file = path.as_os_str().to_owned();
        file.push(suffix);
        match fs::remove_file(PathBuf::from(file)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
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

/// The thread that writes.
struct Writer {
    connection: Connection,
    /// Bytes of all entries, about.
    bytes: u64,
    bytes_max: u64,
}

impl Writer {
    fn run(mut self, queue: &Receiver<(KeptKey, Vec<u8>)>) {
        self.bytes = self.count().unwrap_or(0);
        while let Ok(first) = queue.recv() {
            let batch: Vec<_> = std::iter::once(first).chain(queue.try_iter().take(COMMIT_MAX - 1)).collect();
            if let Err(error) = self.write(batch) {
                tracing::debug!(%error, "entries could not be kept: {error}");
            }
        }
    }

    fn count(&self) -> rusqlite::Result<u64> {
        self.connection
            .query_row("SELECT coalesce(sum(length(value) + ?1), 0) FROM kept", [ENTRY_BYTES], |row| row.get(0))
    }

    fn write(&mut self, batch: Vec<(KeptKey, Vec<u8>)>) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        let mut bytes = self.bytes;
        for (key, mut value) in batch {
            let checksum = checksum_of(&key, &value);
            value.extend(checksum);
            let added = transaction
                .prepare_cached("INSERT INTO kept (key, value) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
                .execute((key.as_slice(), &value))?;
            bytes += added as u64 * (value.len() as u64 + ENTRY_BYTES);
        }
        while bytes > self.bytes_max {
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
    use std::time::{Duration, Instant};

    use super::*;

    fn key(number: u32) -> KeptKey {
        *blake3::hash(&number.to_le_bytes()).as_bytes()
    }

    /// Waits until what was put is there.
    fn until(kept: &Kept, number: u32) -> Vec<u8> {
        let began = Instant::now();
        loop {
            if let Some(value) = kept.get(&[key(number)]).remove(0) {
                return value;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "{number} never came");
            thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn what_is_put_outlives_the_handle() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache/kept.db");
        let kept = Kept::open(&path, 1 << 20).unwrap();
        kept.put(key(1), vec![7; 100]);
        kept.put(key(2), Vec::new());
        assert_eq!(until(&kept, 1), [7; 100]);
        assert!(until(&kept, 2).is_empty());
        assert_eq!(kept.get(&[key(3)]), [None]);
        drop(kept);
        assert_eq!(until(&Kept::open(&path, 1 << 20).unwrap(), 1), [7; 100]);
    }

    #[test]
    fn its_bytes_are_bounded_and_the_oldest_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept.db");
        let kept = Kept::open(&path, 50_000).unwrap();
        for number in 0..400 {
            kept.put(key(number), vec![1; 1_000]);
        }
        until(&kept, 399);
        let there = (0..400).filter(|number| kept.get(&[key(*number)])[0].is_some()).count();
        assert!((30..=50).contains(&there), "{there}");
        assert_eq!(kept.get(&[key(0)]), [None]);
    }

    #[test]
    fn a_damaged_file_begins_anew_and_a_damaged_entry_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept.db");
        fs::write(&path, b"this is no database at all, but it is long enough to look like one").unwrap();
        let kept = Kept::open(&path, 1 << 20).unwrap();
        kept.put(key(1), vec![7; 100]);
        until(&kept, 1);
        kept.lock().execute("UPDATE kept SET value = zeroblob(108)", []).unwrap();
        assert_eq!(kept.get(&[key(1)]), [None]);
        kept.lock().execute("UPDATE kept SET value = zeroblob(3)", []).unwrap();
        assert_eq!(kept.get(&[key(1)]), [None]);
    }
}
