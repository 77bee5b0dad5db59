//! What is derived from the event log, in a database of its own that can be derived again.
//!
//! A stage folds events into rows. What it derived and how far it is are one transaction ([`LearningStore::fold`]), so
//! after a crash it goes on where it was and nothing counts twice. One worker at a time derives: it holds a lease, whose
//! epoch every transaction looks at, so a worker that has lost it can change nothing any more.
//!
//! What the rows mean is not known here.

mod lease;
mod lessons;
mod rows;
#[cfg(test)]
mod tests;

use std::path::Path;

use holdfast_resilience::health::Queue;
use rusqlite::{Connection, OptionalExtension};

pub use self::{
    lease::{Lease, LeaseState},
    lessons::{FailureTold, KnownError, LessonCounts, PairVector, Pattern, PatternFigures},
    rows::{Counts, Evaluation, Evidence, Fold, InteractionFilter, InteractionRow, KindCount, Shown, Stale},
};
use crate::{
    DataDirectory,
    error::StorageError,
    sql::{self, Database},
};

/// Evaluations that are kept.
pub const EVALUATIONS_MAX: usize = 10_000;

/// A handle to what is derived; cloning is shallow.
#[derive(Clone)]
pub struct LearningStore {
    database: Database,
}

/// How far a stage is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which form of what it derives.
    pub version: u32,
    /// The last event that it has folded.
    pub position: u64,
    /// Events it has folded.
    pub folded: u64,
    /// Events that it does not know, or has no use for.
    pub skipped: u64,
    /// Events it should know and cannot read.
    pub unreadable: u64,
}

/// What one transaction adds to a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Up to which event it is.
    pub through: u64,
    /// Events it has folded,
    pub folded: u64,
    /// skipped,
    pub skipped: u64,
    /// and could not read.
    pub unreadable: u64,
}

/// Why nothing was derived.
#[derive(Debug, thiserror::Error)]
pub enum LearningError {
    /// Somebody else derives.
    #[error("another worker derives from the event log")]
    LeaseLost,

    /// The stage is not where the worker left it, which is a defect.
    #[error("stage {stage} is at event {found}, not at {expected}")]
    Moved {
        /// The stage.
        stage: &'static str,
        /// Where it is,
        found: u64,
        /// and where it was thought to be.
        expected: u64,
    },

    /// A newer program has derived.
    #[error("stage {stage} was derived by a newer program, in form {found}; this one knows {known}")]
    Newer {
        /// The stage.
        stage: &'static str,
        /// The form on record.
        found: u32,
        /// The newest known here.
        known: u32,
    },

    /// The database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl LearningStore {
    /// Opens what is derived in a data directory. Who derived before has ended, since the directory is held. Blocks.
    pub fn open(directory: &DataDirectory) -> Result<Self, StorageError> {
        Self::open_at(&directory.learning())
    }

    /// Opens a database file that nobody else has open.
    pub fn open_at(path: &Path) -> Result<Self, StorageError> {
        let (database, ()) = Database::open_after(path, sql::LEARNING, |connection| {
            connection.execute("DELETE FROM lease", [])?;
            Ok(())
        })?;
        Ok(Self { database })
    }

    /// Where a stage is; at the log's beginning where it never ran.
    ///
    /// # Errors
    /// [`LearningError::Newer`] where a newer program has derived.
    pub fn checkpoint(&self, stage: &'static str, version: u32) -> Result<Checkpoint, LearningError> {
        let found = self.database.read(|connection| checkpoint(connection, stage))?;
        match found {
            Some(found) if found.version > version => {
                Err(LearningError::Newer { stage, found: found.version, known: version })
            }
            Some(found) if found.version == version => Ok(found),
            _ => Ok(Checkpoint { version, ..Checkpoint::default() }),
        }
    }

    /// Every stage on record.
    pub fn checkpoints(&self) -> Result<Vec<(String, Checkpoint)>, StorageError> {
        self.database.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT version, position, folded, skipped, unreadable, name FROM stages ORDER BY name",
            )?;
            let rows = statement.query_map([], |row| Ok((row.get(5)?, checkpoint_row(row)?)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Derives, and moves the checkpoint with it, in one transaction. Blocks, so not for a thread of an async runtime.
    /// What `derive` returns is how far it came from `from`.
    ///
    /// # Errors
    /// [`LearningError`]; nothing was changed, unless it is [`LearningError::Storage`] of a commit that failed: then the
    /// checkpoint tells.
    pub fn fold(
        &self,
        lease: &Lease,
        stage: &'static str,
        from: &Checkpoint,
        derive: impl FnOnce(&Fold<'_>) -> Result<Step, StorageError> + Send + 'static,
    ) -> Result<Checkpoint, LearningError> {
        let (lease, from) = (lease.clone(), from.clone());
        self.database.write_blocking(move |connection| {
            if !lease.is_held(connection)? {
                return Ok(Err(LearningError::LeaseLost));
            }
            let found = checkpoint(connection, stage)?.filter(|found| found.version == from.version);
            let at = found.as_ref().map_or(0, |found| found.position);
            if at != from.position {
                return Ok(Err(LearningError::Moved { stage, found: at, expected: from.position }));
            }
            let step = derive(&Fold::new(connection))?;
            let reached = from.after(step);
            connection
                .prepare_cached(
                    "INSERT INTO stages (name, version, position, folded, skipped, unreadable)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                     ON CONFLICT (name) DO UPDATE
                     SET version = ?2, position = ?3, folded = ?4, skipped = ?5, unreadable = ?6",
                )?
                .execute((
                    stage,
                    reached.version,
                    reached.position,
                    reached.folded,
                    reached.skipped,
                    reached.unreadable,
                ))?;
            Ok(Ok(reached))
        })?
    }

    /// Changes rows that no event stands behind, under the lease. Blocks.
    pub fn derive<T: Send + 'static>(
        &self,
        lease: &Lease,
        derive: impl FnOnce(&Fold<'_>) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, LearningError> {
        let lease = lease.clone();
        self.database.write_blocking(move |connection| {
            if !lease.is_held(connection)? {
                return Ok(Err(LearningError::LeaseLost));
            }
            Ok(Ok(derive(&Fold::new(connection))?))
        })?
    }

    /// Keeps an evaluation, and of all the newest [`EVALUATIONS_MAX`]. Nobody derives it, so it needs no lease.
    pub async fn add_evaluation(&self, evaluation: Evaluation) -> Result<(), StorageError> {
        self.database
            .write(move |connection| {
                let Evaluation { at_ms, questions, settings, figures } = &evaluation;
                connection.execute(
                    "INSERT INTO evaluations (at_ms, questions, settings, figures) VALUES (?1, ?2, ?3, ?4)",
                    (at_ms, questions, settings, figures),
                )?;
                connection.execute(
                    "DELETE FROM evaluations WHERE number <= (SELECT max(number) FROM evaluations) - ?1",
                    [EVALUATIONS_MAX],
                )?;
                Ok(())
            })
            .await
    }

    /// Reads rows that belong together. Blocks.
    pub fn read<T>(&self, read: impl FnOnce(&Fold<'_>) -> Result<T, StorageError>) -> Result<T, StorageError> {
        self.database.read_snapshot(|connection| read(&Fold::new(connection)))
    }

    /// The writes that wait.
    pub fn queue(&self) -> Queue {
        self.database.queue()
    }

    /// Bytes on disk.
    pub fn size_bytes(&self) -> u64 {
        self.database.size_bytes()
    }

    /// Why the last commit failed, until one succeeds.
    pub fn failure(&self) -> Option<String> {
        self.database.failure()
    }

    /// What SQLite's own check of the whole file complains of.
    pub fn integrity(&self) -> Result<Vec<String>, StorageError> {
        self.database.integrity()
    }

    /// Commits what is queued and ends. Blocks.
    pub fn close(&self) {
        self.database.close();
    }
}

impl Checkpoint {
    fn after(&self, step: Step) -> Self {
        Self {
            version: self.version,
            position: step.through,
            folded: self.folded + step.folded,
            skipped: self.skipped + step.skipped,
            unreadable: self.unreadable + step.unreadable,
        }
    }
}

fn checkpoint(connection: &Connection, stage: &str) -> Result<Option<Checkpoint>, StorageError> {
    let mut statement = connection
        .prepare_cached("SELECT version, position, folded, skipped, unreadable FROM stages WHERE name = ?1")?;
    Ok(statement.query_row([stage], checkpoint_row).optional()?)
}

fn checkpoint_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Checkpoint> {
    Ok(Checkpoint {
        version: row.get(0)?,
        position: row.get(1)?,
        folded: row.get(2)?,
        skipped: row.get(3)?,
        unreadable: row.get(4)?,
    })
}
