//! Every persisted byte: SQL with its migrations, and the index projections fed from it.
//!
//! SQL is the truth. The vector and lexical indexes are projections of it: each applies the
//! outbox in order, records the position it has applied durably, and can be deleted at any time
//! and rebuilt. What happened, and what it cost, stands in a database of its own ([`events`],
//! [`ledger`]), and what is derived from that in another ([`learning`]). This crate stores what it is given; it does not know about HTTP, prompts,
//! splitting or models.
//!
//! Methods that read block for as long as SQLite takes, which is short but not nothing: callers
//! on an async runtime move to a blocking thread for more than a row or two.

pub mod collections;
pub mod datasets;
pub mod documents;
pub mod events;
pub mod jobs;
pub mod kept;
pub mod keys;
pub mod learning;
pub mod ledger;
pub mod lexical;
pub mod projection;
pub mod providers;
pub mod sessions;
pub mod sources;
pub mod vectors;

mod caller;
mod directory;
mod disk;
mod error;
pub mod filter;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod key;
mod outbox;
mod sql;

use std::{path::Path, sync::Arc, time::SystemTime};

pub use caller::{Caller, Grants, Role, Scope, Scopes, is_learned, learned_collection};
pub use directory::DataDirectory;
pub use disk::DiskSpace;
pub use error::{PutError, StorageError};
pub use events::EventLog;
pub use filter::{Filter, FilterError};
pub use key::{ChunkKey, Scored};
pub use learning::LearningStore;
pub use ledger::Ledger;
pub use sql::migrate;

use holdfast_resilience::health::Queue;
use keys::ValidKeys;
use projection::Projections;
use sql::Database;

/// The handle to everything persisted; cloning is shallow.
#[derive(Clone)]
pub struct Storage {
    database: Database,
    projections: Projections,
    valid_keys: Arc<ValidKeys>,
}

impl Storage {
    /// Opens the database and the indexes of a data directory, bringing the schema up to date.
    pub fn open(directory: &DataDirectory) -> Result<Self, StorageError> {
        Self::open_at(&directory.database(), &directory.index())
    }

    /// Opens a database file and the folder of its indexes.
    pub fn open_at(database: &Path, indexes: &Path) -> Result<Self, StorageError> {
        let database = Database::open(database, sql::MAIN)?;
        let projections = Projections::start(database.clone(), indexes.to_owned())?;
        Ok(Self { database, projections, valid_keys: Arc::default() })
    }

    /// The indexes and how far they are.
    pub fn projections(&self) -> &Projections {
        &self.projections
    }

    /// Brings indexes and database to rest. Later writes are refused. Blocks, so not for a thread
    /// of an async runtime.
    pub fn close(&self) {
        self.projections.stop();
        self.database.close();
    }

    /// Bytes of the database on disk.
    pub fn size_bytes(&self) -> u64 {
        self.database.size_bytes()
    }

    /// The writes that wait for the writer.
    pub fn queue(&self) -> Queue {
        self.database.queue()
    }

    /// How many pooled reading connections are idle, and how many there are.
    pub fn readers(&self) -> (usize, usize) {
        self.database.readers()
    }

    /// What the disk of the data directory has, after trying to write there. Blocks.
    ///
    /// # Errors
    /// [`StorageError::File`] where nothing can be written.
    pub fn try_disk(&self) -> Result<DiskSpace, StorageError> {
        disk::attempt(self.database.path())
    }

    /// Why the last commit to the database failed, until one succeeds.
    pub fn failure(&self) -> Option<String> {
        self.database.failure()
    }

    /// A write that changes nothing and reaches the disk: whether the database can be written.
    pub async fn probe(&self) -> Result<(), StorageError> {
        self.database.probe().await
    }

    /// What SQLite's own check of the whole file complains of.
    pub fn integrity(&self) -> Result<Vec<String>, StorageError> {
        self.database.integrity()
    }
}

/// Unix milliseconds by the system's clock; for records people read, never for order.
pub(crate) fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
